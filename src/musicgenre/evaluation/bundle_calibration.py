"""Temperature and "unsure" threshold of an exported run, from its validation part; nothing is fitted to too few."""

from __future__ import annotations

from dataclasses import dataclass

from musicgenre._numbers import log_probabilities, softmax
from musicgenre.evaluation.calibration import choose_threshold, fit_temperature
from musicgenre.evaluation.protocols import is_leaky
from musicgenre.runs.predictions import Predictions
from musicgenre.runs.runs import Run

FEWEST_TRACKS = 50
TARGET_ACCURACY = 0.9


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


def calibrate(run: Run) -> RunCalibration:
    """Fit the temperature to validation segments and choose the threshold on validation tracks."""
    if is_leaky(run.protocol) or not (run.folder / "predictions_validation.csv").is_file():
        return RunCalibration(note="Confidence is not calibrated: there is no honest validation part")
    segments = run.predictions("validation")
    if segments.n_tracks < FEWEST_TRACKS:
        return RunCalibration(
            note=f"Confidence is not calibrated: {segments.n_tracks} validation tracks, fewer than {FEWEST_TRACKS}"
        )
    logits = log_probabilities(segments.scores)
    temperature = fit_temperature(logits, segments.truth)
    calibrated = Predictions(
        segments.labels, segments.track_ids, segments.starts_s, segments.truth, softmax(logits / temperature)
    )
    tracks = calibrated.by_track(run.scoring)
    answered = choose_threshold(tracks.scores.max(axis=1), tracks.predicted == tracks.truth, target=TARGET_ACCURACY)
    where = f"{segments.n_tracks} validation tracks, which also chose the checkpoint"
    if not answered.n_answered:
        return RunCalibration(temperature, 0.0, f"Temperature from {where}; no threshold reaches 90 % accuracy there")
    note = f"Temperature and threshold from {where}; there {answered}"
    return RunCalibration(temperature, min(answered.threshold, 1.0), note)
