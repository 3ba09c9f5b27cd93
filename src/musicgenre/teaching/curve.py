"""How accuracy grows with the number of tracks that a genre is learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musicgenre.evaluation.folds import grouped_folds
from musicgenre.evaluation.metrics import wilson_interval
from musicgenre.models.discriminant import FitSettings, fit_discriminant
from musicgenre.teaching.trial import N_FOLDS, Float64, Labels

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Tracks a genre that are tried, as far as there are more."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy with so many tracks.

    Parameters
    ----------
    tracks_per_label : int
        Most tracks of a label that the fit might have; labels with fewer gave all they had.
    accuracy : float
        Share of the tested tracks named rightly, as a mean over the seeds.
    interval : tuple of float
        Its 95 % interval (Wilson).
    """

    tracks_per_label: int
    accuracy: float
    interval: tuple[float, float]


def learning_curve(
    features: Float64, labels: Labels, groups: Labels, n_labels: int, settings: FitSettings, *, n_seeds: int
) -> tuple[CurvePoint, ...]:
    """Test the same tracks on fits of more and more of the others; groups stay on one side.

    Parameters
    ----------
    features : ndarray, shape (n_tracks, width)
    labels, groups : ndarray of int, shape (n_tracks,)
    n_labels : int
    settings : FitSettings
        Of all fits: the points shall differ by their tracks alone.
    n_seeds : int
        Times that it is all drawn anew.

    Returns
    -------
    tuple of CurvePoint
        The last has all tracks of the other folds, and the number of the largest label; none where no track can be
        tested.
    """
    largest = int(np.bincount(labels).max())
    sizes = (*(size for size in SIZES if size < largest), largest)  # a longer lesson holds the shorter ones
    n_right = dict.fromkeys(sizes, 0)
    n_tests = 0
    for seed in range(n_seeds):
        folds = grouped_folds(labels, groups, N_FOLDS, seed)
        order = np.random.default_rng(seed).permutation(len(labels))
        for fold in np.unique(folds[folds >= 0]):
            held = folds == fold
            n_tests += int(held.sum())
            for size in sizes:
                chosen = _first_of_each(order[~held[order]], labels, size)
                linear = fit_discriminant(
                    features[chosen], labels[chosen], n_labels, groups=groups[chosen], settings=settings
                )
                named = linear.logits(features[held]).argmax(axis=1)
                n_right[size] += int((named == labels[held]).sum())
    if not n_tests:
        return ()

    # Seeds repeat the tracks: they add none to what the interval stands on.
    points = []
    for size in sizes:
        accuracy = n_right[size] / n_tests
        interval = wilson_interval(n_right[size] / n_seeds, n_tests / n_seeds)
        points.append(CurvePoint(size, accuracy, interval))
    return tuple(points)


def _first_of_each(order: Labels, labels: Labels, size: int) -> Labels:
    """The first `size` tracks of every label, in this order of tracks."""
    chosen = [order[labels[order] == label][:size] for label in np.unique(labels[order])]
    return np.concatenate(chosen)
