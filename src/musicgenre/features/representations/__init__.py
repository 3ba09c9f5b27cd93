"""What a model reads, one file per representation."""
