"""Confidence that can be believed: temperatures, the "unsure" threshold, and how far off a confidence is.

Everything here must be given predictions for tracks that the classifier was not fitted on (out-of-fold predictions). A
run is calibrated from its validation part, labels as a whole and tags one by one; nothing is fitted to too few tracks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre._numbers import log_odds, log_probabilities, sigmoid, softmax
from musicgenre.errors import DataError
from musicgenre.evaluation.metrics import Float64, fitted_thresholds, wilson_interval
from musicgenre.evaluation.protocols import is_leaky
from musicgenre.runs.folder import Run
from musicgenre.runs.predictions import TagPredictions, n_top_tags

FEWEST_TRACKS = 50
"""Fewer validation tracks than these fit no temperature and no scale."""

TARGET_ACCURACY = 0.9
"""What the answers given above the "unsure" threshold shall reach."""

_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))
_GOLDEN = (np.sqrt(5.0) - 1) / 2
_N_NARROWINGS = 40  # of the golden section: 0.618^40 of the range is left
_N_ROUNDS = 12

_N_NEWTON_STEPS = 30
_LARGEST_STEP = 1.0  # a longer one overshoots where a tag has few examples
_SMALLEST_STEP = 1e-8


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
        low, high = wilson_interval(self.n_right, self.n_answered)
        right = f"{self.accuracy:.3f} [{low:.3f}, {high:.3f}] ({self.n_right} of {self.n_answered})"
        low, high = wilson_interval(self.n_answered, self.n_tracks)
        answered = f"{self.coverage:.3f} [{low:.3f}, {high:.3f}] ({self.n_answered} of {self.n_tracks})"
        return f"accuracy {right} on the answered {answered}"


@dataclass(frozen=True, slots=True)
class RunCalibration:
    """What the validation part of a run says about its confidence.

    Parameters
    ----------
    temperature, unsure_threshold : float
        For the card; 1 and 0 where nothing could be fitted.
    note : str
        How they were found, or why not; one sentence without the full stop.
    """

    temperature: float = 1.0
    unsure_threshold: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class TagCalibration:
    """What the validation part of a run says about its tags.

    Parameters
    ----------
    thresholds : tuple of float
        One a tag, or none.
    scales, biases : tuple of float
        Probabilities are `sigmoid(scale * logits + bias)`; empty where nothing could be fitted.
    note : str
        How they were found, or why not; one sentence without the full stop.
    """

    thresholds: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    biases: tuple[float, ...] = ()
    note: str = ""


def calibrate(run: Run) -> RunCalibration:
    """Fit the temperature to validation segments and choose the threshold on validation tracks."""
    if is_leaky(run.protocol) or not run.files.predictions("validation").is_file():
        return RunCalibration(note="Confidence is not calibrated: there is no honest validation part")
    segments = run.predictions("validation")
    if segments.n_tracks < FEWEST_TRACKS:
        return RunCalibration(
            note=f"Confidence is not calibrated: {segments.n_tracks} validation tracks, fewer than {FEWEST_TRACKS}"
        )

    logits = log_probabilities(segments.scores)
    temperature = fit_temperature(logits, segments.truth)

    # A bundle divides the logits of segments and pools afterwards: so does the choice of the threshold.
    tracks = replace(segments, scores=softmax(logits / temperature)).by_track(run.pooling)
    answered = choose_threshold(tracks.scores.max(axis=1), tracks.predicted == tracks.truth, target=TARGET_ACCURACY)
    where = f"{segments.n_tracks} validation tracks, which also chose the checkpoint"
    if not answered.n_answered:
        return RunCalibration(temperature, 0.0, f"Temperature from {where}; no threshold reaches 90 % accuracy there")
    note = f"Temperature and threshold from {where}; there {answered}"
    return RunCalibration(temperature, min(answered.threshold, 1.0), note)


def calibrate_tags(run: Run) -> TagCalibration:
    """Fit scale, bias and threshold of every tag; the last to the probabilities of whole tracks."""
    if not run.files.predictions("validation").is_file():
        return TagCalibration(note="There are no thresholds: the run has no validation part")

    segments = run.tag_predictions("validation")
    where = f"{segments.n_tracks} validation tracks, which also chose the checkpoint"
    kept = f"the teacher's {n_top_tags(len(segments.labels))} top tags" if segments.soft else "the largest F1"
    few = segments.n_tracks < FEWEST_TRACKS
    if few or run.info.get("activation") != "sigmoid":  # a softmax over tags has no logits of single tags
        note = f"Thresholds by {kept} from {where}; probabilities are not calibrated"
        if few:
            note += f" (fewer than {FEWEST_TRACKS} tracks: expect the thresholds to be rough)"
        return TagCalibration(_rounded(fitted_thresholds(segments.by_track(run.pooling))), note=note)

    scales, biases = fit_scales(segments)
    calibrated = replace(segments, scores=sigmoid(log_odds(segments.scores) * scales + biases))
    thresholds = fitted_thresholds(calibrated.by_track(run.pooling))
    note = f"Probabilities calibrated tag by tag, and thresholds by {kept}, from {where}"
    return TagCalibration(_rounded(thresholds), _rounded(scales), _rounded(biases), note)


def log_loss(logits: ArrayLike, truth: ArrayLike) -> float:
    """Mean negative log probability of the true labels; logits have shape (n, n_labels)."""
    values, labels = _pair(logits, truth)
    top = values.max(axis=1)
    total = top + np.log(np.exp(values - top[:, np.newaxis]).sum(axis=1))  # no power overflows
    return float(np.mean(total - values[np.arange(len(labels)), labels]))


def fit_temperature(logits: ArrayLike, truth: ArrayLike) -> float:
    """Find the temperature, within 0.05..20, with the least log loss of `logits / temperature` (Guo et al. 2017)."""
    values, labels = _pair(logits, truth)
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
        The temperature for n segments is `limit + (single - limit) / n`.
    """
    values, labels = _pair(logits, truth)
    heard = np.asarray(counts, dtype=np.float64)
    limit = single = fit_temperature(values, labels)

    def loss(limit: float, single: float) -> float:
        return log_loss(values / (limit + (single - limit) / heard)[:, np.newaxis], labels)

    for _ in range(_N_ROUNDS):  # fit one with the other held; it settles within a few rounds
        single = _minimise(partial(loss, limit))
        limit = _minimise(partial(loss, single=single))
    return limit, single


def fit_scales(segments: TagPredictions) -> tuple[Float64, Float64]:
    """Fit `sigmoid(scale * logit + bias)` to what is true, tag by tag (Platt 1999), shape (k,) each.

    A track weighs 1 however many segments it has; a mild pull towards (1, 0) keeps tags with few examples where they
    are. Newton's method; the scale stays positive, so that the order of tracks does not change.
    """
    counts = Counter(segments.track_ids)
    weights = np.array([1.0 / counts[track_id] for track_id in segments.track_ids])
    scales, biases = [], []
    for logits, truth in zip(log_odds(segments.scores).T, segments.truth.T, strict=True):
        known = ~np.isnan(truth)
        scale, bias = _fit_scale(logits[known], truth[known], weights[known])
        scales.append(scale)
        biases.append(bias)
    return np.array(scales), np.array(biases)


def apply_threshold(confidence: ArrayLike, right: ArrayLike, threshold: float) -> Answered:
    """Count what is answered, and answered rightly, from `threshold` on; both arrays have shape (n,)."""
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

    Raises
    ------
    DataError
        The two are empty, or differ in length.
    """
    values, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    if not values.size or values.shape != hits.shape:
        raise DataError(f"{values.shape} confidences and {hits.shape} outcomes", valid="two lists of equal length")

    order = np.argsort(-values, kind="stable")
    answers = np.arange(1, len(values) + 1)

    # Wilson's lower bound after every answer, the surest first.
    n_tracks = answers / repeats
    share = np.cumsum(hits[order]) / answers
    slack = z * np.sqrt(share * (1 - share) / n_tracks + z**2 / (4 * n_tracks**2))
    low = (share + z**2 / (2 * n_tracks) - slack) / (1 + z**2 / n_tracks)

    last_of_ties = np.append(np.diff(values[order]) != 0, True)  # a threshold cannot part equal confidences
    reached = (low >= target) & last_of_ties & (answers >= fewest)
    if not reached.any():
        return Answered(1.01, 0, 0, len(values))
    return apply_threshold(values, hits, float(values[order][np.flatnonzero(reached)[-1]]))


def calibration_error(confidence: ArrayLike, right: ArrayLike, *, n_bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins of equal numbers of tracks.

    Raises
    ------
    DataError
        There are no tracks.
    """
    values, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not values.size:
        raise DataError("there is nothing to score")

    bins = np.array_split(np.argsort(values, kind="stable"), min(n_bins, len(values)))
    return float(sum(abs(values[rows].mean() - hits[rows].mean()) * len(rows) for rows in bins) / len(values))


def _minimise(loss: Callable[[float], float]) -> float:
    """Golden-section search over log temperature (the log loss has one valley)."""
    low, high = _LOG_TEMPERATURE
    for _ in range(_N_NARROWINGS):
        span = _GOLDEN * (high - low)
        if loss(float(np.exp(high - span))) < loss(float(np.exp(low + span))):
            high = low + span
        else:
            low = high - span
    return float(np.exp((low + high) / 2))


def _fit_scale(logits: Float64, truth: Float64, weights: Float64) -> tuple[float, float]:
    """Scale and bias of one tag by Newton's method; all have shape (n,)."""
    log_scale, bias = 0.0, 0.0  # the logarithm keeps the scale positive
    for _ in range(_N_NEWTON_STEPS):
        scaled = np.exp(log_scale) * logits
        said = sigmoid(scaled + bias)
        error, curvature = weights * (said - truth), weights * said * (1 - said)

        # The 1s and the terms of log_scale and bias themselves are the pull towards (1, 0).
        slope = np.array([(error * scaled).sum() + log_scale, error.sum() + bias])
        cross = (curvature * scaled).sum()
        hessian = np.array([[(curvature * scaled**2).sum() + 1.0, cross], [cross, curvature.sum() + 1.0]])
        step = np.clip(np.linalg.solve(hessian, slope), -_LARGEST_STEP, _LARGEST_STEP)

        log_scale, bias = log_scale - step[0], bias - step[1]
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    return float(np.exp(log_scale)), float(bias)


def _pair(logits: ArrayLike, truth: ArrayLike) -> tuple[Float64, NDArray[np.intp]]:
    values, labels = np.asarray(logits, dtype=np.float64), np.asarray(truth, dtype=np.intp)
    if values.ndim != 2 or labels.shape != values.shape[:1] or not labels.size:
        raise DataError(f"logits {values.shape} and labels {labels.shape}", valid="shapes (n, n_labels) and (n,)")
    return values, labels


def _rounded(values: Float64) -> tuple[float, ...]:
    """As the card keeps them, in six digits."""
    return tuple(float(f"{value:.6g}") for value in values)
