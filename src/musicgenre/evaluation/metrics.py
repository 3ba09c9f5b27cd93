"""Scores of single-label predictions, with intervals. NumPy only; labels are numbers 0..k-1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import DataError

Z_95 = 1.959963984540054
"""Standard score of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassMetrics:
    """Precision, recall and F1 of every label.

    Parameters
    ----------
    precision, recall, f1 : ndarray, shape (n_labels,)
        Within 0..1; 0 where undefined (a label never answered, or never true).
    support : ndarray, shape (n_labels,)
        How many items truly have the label.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.float64]

    def macro(self) -> tuple[float, float, float]:
        """Mean precision, recall and F1 over the labels, each label counting the same."""
        return float(self.precision.mean()), float(self.recall.mean()), float(self.f1.mean())

    def weighted(self) -> tuple[float, float, float]:
        """Mean precision, recall and F1 over the labels, each label counting by its support."""
        total = self.support.sum()
        weights = self.support / total if total else np.zeros_like(self.support)
        return float(self.precision @ weights), float(self.recall @ weights), float(self.f1 @ weights)


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of right answers.

    Parameters
    ----------
    truth, predicted : array_like of int, shape (n,)
        True and answered labels.

    Raises
    ------
    DataError
        When the two differ in length or are empty.
    """
    truth, predicted = _pair(truth, predicted)
    return float((truth == predicted).mean())


def wilson_interval(successes: float, trials: float, *, z: float = Z_95) -> tuple[float, float]:
    """Give the Wilson score interval of a share.

    Parameters
    ----------
    successes, trials : float
        How many of how many; fractions of successes are fine (means over seeds).
    z : float
        Standard score: 1.96 for a two-sided 95 % interval, 1.645 for a one-sided 95 % bound.

    Returns
    -------
    (low, high)
        Within 0..1; (0, 1) when there were no trials.
    """
    if not 0 <= successes <= trials:
        raise DataError(f"{successes} of {trials} is not a share", valid="0 <= successes <= trials")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    centre = share + z**2 / (2 * trials)
    # Rounding may leave the ends a hair outside at 0 and 1 (and inside the share itself).
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return float(min(max(low, 0.0), share)), float(max(min(high, 1.0), share))


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, n_labels: int) -> NDArray[np.int64]:
    """Count answers by true label (rows) and answered label (columns), shape (n_labels, n_labels)."""
    truth, predicted = _pair(truth, predicted, allow_empty=True)
    for name, labels in (("truth", truth), ("predicted", predicted)):
        if labels.size and not (labels.min() >= 0 and labels.max() < n_labels):
            raise DataError(f"{name} holds labels from {labels.min()} to {labels.max()}", valid=f"0 to {n_labels - 1}")
    counts = np.bincount(truth * n_labels + predicted, minlength=n_labels * n_labels)
    return counts.reshape(n_labels, n_labels).astype(np.int64)


def class_metrics(confusion: ArrayLike) -> ClassMetrics:
    """Precision, recall, F1 and support of every label, from a confusion matrix (rows are the truth)."""
    counts = np.asarray(confusion, dtype=np.float64)
    hits, answered, support = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    return ClassMetrics(
        precision=_ratio(hits, answered),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, answered + support),
        support=support,
    )


def majority_share(truth: ArrayLike) -> float:
    """Accuracy of always answering the most frequent label: the score that any model must beat."""
    labels = np.asarray(truth, dtype=np.int64)
    return float(np.bincount(labels).max() / len(labels)) if labels.size else 0.0


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


def _pair(
    truth: ArrayLike, predicted: ArrayLike, *, allow_empty: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if first.ndim != 1 or first.shape != second.shape:
        raise DataError(f"{first.shape} true and {second.shape} answered labels", valid="two lists of equal length")
    if not first.size and not allow_empty:
        raise DataError("there is nothing to score")
    return first, second
