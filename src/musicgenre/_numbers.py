"""Probabilities and their logarithms in float64, and the check that numbers are finite. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import DataError

Float64 = NDArray[np.float64]

SMALLEST_PROBABILITY = 1e-9
"""Probabilities below this count as this before a logarithm is taken."""


def softmax(logits: ArrayLike) -> Float64:
    """Turn logits, shape (..., n_labels), into probabilities with sum 1 along the last axis."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))  # none overflows

    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: ArrayLike) -> Float64:
    """Turn logits of any shape into probabilities, each by itself."""
    values = np.asarray(logits, dtype=np.float64)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # tanh does not overflow


def log_probabilities(probabilities: ArrayLike, *, smallest: float = SMALLEST_PROBABILITY) -> Float64:
    """Take logarithms, which `softmax` turns back; what is below ``smallest`` counts as that."""
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), smallest)))


def log_odds(probabilities: ArrayLike, *, smallest: float = SMALLEST_PROBABILITY) -> Float64:
    """Take log-odds, which `sigmoid` turns back, of probabilities kept within ``smallest`` and 1 - ``smallest``."""
    kept = np.clip(np.asarray(probabilities, dtype=np.float64), smallest, 1.0 - smallest)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def check_finite(values: ArrayLike, what: str) -> None:
    """Refuse NaN and infinity.

    Parameters
    ----------
    values : array_like of float
        Any shape.
    what : str
        What they are called in the message, in the plural.

    Raises
    ------
    DataError
        If a value is not finite.
    """
    if not np.isfinite(values).all():
        raise DataError(f"{what} hold values that are not finite")
