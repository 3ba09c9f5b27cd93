"""A trained run becomes one model file, held against the run itself before it is kept."""
