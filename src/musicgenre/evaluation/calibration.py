"""Confidence that can be believed: temperatures, the "unsure" threshold, and how far off a confidence is.

Everything here must be given predictions for tracks that the classifier was not fitted on (out-of-fold predictions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import DataError
from musicgenre.evaluation.metrics import wilson_interval

Float64 = NDArray[np.float64]

_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))
_GOLDEN = (np.sqrt(5.0) - 1) / 2


@dataclass(frozen=True, slots=True)
class Answered:
    """What a threshold does: how much is answered, and how well.

    Parameters
    ----------
    threshold : float
        Answers are given from this confidence on; above 1 where nothing may be answered.
    n_answered, n_right, n_tracks : int
        Tracks answered, answered rightly, and in all.
    """

    threshold: float
    n_answered: int
    n_right: int
    n_tracks: int

    @property
    def accuracy(self) -> float:
        """Share of right answers among those given; 0 without any."""
        return self.n_right / self.n_answered if self.n_answered else 0.0

    @property
    def coverage(self) -> float:
        """Share of tracks that get an answer."""
        return self.n_answered / self.n_tracks if self.n_tracks else 0.0

    def __str__(self) -> str:
        parts = [(self.n_right, self.n_answered), (self.n_answered, self.n_tracks)]
        right, answered = (
            f"{n / m if m else 0:.3f} [{low:.3f}, {high:.3f}] ({n} of {m})"
            for n, m in parts
            for low, high in [wilson_interval(n, m)]
        )
        return f"accuracy {right} on the answered {answered}"


def log_loss(logits: ArrayLike, truth: ArrayLike) -> float:
    """Mean negative log probability of the true labels; logits have shape (n, n_labels)."""
    values, labels = _checked(logits, truth)
    top = values.max(axis=1)
    total = top + np.log(np.exp(values - top[:, np.newaxis]).sum(axis=1))
    return float(np.mean(total - values[np.arange(len(labels)), labels]))


def fit_temperature(logits: ArrayLike, truth: ArrayLike) -> float:
    """Find the temperature that minimises the log loss of ``logits / temperature``; within 0.05..20."""
    values, labels = _checked(logits, truth)
    return _minimise(lambda temperature: log_loss(values / temperature, labels))


def fit_temperature_by_count(logits: ArrayLike, truth: ArrayLike, counts: ArrayLike) -> tuple[float, float]:
    """Fit a temperature that falls with the number of segments heard: fewer segments know less.

    Parameters
    ----------
    logits : array_like, shape (n, n_labels)
    truth : array_like of int, shape (n,)
    counts : array_like of int, shape (n,)
        How many segments each row of logits was heard from.

    Returns
    -------
    (limit, single)
        The temperature for n segments is ``limit + (single - limit) / n``.
    """
    values, labels = _checked(logits, truth)
    heard = np.asarray(counts, dtype=np.float64)
    limit = single = fit_temperature(values, labels)

    def loss(limit: float, single: float) -> float:
        return log_loss(values / (limit + (single - limit) / heard)[:, np.newaxis], labels)

    for _ in range(12):  # fit one with the other held; it settles within a few rounds
        single = _minimise(partial(loss, limit))
        limit = _minimise(partial(loss, single=single))
    return limit, single


def apply_threshold(confidence: ArrayLike, right: ArrayLike, threshold: float) -> Answered:
    """Count what is answered, and answered rightly, from ``threshold`` on; both arrays have shape (n,)."""
    values, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    given = values >= threshold
    return Answered(threshold, int(given.sum()), int(hits[given].sum()), len(values))


def choose_threshold(
    confidence: ArrayLike, right: ArrayLike, *, target: float = 0.9, fewest: int = 10, z: float = 0.0, repeats: int = 1
) -> Answered:
    """Find the lowest threshold at which the answered tracks reach the target accuracy.

    Parameters
    ----------
    confidence : array_like, shape (n,)
        Probability of the best label, out of fold.
    right : array_like of bool, shape (n,)
        Whether the best label was right.
    target : float
        Accuracy to reach.
    fewest : int
        Answers that must be given at least, so that a lucky handful does not decide.
    z : float
        What must reach the target: 0 the estimate itself, 1.645 its lower bound (Wilson, one-sided 95 %).
    repeats : int
        How often each track stands in the arrays (seeds), so that the bound counts tracks.

    Returns
    -------
    Answered
        With a threshold of 1.01 (nothing is answered) when the target cannot be reached.
    """
    values, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    if not values.size or values.shape != hits.shape:
        raise DataError(f"{values.shape} confidences and {hits.shape} outcomes", valid="two lists of equal length")
    order = np.argsort(-values, kind="stable")
    answers = np.arange(1, len(values) + 1)
    n_tracks = answers / repeats
    share = np.cumsum(hits[order]) / answers
    slack = z * np.sqrt(share * (1 - share) / n_tracks + z**2 / (4 * n_tracks**2))
    low = (share + z**2 / (2 * n_tracks) - slack) / (1 + z**2 / n_tracks)
    last_of_ties = np.append(np.diff(values[order]) != 0, True)
    reached = (low >= target) & last_of_ties & (answers >= fewest)
    if not reached.any():
        return Answered(1.01, 0, 0, len(values))
    return apply_threshold(values, hits, float(values[order][np.flatnonzero(reached)[-1]]))


def calibration_error(confidence: ArrayLike, right: ArrayLike, *, n_bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins of equal numbers of tracks."""
    values, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not values.size:
        raise DataError("there is nothing to score")
    bins = np.array_split(np.argsort(values, kind="stable"), min(n_bins, len(values)))
    return float(sum(abs(values[rows].mean() - hits[rows].mean()) * len(rows) for rows in bins) / len(values))


def _minimise(loss: Callable[[float], float]) -> float:
    """Golden-section search over log temperature (the log loss has one valley)."""
    low, high = _LOG_TEMPERATURE
    for _ in range(40):
        span = _GOLDEN * (high - low)
        if loss(float(np.exp(high - span))) < loss(float(np.exp(low + span))):
            high = low + span
        else:
            low = high - span
    return float(np.exp((low + high) / 2))


def _checked(logits: ArrayLike, truth: ArrayLike) -> tuple[Float64, NDArray[np.intp]]:
    values, labels = np.asarray(logits, dtype=np.float64), np.asarray(truth, dtype=np.intp)
    if values.ndim != 2 or labels.shape != values.shape[:1] or not labels.size:
        raise DataError(f"logits {values.shape} and labels {labels.shape}", valid="shapes (n, n_labels) and (n,)")
    return values, labels
