"""Representations: what a model reads, one file each."""
