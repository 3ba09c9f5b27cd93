"""Accuracy with a 95 % interval whose unit is the track, however many segments, folds and seeds there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import RunError
from musicgenre.evaluation.metrics import wilson_interval
from musicgenre.evaluation.predictions import Predictions

N_RESAMPLES = 10_000
_BLOCK = 100
_SEED = 20_000

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its 95 % interval.

    Parameters
    ----------
    value, low, high : float
        The share and its interval, within 0..1.
    method : str
        How the interval was found: ``Wilson`` or ``bootstrap over tracks``.
    n_tracks : int
        Number of different tracks behind it.
    """

    value: float
    low: float
    high: float
    method: str
    n_tracks: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def track_weights(per_seed: Sequence[Predictions]) -> tuple[tuple[str, ...], Float64, Float64]:
    """Add up, for every track, the weight of its rows and of its right rows; each seed weighs the same.

    Returns
    -------
    (track ids, right, weight)
        The two arrays have shape (n_tracks,); ``right.sum() / weight.sum()`` is the mean over seeds of the accuracy.
    """
    position: dict[str, int] = {}
    for predictions in per_seed:
        for track_id in predictions.track_ids:
            position.setdefault(track_id, len(position))
    right, weight = np.zeros(len(position)), np.zeros(len(position))
    for predictions in per_seed:
        rows = np.array([position[track_id] for track_id in predictions.track_ids], dtype=np.intp)
        np.add.at(weight, rows, 1.0 / len(predictions))
        np.add.at(right, rows, (predictions.predicted == predictions.truth) / len(predictions))
    return tuple(position), right, weight


def estimate_accuracy(per_seed: Sequence[Predictions]) -> Estimate:
    """Mean accuracy over seeds with its 95 % interval.

    Wilson's interval where each track was answered once; else a bootstrap over tracks, all segments and seeds of a
    track staying together. Where every track has the same score a bootstrap cannot vary, and Wilson's is given.
    """
    if not per_seed or not all(len(predictions) for predictions in per_seed):
        raise RunError("there are no predictions to score")
    track_ids, right, weight = track_weights(per_seed)
    value, n_tracks = min(1.0, float(right.sum() / weight.sum())), len(track_ids)  # rounding may pass 1
    once = len(per_seed) == 1 and len(per_seed[0]) == n_tracks
    if once or np.ptp(right / weight) == 0.0:
        low, high = wilson_interval(min(value * n_tracks, n_tracks), n_tracks)
        return Estimate(value, low, high, "Wilson", n_tracks)
    low, high = np.quantile(resample_ratio(right, weight), [0.025, 0.975])
    return Estimate(value, float(low), float(high), "bootstrap over tracks", n_tracks)


def resample_ratio(numerator: Float64, denominator: Float64, n_resamples: int = N_RESAMPLES) -> Float64:
    """Draw tracks with replacement and give the ratio of the two sums for each draw, shape (n_resamples,)."""
    random = np.random.default_rng(_SEED)
    n_tracks = len(numerator)
    blocks = []
    for start in range(0, n_resamples, _BLOCK):
        drawn = random.integers(0, n_tracks, size=(min(_BLOCK, n_resamples - start), n_tracks), dtype=np.int32)
        blocks.append(numerator[drawn].sum(axis=1) / denominator[drawn].sum(axis=1))
    return np.concatenate(blocks)
