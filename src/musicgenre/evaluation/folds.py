"""Folds for cross-validation that keep groups (artists) whole and labels balanced. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import DataError

ALWAYS_TRAIN = -1
_FILLING_WEIGHT = 1e-6  # of how full a fold is, so that it decides between equals only


def grouped_folds(labels: ArrayLike, groups: ArrayLike, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Deal whole groups to folds so that every label is spread as evenly as the groups allow.

    Parameters
    ----------
    labels : array_like of int, shape (n_tracks,)
    groups : array_like of int, shape (n_tracks,)
        Tracks of one group stay in one fold. Without groups give every track its own number.
    n_folds : int
        Number of folds, at least 2.
    seed : int
        Decides between equals.

    Returns
    -------
    ndarray of int, shape (n_tracks,)
        Number of the fold in which each track is tested, or `ALWAYS_TRAIN` for groups that cannot be spared:
        some label of theirs stands in no other fold, so that a fit without them would not know it.
    """
    truth = np.asarray(labels, dtype=np.intp)
    members = np.unique(np.asarray(groups), return_inverse=True)[1]
    if n_folds < 2 or truth.shape != members.shape or not truth.size:
        raise DataError(f"{len(truth)} tracks cannot be dealt to {n_folds} folds", valid="at least 2 folds")

    # Of every label's tracks, the share that each group holds: rare labels count as much as frequent ones.
    n_labels = int(truth.max()) + 1
    per_group = np.zeros((int(members.max()) + 1, n_labels))
    np.add.at(per_group, (members, truth), 1.0)
    share = per_group / np.maximum(per_group.sum(axis=0), 1.0)

    # The largest groups first, while there is room to choose; chance decides between equals.
    order = np.random.default_rng(seed).permutation(len(share))
    order = order[np.argsort(-per_group[order].sum(axis=1), kind="stable")]
    filled = np.zeros((n_folds, n_labels))
    fold_of = np.zeros(len(share), dtype=np.intp)
    for group in order:
        crowding = (filled + share[group]) ** 2 - filled**2  # growth of the sum of squares, were it put there
        fold_of[group] = int(np.argmin(crowding.sum(axis=1) + _FILLING_WEIGHT * filled.sum(axis=1)))
        filled[fold_of[group]] += share[group]

    # A label that stands in one fold only would be unknown to the fit that is tested there.
    folds = fold_of[members]
    for label in range(n_labels):
        if len(np.unique(folds[truth == label])) == 1:
            folds[np.isin(members, members[truth == label])] = ALWAYS_TRAIN
    return folds
