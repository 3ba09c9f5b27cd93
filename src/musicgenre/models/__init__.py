"""Models: representation in, logits out; one file a family."""
