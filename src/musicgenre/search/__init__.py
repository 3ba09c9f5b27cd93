"""Hyper-parameter search: a space around a recipe, trials that are ordinary runs, and the winner tested once."""
