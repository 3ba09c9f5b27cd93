"""Tags of music files: one file per container reads them and says which bytes a change needs."""
