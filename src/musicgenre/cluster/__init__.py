"""Work on more than one machine, by Ray (the extra `cluster`): nothing here is imported without `--ray`."""
