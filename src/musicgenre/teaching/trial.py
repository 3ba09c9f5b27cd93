"""Cross-validation of a taught head, its settings chosen inside each fold, so that the choice flatters nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre.evaluation.calibration import fit_temperature, log_loss
from musicgenre.evaluation.folds import grouped_folds
from musicgenre.models.discriminant import FitSettings, fit_discriminant

Float64 = NDArray[np.float64]
Labels = NDArray[np.intp]

N_FOLDS = 5
CANDIDATES = tuple(FitSettings(shrinkage=shrinkage, ridge=10.0) for shrinkage in (0.1, 0.3, 0.6, 0.9))
FALLBACK = CANDIDATES[2]
_LOSS_DIGITS = 9  # losses that are equal to so many are equal
_INNER_SEED = 1_000  # added to the seed for the folds inside a fold

_NEAR = 0.12
"""Distance of two mean embeddings, as a share of their length, up to which they are taken for one recording."""

_BLOCK_TRACKS = 1_000  # compared with all others at a time


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Logits of tracks from fits that saw neither them nor their group.

    Parameters
    ----------
    tested : ndarray of bool, shape (n_tracks,)
        Tracks that could be spared for a test.
    logits : dict of str to ndarray of shape (n_tracks, n_labels)
        One entry a view; rows of tracks that were not tested are zero.
    folds : ndarray of int, shape (n_tracks,)
        Number of the fold in which a track was tested; negative: in none.
    """

    tested: NDArray[np.bool_]
    logits: dict[str, Float64]
    folds: Labels


def cross_validate(views: dict[str, Float64], labels: Labels, groups: Labels, n_labels: int, seed: int) -> Trial:
    """Test every track that can be spared on a fit of the others.

    Parameters
    ----------
    views : dict of str to ndarray of shape (n_tracks, width)
        Features by what was heard; fits read the view `all`.
    labels, groups : ndarray of int, shape (n_tracks,)
    n_labels : int
    seed : int
    """
    folds = grouped_folds(labels, groups, N_FOLDS, seed)
    logits = {view: np.zeros((len(labels), n_labels)) for view in views}
    for fold in range(N_FOLDS):
        held = folds == fold
        if not held.any():
            continue

        # Settings are chosen again without the held tracks, so that the choice does not know them.
        features, known = views["all"][~held], labels[~held]
        settings = choose_settings(features, known, groups[~held], n_labels, seed)
        linear = fit_discriminant(features, known, n_labels, groups=groups[~held], settings=settings)
        for view, values in views.items():
            logits[view][held] = linear.logits(values[held])
    return Trial(folds >= 0, logits, folds)


def choose_settings(features: Float64, labels: Labels, groups: Labels, n_labels: int, seed: int) -> FitSettings:
    """The candidate with the smallest out-of-fold log loss at its best temperature."""
    folds = grouped_folds(labels, groups, N_FOLDS, seed + _INNER_SEED)
    tested = folds >= 0
    if not tested.any():
        return FALLBACK

    losses = []
    for settings in CANDIDATES:
        logits = np.zeros((len(labels), n_labels))
        for fold in np.unique(folds[tested]):
            held = folds == fold
            linear = fit_discriminant(
                features[~held], labels[~held], n_labels, groups=groups[~held], settings=settings
            )
            logits[held] = linear.logits(features[held])

        # Each at its best temperature: calibration comes later, and makes up for that difference.
        temperature = fit_temperature(logits[tested], labels[tested])
        losses.append(log_loss(logits[tested] / temperature, labels[tested]))

    # Of those that tell everything apart the first is taken, not the one that rounding made the least.
    return CANDIDATES[int(np.argmin(np.round(losses, _LOSS_DIGITS)))]


def near_pairs(features: Float64) -> list[tuple[int, int]]:
    """Pairs of tracks that sound like one recording.

    Their mean embeddings lie within 12 % of their length: copies of a track in other formats stay within that (0.02 to
    0.14 measured), different tracks of one artist do not (0.19 and more on real tracks).
    """
    lengths = np.linalg.norm(features, axis=1)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(features), _BLOCK_TRACKS):
        block = slice(start, start + _BLOCK_TRACKS)
        squares = lengths[block, np.newaxis] ** 2 + lengths**2 - 2 * features[block] @ features.T
        allowed = (_NEAR * 0.5 * (lengths[block, np.newaxis] + lengths)) ** 2
        first, second = np.nonzero(squares <= allowed)
        for a, b in zip((first + start).tolist(), second.tolist(), strict=True):
            if a < b:  # every pair once, and no track with itself
                pairs.append((a, b))
    return pairs


def join_groups(names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Labels:
    """Number the groups; an empty name is a group of its own, and the two of a pair are in one group."""
    # Every track points to one of its group, and the last of a chain stands for all of them (union-find).
    first_of: dict[str, int] = {}
    parent = list(range(len(names)))
    for number, name in enumerate(names):
        if name:
            parent[number] = first_of.setdefault(name, number)

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for a, b in pairs:
        parent[root(a)] = root(b)
    roots = [root(number) for number in range(len(names))]
    return np.unique(roots, return_inverse=True)[1].astype(np.intp)
