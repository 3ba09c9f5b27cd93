"""One vector a track, the file that keeps them, and the tracks that sound alike."""
