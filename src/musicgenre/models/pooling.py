"""How the segments of one track score together, when a run is scored and when its bundle answers. NumPy only."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Pooling = Literal["mean", "max", "vote"]
"""How the segments of one track score together."""

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
TAG_POOLINGS: tuple[Pooling, ...] = ("mean", "max")

_TIE_BREAKER = 1e-3
"""Weight of the mean score beside whole votes: too small to outweigh one vote, enough to decide between equals."""


def pooled(scores: NDArray[np.floating[Any]], how: Pooling) -> NDArray[np.float64]:
    """Let the segments of one track score together.

    Parameters
    ----------
    scores : ndarray, shape (n_segments, n_labels)
        Probabilities of every segment.
    how : {"mean", "max", "vote"}
        Mean of the probabilities; their maximum, scaled to a sum of 1; or the share of segments that voted for the
        label (equal votes are decided by the mean).

    Returns
    -------
    ndarray, shape (n_labels,)
    """
    mean = np.asarray(scores.mean(axis=0), dtype=np.float64)
    if how == "mean":
        return mean
    if how == "max":
        highest = scores.max(axis=0)
        total = float(highest.sum())
        return np.asarray(highest / total, dtype=np.float64) if total > 0 else mean
    votes = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) + _TIE_BREAKER * mean
    return np.asarray(votes / votes.sum())


def pooled_tags(scores: NDArray[np.floating[Any]], how: Pooling) -> NDArray[np.float64]:
    """Let the segments of one track score its tags together: mean or maximum of every tag's probability.

    Parameters
    ----------
    scores : ndarray, shape (n_segments, n_tags)
        Probabilities of every segment.
    how : {"mean", "max"}
        A vote would need one answer a segment, and tags have any number.

    Returns
    -------
    ndarray, shape (n_tags,)
    """
    return np.asarray(scores.max(axis=0) if how == "max" else scores.mean(axis=0), dtype=np.float64)
