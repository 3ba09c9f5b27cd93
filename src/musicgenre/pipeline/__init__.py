"""From labelled music to a model that is served, in one command: every step is a command's own function."""
