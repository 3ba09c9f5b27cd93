"""How far from the training music an answer is still given: the limit, from tracks that a fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.models.support import (
    FEWEST_RIGHT,
    LEAST_TAGS,
    RIGHT_ANSWERS_LOST,
    Support,
    at_limit,
    fit_support,
    n_axes_for,
)


def support_of(
    segments: Sequence[ArrayLike],
    heard: Sequence[NDArray[np.intp]],
    folds: Sequence[NDArray[np.intp]],
    right: Sequence[NDArray[np.bool_]],
    *,
    least_tags: float = LEAST_TAGS,
) -> Support | None:
    """Fit the support on all tracks, its limit out of fold.

    Parameters
    ----------
    segments : sequence of array_like, each of shape (n_segments, width)
        Embedding of every track.
    heard : sequence of ndarray of int
        Which of a track's segments are heard when the limit is tried.
    folds : sequence of ndarray of int, shape (n_tracks,)
        For each seed the fold in which a track is tested; negative: never.
    right : sequence of ndarray of bool, shape (n_tracks,)
        For each seed whether the track, tested, is surely and rightly named.
    least_tags : float
        Of the support; 0 for networks other than MSD MusiCNN, whose tags nobody counted.

    Returns
    -------
    Support or None
        None where too few answers are right.
    """
    n_axes = n_axes_for(len(segments))  # in the folds as in the end
    distances: list[float] = []
    for fold_of, is_right in zip(folds, right, strict=True):
        for fold in np.unique(fold_of[fold_of >= 0]):
            others = [part for part, own in zip(segments, fold_of, strict=True) if own != fold]
            known = fit_support(others, n_axes=n_axes)
            for number in np.flatnonzero((fold_of == fold) & is_right).tolist():
                distances.append(known.distance(np.asarray(segments[number])[heard[number]]))

    if len(distances) < FEWEST_RIGHT * len(folds):
        return None
    support = replace(fit_support(segments), least_tags=least_tags)
    return at_limit(support, float(np.quantile(distances, 1 - RIGHT_ANSWERS_LOST)))
