"""Hearing networks of the transformers library: found, described, loaded without running anyone's code."""
