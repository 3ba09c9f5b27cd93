"""Evaluation of tagging: any number of tags a track, or agreement with soft targets."""
