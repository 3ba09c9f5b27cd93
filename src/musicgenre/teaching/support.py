"""How far from the training music an answer is still given: the limit, from tracks that a fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.models.at_large import load_music_at_large
from musicgenre.models.support import (
    FEWEST_RIGHT,
    LEAST_TAGS,
    RIGHT_ANSWERS_LOST,
    Support,
    at_least_ratio,
    at_limit,
    fit_support,
    n_axes_for,
)

Labels = NDArray[np.intp]

TOO_FEW = "few answers are surely right on tracks the fit had not seen"
"""How it begins what is said of a head that cannot tell music unlike its own."""


FEWEST_FOR_RATIO = 10
"""Right answers without which no limit of the ratio is set. What it measures by was fitted on other music, so that
fewer do than for a distance from the head's own tracks."""


def taught_support(
    segments: Sequence[ArrayLike],
    heard: Sequence[Labels],
    labels: Labels,
    folds: Sequence[Labels],
    right: Sequence[NDArray[np.bool_]],
    *,
    known: Support | None,
) -> tuple[Support, str]:
    """Fit the support of a taught head, and say what it rests on.

    Parameters
    ----------
    segments, heard, folds, right
        As for `support_of`.
    labels : ndarray of int, shape (n_tracks,)
        Numbers of the tracks' genres.
    known : Support or None
        Of the default head, where the head stands on MSD MusiCNN too; None for other networks.
    """
    # another network may go by the name of MSD MusiCNN, as a bundle that somebody put in its place
    if known is not None and np.asarray(segments[0]).shape[1] < known.centre.size:
        known = None
    n_right = sum(int(is_right.sum()) for is_right in right) / max(1, len(right))
    lost = f"at {RIGHT_ANSWERS_LOST:.0%} loss of right answers out of fold"
    fewest = FEWEST_RIGHT if known is None else FEWEST_FOR_RATIO
    too_few = f"{TOO_FEW} ({n_right:.3g}, where {fewest} are needed)"
    if known is not None:
        support, has_ratio = support_on_musicnn(known, segments, heard, labels, folds, right)
        if has_ratio:
            return support, f"what is music: as the default model; of these genres: limit of the ratio {lost}"
        return support, (
            f"{too_few}: it cannot tell music of other genres from yours, only what is no music, or unlike all that"
            " the default model knows ('unlike the training music')"
        )

    fitted = support_of(segments, heard, folds, right, least_tags=0.0)
    if fitted is not None:
        return fitted, f"limit of the distance {lost}"
    return replace(
        fit_support(segments), least_tags=0.0
    ), f"{too_few}: it cannot tell other music or speech from yours, only what stands still"


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


def support_on_musicnn(
    known: Support,
    segments: Sequence[ArrayLike],
    heard: Sequence[Labels],
    labels: Labels,
    folds: Sequence[Labels],
    right: Sequence[NDArray[np.bool_]],
) -> tuple[Support, bool]:
    """Fit the support of a head on MSD MusiCNN, of which it is known already what music is.

    What is no music is told as the default head tells it: by its directions, and by what stands still. Its limits give
    way where the head's own tracks need it. Whether music is of these genres is told by the ratio to music at large.

    Parameters
    ----------
    known : Support
        Of the default head.
    segments, heard, folds, right
        As for `support_of`; of wider embeddings the first values are MSD MusiCNN's.
    labels : ndarray of int, shape (n_tracks,)
        Numbers of their genres.

    Returns
    -------
    (support, has_ratio) : (Support, bool)
        Without a ratio, and with the limits of the default head, where fewer than 10 answers are right.
    """
    support = replace(known, ceilings={})
    if sum(int(is_right.sum()) for is_right in right) < FEWEST_FOR_RATIO * len(folds):
        return support, False

    n_labels = int(labels.max()) + 1
    means = np.stack([np.asarray(part, dtype=np.float64).mean(axis=0) for part in segments])
    at_large = load_music_at_large()
    ratios, distances, changes = [], [], []
    for fold_of, is_right in zip(folds, right, strict=True):
        for fold in np.unique(fold_of[fold_of >= 0]):
            others = fold_of != fold
            fitted = replace(support, ratio=at_large.ratio(means[others], labels[others], n_labels))
            for number in np.flatnonzero((fold_of == fold) & is_right).tolist():
                own = np.asarray(segments[number])[heard[number]]
                ratios.append(fitted.log_ratio(own))
                distances.append(support.distance(own))
                changes.append(support.change(own))

    limit = max(support.limit, float(np.quantile(distances, 1 - RIGHT_ANSWERS_LOST)))
    least_change = min(support.least_change, float(np.quantile(changes, RIGHT_ANSWERS_LOST)))
    support = at_limit(replace(support, least_change=least_change), limit)
    ratio = at_large.ratio(means, labels, n_labels)
    return at_least_ratio(support, ratio, float(np.quantile(ratios, RIGHT_ANSWERS_LOST))), True
