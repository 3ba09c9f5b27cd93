"""How good a model is on other tracks than its own, and how much of a score is a leak."""
