"""Cross-validation of a taught head, its settings chosen inside each fold, so that the choice flatters nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre.evaluation.calibration import fit_temperature, log_loss
from musicgenre.models.discriminant import FitSettings, fit_discriminant
from musicgenre.teaching.folds import grouped_folds

Float64 = NDArray[np.float64]
Labels = NDArray[np.intp]

N_FOLDS = 5
CANDIDATES = tuple(FitSettings(shrinkage=shrinkage, ridge=10.0) for shrinkage in (0.1, 0.3, 0.6, 0.9))
FALLBACK = CANDIDATES[2]

_NEAR = 0.12
_BLOCK = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Logits of tracks from fits that saw neither them nor their group.

    Parameters
    ----------
    tested : ndarray of bool, shape (n_tracks,)
        Tracks that could be spared for a test.
    logits : dict of str to ndarray of shape (n_tracks, n_labels)
        One entry a view; rows of tracks that were not tested are zero.
    """

    tested: NDArray[np.bool_]
    logits: dict[str, Float64]


def cross_validate(views: dict[str, Float64], labels: Labels, groups: Labels, n_labels: int, seed: int) -> Trial:
    """Test every track that can be spared on a fit of the others.

    Parameters
    ----------
    views : dict of str to ndarray of shape (n_tracks, width)
        Features by what was heard; fits read the view ``all``.
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
        features, known = views["all"][~held], labels[~held]
        settings = choose_settings(features, known, groups[~held], n_labels, seed)
        linear = fit_discriminant(features, known, n_labels, groups=groups[~held], settings=settings)
        for view, values in views.items():
            logits[view][held] = linear.logits(values[held])
    return Trial(folds >= 0, logits)


def choose_settings(features: Float64, labels: Labels, groups: Labels, n_labels: int, seed: int) -> FitSettings:
    """The candidate with the smallest out-of-fold log loss at its best temperature."""
    folds = grouped_folds(labels, groups, N_FOLDS, seed + 1_000)
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
        temperature = fit_temperature(logits[tested], labels[tested])
        losses.append(log_loss(logits[tested] / temperature, labels[tested]))
    return CANDIDATES[int(np.argmin(losses))]


def near_pairs(features: Float64) -> list[tuple[int, int]]:
    """Pairs of tracks that sound like one recording.

    Their mean embeddings lie within 12 % of their length: copies of a track in other formats stay within that (0.02 to
    0.14 measured), different tracks of one artist do not (0.19 and more on real tracks).
    """
    lengths = np.linalg.norm(features, axis=1)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        squares = lengths[block, np.newaxis] ** 2 + lengths**2 - 2 * features[block] @ features.T
        allowed = (_NEAR * 0.5 * (lengths[block, np.newaxis] + lengths)) ** 2
        first, second = np.nonzero(squares <= allowed)
        pairs += [(a + start, b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a + start < b]
    return pairs


def join_groups(names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Labels:
    """Number the groups; an empty name is a group of its own, and the two of a pair are in one group."""
    first: dict[str, int] = {}
    parent = [first.setdefault(name, number) if name else number for number, name in enumerate(names)]

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for a, b in pairs:
        parent[root(a)] = root(b)
    return np.unique([root(number) for number in range(len(names))], return_inverse=True)[1].astype(np.intp)
