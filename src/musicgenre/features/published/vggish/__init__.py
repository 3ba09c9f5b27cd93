"""The published VGGish: its files, which need no torch to be found, and its network."""
