"""Genres of one's own: a head fitted on labelled tracks, and how good it is."""
