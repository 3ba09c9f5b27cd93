"""Damage what strangers give us, in thousands of ways, and see that each input ends as an answer or an error of ours.

`python -m tests.attack --minutes 10 --seed 1` attacks every kind and prints a table; `--kind sounds` only one. An
input follows from its kind, its seed and its number: `--kind sounds --seed 1 --number 77` makes and uses it again.
"""
