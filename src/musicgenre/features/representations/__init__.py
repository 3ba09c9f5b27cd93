"""What a model reads, one file a representation."""
