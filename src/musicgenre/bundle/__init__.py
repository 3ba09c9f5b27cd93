"""One portable model file: build, fetch, check and load it."""
