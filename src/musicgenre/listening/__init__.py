"""From a file on disk to one answer with confidence and timeline."""
