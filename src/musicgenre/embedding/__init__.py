"""One vector per track, the file that keeps them, and the tracks that sound alike."""
