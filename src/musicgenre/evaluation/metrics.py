"""Scores of labels and of tags, with intervals over tracks. NumPy only; labels are numbers 0..k-1.

The unit of every interval is the track: all segments and seeds of a track are drawn together, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import DataError, RunError
from musicgenre.runs.predictions import Predictions, TagPredictions

Float64 = NDArray[np.float64]

Z_95 = 1.959963984540054
"""Standard score of a two-sided 95 % interval."""

DEFAULT_THRESHOLD = 0.5
"""Threshold of a tag that the validation part tells nothing about."""

CENTRED = "centred bootstrap over tracks"
"""How intervals of areas are found."""

_QUANTILES_95 = (0.025, 0.975)
_N_RESAMPLES = 10_000
_BLOCK = 100  # draws at a time: all draws of 10,000 tracks would take 800 MB
_SEED = 20_000
_SEED_OF_WEIGHTS = 20_003
_TINY = 1e-300
"""Divides where nothing was counted: 0 of nothing is 0."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its 95 % interval.

    Parameters
    ----------
    value, low, high : float
        The share and its interval, within 0..1.
    method : str
        How the interval was found: `Wilson` or `bootstrap over tracks`.
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

    precision: Float64
    recall: Float64
    f1: Float64
    support: Float64

    def macro(self, columns: Sequence[int] | None = None) -> tuple[float, float, float]:
        """Mean precision, recall and F1 over the labels (or those in `columns`), each label counting the same."""
        chosen = slice(None) if columns is None else list(columns)
        means = [float(of_labels[chosen].mean()) for of_labels in (self.precision, self.recall, self.f1)]
        return means[0], means[1], means[2]

    def weighted(self) -> tuple[float, float, float]:
        """Mean precision, recall and F1 over the labels, each label counting by its support."""
        weights = self.support / max(self.support.sum(), 1.0)
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
    if not truth.size:
        raise DataError("there is nothing to score")
    return float((truth == predicted).mean())


def wilson_interval(successes: float, trials: float, *, z: float = Z_95) -> tuple[float, float]:
    """Give the Wilson score interval of a share (Wilson 1927).

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

    Raises
    ------
    DataError
        There are fewer successes than 0, or more than trials.
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
    """Count answers by true label (rows) and answered label (columns), shape (n_labels, n_labels).

    Raises
    ------
    DataError
        The two differ in length, or hold a label outside 0..n_labels-1.
    """
    truth, predicted = _pair(truth, predicted)
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


def macro_f1(
    truth: ArrayLike,
    predicted: ArrayLike,
    n_labels: int,
    weights: ArrayLike,
    columns: Sequence[int] | None = None,
) -> Float64:
    """Mean F1 over the labels for every weighting of the rows.

    Parameters
    ----------
    truth, predicted : array_like of int, shape (n,)
        True and answered labels, within 0..n_labels-1.
    n_labels : int
        How many labels there are.
    weights : array_like, shape (n_draws, n)
        How often each row counts.
    columns : sequence of int, optional
        The labels whose F1 counts; all by default.

    Returns
    -------
    ndarray, shape (n_draws,)
        Within 0..1; a label that a draw neither holds nor answers has an F1 of 0.
    """
    truth, predicted = _pair(truth, predicted)
    counts = np.asarray(weights, dtype=np.float64)
    is_true, is_said = (np.eye(n_labels)[labels] for labels in (truth, predicted))  # (n, n_labels) each
    hits = counts @ (is_true * is_said)
    of_labels = _ratio(2 * hits, counts @ is_true + counts @ is_said)
    return np.asarray((of_labels if columns is None else of_labels[:, list(columns)]).mean(axis=1))


def majority_share(truth: ArrayLike) -> float:
    """Accuracy of always answering the most frequent label: the score that any model must beat."""
    labels = np.asarray(truth, dtype=np.int64)
    return float(np.bincount(labels).max() / len(labels)) if labels.size else 0.0


def estimate_accuracy(per_seed: Sequence[Predictions]) -> Estimate:
    """Mean accuracy over seeds with its 95 % interval.

    Wilson's interval where each track was answered once; else a bootstrap over tracks, all segments and seeds of a
    track staying together. Where every track has the same score a bootstrap cannot vary, and Wilson's is given.

    Raises
    ------
    RunError
        There are no predictions.
    """
    if not per_seed or not all(len(predictions) for predictions in per_seed):
        raise RunError("there are no predictions to score")

    right, weight = _track_weights(per_seed)
    n_tracks = len(weight)
    value = min(1.0, float(right.sum() / weight.sum()))  # rounding may pass 1

    answered_once = len(per_seed) == 1 and len(per_seed[0]) == n_tracks
    if answered_once or np.ptp(right / weight) == 0.0:
        low, high = wilson_interval(min(value * n_tracks, n_tracks), n_tracks)
        return Estimate(value, low, high, "Wilson", n_tracks)
    low, high = interval_of_ratio(right, weight)
    return Estimate(value, low, high, "bootstrap over tracks", n_tracks)


def interval_of_ratio(numerator: Float64, denominator: Float64 | None = None) -> tuple[float, float]:
    """95 % interval of the ratio of two sums over tracks, which are drawn with replacement; shape (n_tracks,) each.

    Without a denominator, of the mean.
    """
    denominator = np.ones(len(numerator)) if denominator is None else denominator
    random = np.random.default_rng(_SEED)
    n_tracks = len(numerator)
    ratios = []
    for start in range(0, _N_RESAMPLES, _BLOCK):
        drawn = random.integers(0, n_tracks, size=(min(_BLOCK, _N_RESAMPLES - start), n_tracks), dtype=np.int32)
        ratios.append(numerator[drawn].sum(axis=1) / denominator[drawn].sum(axis=1))

    low, high = np.quantile(np.concatenate(ratios), _QUANTILES_95)
    return float(low), float(high)


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

    # Rows with the highest score first; equal scores are answered together, in one step of the curve.
    order = known[np.argsort(-values[known], kind="stable")]
    steps = np.flatnonzero(np.diff(values[order], prepend=np.inf) != 0)
    drawn = counts[order]  # (n, n_draws)
    present = np.add.reduceat(drawn * truth[order, None], steps, axis=0)  # (n_steps, n_draws)
    answered = np.cumsum(np.add.reduceat(drawn, steps, axis=0), axis=0)
    hits = np.cumsum(present, axis=0)

    # Each present row beats the absent rows below it, and half of those that score the same.
    all_present, all_absent = hits[-1], answered[-1] - hits[-1]
    false = answered - hits  # absent rows that score as high or higher
    before = np.vstack([np.zeros((1, false.shape[1])), false[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        roc = (present * (all_absent - 0.5 * (false + before))).sum(axis=0) / (all_present * all_absent)
        average = (present * hits / np.maximum(answered, _TINY)).sum(axis=0) / all_present

    measurable = (all_present > 0) & (all_absent > 0)
    return np.where(measurable, roc, np.nan), np.where(measurable, average, np.nan)


def draw_weights(n_tracks: int, start: int, n_draws: int) -> Float64:
    """Count how often each track is drawn, shape (n_draws, n_tracks); the same for the same start."""
    random = np.random.default_rng([_SEED_OF_WEIGHTS, start])
    return random.multinomial(n_tracks, np.full(n_tracks, 1.0 / n_tracks), size=n_draws).astype(np.float64)


def centred(values: Float64) -> Float64:
    """Draws around the value they belong to: (value, draws ...) to the draws that could be measured, shifted.

    Tracks drawn twice raise the area under a precision-recall curve, and rare tags drop out of some draws. Both move
    the draws as a whole, sometimes past the value itself, so their mean is moved back onto it; their spread stays.
    """
    draws = values[1:][~np.isnan(values[1:])]
    return np.asarray(draws - draws.mean() + values[0]) if draws.size else values[:1]


def centred_estimate(values: Float64, n_tracks: int, *, least: float = 0.0) -> Estimate:
    """Make an estimate of (value, draws ...), within `least`..1: -1 for differences and correlations."""
    low, high = np.clip(np.quantile(centred(values), _QUANTILES_95), least, 1.0)
    return Estimate(float(values[0]), float(low), float(high), CENTRED, n_tracks)


def best_threshold(presence: ArrayLike, scores: ArrayLike) -> float:
    """Find the threshold of one tag from which on F1 is largest; rows with NaN count for nothing.

    It lies half-way between the last score that is answered and the next one. Of equally good thresholds the highest
    is taken; `DEFAULT_THRESHOLD` where no row has the tag.
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


def fitted_thresholds(validation: TagPredictions) -> Float64:
    """Thresholds of largest F1 on validation tracks, tag by tag, shape (k,)."""
    columns = zip(validation.presence().T, validation.scores.T, strict=True)
    return np.array([best_threshold(presence, scores) for presence, scores in columns])


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
    total = np.maximum(counts.sum(axis=1, keepdims=True), _TINY)
    x = first[known] - counts @ first[known][:, None] / total  # (n_draws, n_known): each draw has its own mean
    y = second[known] - counts @ second[known][:, None] / total

    covariance = (counts * x * y).sum(axis=1)
    spread = np.sqrt((counts * x**2).sum(axis=1) * (counts * y**2).sum(axis=1))
    return np.asarray(np.divide(covariance, spread, out=np.full(len(counts), np.nan), where=spread > 1e-12))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979), so that all of them together err in one of twenty cases at 0.05.

    The smallest is multiplied by their number, the next by one less, and none comes out below one before it.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def p_in_words(p_value: float) -> str:
    """Write a p value as papers do: `p = 0.012`, and `p < 0.001` for what would be rounded to nothing."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def nanmean(values: Float64, axis: int) -> Float64:
    """Mean over an axis without what is NaN; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0))


def _track_weights(per_seed: Sequence[Predictions]) -> tuple[Float64, Float64]:
    """Weights, shape (n_tracks,), of the right rows of every track and of all its rows; each seed weighs the same.

    The ratio of the two sums is the mean over seeds of the accuracy.
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
    return right, weight


def _ratio(part: Float64, whole: Float64) -> Float64:
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if first.ndim != 1 or first.shape != second.shape:
        raise DataError(f"{first.shape} true and {second.shape} answered labels", valid="two lists of equal length")
    return first, second
