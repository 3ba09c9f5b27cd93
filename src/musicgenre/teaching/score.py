"""How good a taught head is: what cross-validation says of tracks that the fits had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre._numbers import softmax
from musicgenre.evaluation.calibration import Answered, apply_threshold, calibration_error, choose_threshold
from musicgenre.evaluation.metrics import ClassMetrics, class_metrics, confusion_matrix, wilson_interval
from musicgenre.teaching.trial import Trial

Float64 = NDArray[np.float64]
Labels = NDArray[np.intp]

TARGET = 0.9
"""Share of the answered tracks that must be named rightly: it sets the "unsure" threshold."""

FEW, VERY_FEW = 10, 5
"""Tracks of a genre below which a person is told so."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What cross-validation found; tracks of a group (artist) stayed together.

    Parameters
    ----------
    n_tested : int
        Tracks that could be tested; a label whose tracks are all one group cannot.
    accuracy : float
        Share of them named rightly.
    interval : tuple of float
        Its 95 % interval (Wilson).
    majority : float
        What always naming the most frequent label would score.
    calibration_error : float
        Mean gap between confidence and accuracy.
    answered : Answered
        What the "unsure" threshold leaves, when as much is heard as `classify` hears.
    confusion : ndarray, shape (n_labels, n_labels)
        Tracks by true label (rows) and named label, as a mean over the seeds.
    classes : ClassMetrics
        Precision, recall, F1 and number of tested tracks of every label.
    """

    n_tested: int
    accuracy: float
    interval: tuple[float, float]
    majority: float
    calibration_error: float
    answered: Answered
    confusion: Float64
    classes: ClassMetrics


def score_of(
    trials: Sequence[Trial], truth: Labels, counts: dict[str, Labels], temperatures: tuple[float, float]
) -> Score:
    """Score what the trials said of tracks they had not seen.

    Parameters
    ----------
    trials : sequence of Trial
        One a seed.
    truth : ndarray of int, shape (n_tracks,)
    counts : dict of str to ndarray of int, shape (n_tracks,)
        Segments behind each track, by view.
    temperatures : (float, float)
        For many segments and for one.
    """
    spoken = {}
    for view in ("all", "default"):
        parts = [believed(trial.logits[view], counts[view], temperatures)[trial.tested] for trial in trials]
        spoken[view] = np.concatenate(parts)
    tested = np.concatenate([truth[trial.tested] for trial in trials])
    n_tested = int(trials[0].tested.sum())

    # Accuracy with all that was heard; the threshold with as much as `classify` hears.
    best = spoken["all"].argmax(axis=1)
    accuracy = float((best == tested).mean())
    right = spoken["default"].argmax(axis=1) == tested
    confidence = spoken["default"].max(axis=1)
    chosen = choose_threshold(confidence, right, target=TARGET, fewest=VERY_FEW * len(trials))

    confusion = confusion_matrix(tested, best, trials[0].logits["all"].shape[1]) / len(trials)
    return Score(
        n_tested=n_tested,
        accuracy=accuracy,
        interval=wilson_interval(accuracy * n_tested, n_tested),  # seeds repeat the tracks, they add none
        majority=float(np.bincount(truth[trials[0].tested]).max() / n_tested),
        calibration_error=calibration_error(spoken["all"].max(axis=1), best == tested),
        answered=apply_threshold(confidence, right, rounded_threshold(chosen)),
        confusion=confusion,
        classes=class_metrics(confusion),
    )


def believed(logits: Float64, counts: Labels, temperatures: tuple[float, float]) -> Float64:
    """Probabilities, shape (n_tracks, n_labels), at the temperature for so many segments."""
    limit, single = temperatures
    return softmax(logits / (limit + (single - limit) / counts)[:, np.newaxis])


def rounded_threshold(chosen: Answered) -> float:
    """Round up to three digits; where every track may be answered, ask of no answer more than the target itself.

    The lowest confidence of a handful of tracks that are all answered rightly is near 1, and tells nothing of how low
    one may be.
    """
    rounded = float(np.ceil(chosen.threshold * 1000) / 1000)
    return min(rounded, TARGET) if chosen.n_answered == chosen.n_tracks else rounded
