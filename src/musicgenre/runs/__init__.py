"""What a training leaves behind: the run folder and its predictions, written and read in one format."""
