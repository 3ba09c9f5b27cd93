"""Models: representation in, logits out; one file per family."""
