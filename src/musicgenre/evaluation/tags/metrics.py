"""Scores of tags: areas under the ROC and the precision-recall curve, thresholds, agreement. NumPy only.

The areas are computed for many weightings of the rows at once, so that a bootstrap over tracks costs little; without
weights they equal scikit-learn's ``roc_auc_score`` and ``average_precision_score`` (a test holds them to it).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

DEFAULT_THRESHOLD = 0.5
"""Threshold of a tag that the validation part tells nothing about."""


def areas(presence: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[Float64, Float64]:
    """Areas under the ROC curve and the precision-recall curve (average precision) of one tag.

    Parameters
    ----------
    presence : array_like, shape (n,)
        1 or 0; NaN where unknown: such rows count for nothing.
    scores : array_like, shape (n,)
        Higher means more likely present. Equal scores are one step of the curve.
    weights : array_like, shape (n, n_draws), optional
        How often each row counts; once by default.

    Returns
    -------
    (roc_auc, average_precision)
        Shape (n_draws,) each; NaN where a draw holds no present row, or no absent one.
    """
    truth, values = np.asarray(presence, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    counts = np.ones((len(truth), 1)) if weights is None else np.asarray(weights, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(truth))
    if not known.size:
        nothing = np.full(counts.shape[1], np.nan)
        return nothing, nothing
    order = known[np.argsort(-values[known], kind="stable")]
    steps = np.flatnonzero(np.diff(values[order], prepend=np.inf) != 0)  # where each group of equal scores begins
    drawn = counts[order]  # (n, n_draws), the highest score first
    present = np.add.reduceat(drawn * truth[order, None], steps, axis=0)  # (n_steps, n_draws)
    answered = np.cumsum(np.add.reduceat(drawn, steps, axis=0), axis=0)
    hits = np.cumsum(present, axis=0)
    all_present, all_absent = hits[-1], answered[-1] - hits[-1]
    false = answered - hits  # absent rows that score as high or higher
    before = np.vstack([np.zeros((1, false.shape[1])), false[:-1]])
    measurable = (all_present > 0) & (all_absent > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        roc = (present * (all_absent - 0.5 * (false + before))).sum(axis=0) / (all_present * all_absent)
        average = (present * hits / np.maximum(answered, 1e-300)).sum(axis=0) / all_present
    return np.where(measurable, roc, np.nan), np.where(measurable, average, np.nan)


def best_threshold(presence: ArrayLike, scores: ArrayLike) -> float:
    """Find the threshold of one tag from which on F1 is largest; rows with NaN count for nothing.

    It lies half-way between the last score that is answered and the next one. Of equally good thresholds the highest
    is taken; :data:`DEFAULT_THRESHOLD` where no row has the tag.
    """
    truth, values = np.asarray(presence, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(truth))
    order = known[np.argsort(-values[known], kind="stable")]
    if not truth[order].sum():
        return DEFAULT_THRESHOLD
    sorted_scores, hits = values[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
    f1[:-1][np.diff(sorted_scores) == 0] = -1.0  # a threshold cannot part equal scores
    last = int(np.argmax(f1))
    below = sorted_scores[last + 1] if last + 1 < len(order) else 0.0
    return float((sorted_scores[last] + below) / 2)


def decide(scores: ArrayLike, thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Tags that are named: score at or above the tag's threshold; shapes (n, k) and (k,)."""
    return np.asarray(np.asarray(scores) >= np.asarray(thresholds))


def correlation(first: Float64, second: Float64, weights: Float64) -> Float64:
    """Pearson's correlation of two columns for every weighting of the rows.

    Parameters
    ----------
    first, second : ndarray, shape (n,)
        NaN in either leaves the row out.
    weights : ndarray, shape (n_draws, n)
        How often each row counts.

    Returns
    -------
    ndarray, shape (n_draws,)
        NaN where a column does not vary.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    counts = weights[:, known]
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
    x, y = (column[known] - counts @ column[known][:, None] / total for column in (first, second))
    covariance = (counts * x * y).sum(axis=1)
    spread = np.sqrt((counts * x**2).sum(axis=1) * (counts * y**2).sum(axis=1))
    return np.asarray(np.divide(covariance, spread, out=np.full(len(counts), np.nan), where=spread > 1e-12))
