"""Tags of music files: one file a container, each of which reads them and says which bytes a change needs."""
