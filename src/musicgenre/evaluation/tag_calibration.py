"""Calibration and thresholds of an exported tagger, tag by tag, from the validation part of its run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from musicgenre.evaluation.bundle_calibration import FEWEST_TRACKS
from musicgenre.evaluation.tag_evaluate import fitted_thresholds
from musicgenre.runs.runs import Run
from musicgenre.runs.tag_predictions import TagPredictions, n_top_tags

_SMALLEST = 1e-9
_N_STEPS = 30
_LARGEST_STEP = 1.0

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TagCalibration:
    """What the validation part of a run says about its tags.

    Parameters
    ----------
    thresholds : tuple of float
        One a tag, or none.
    scales, biases : tuple of float
        Probabilities are ``sigmoid(scale * logits + bias)``; empty where nothing could be fitted.
    note : str
        How they were found, or why not; one sentence without the full stop.
    """

    thresholds: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    biases: tuple[float, ...] = ()
    note: str = ""


def calibrate_tags(run: Run) -> TagCalibration:
    """Fit scale, bias and threshold of every tag; the last to the probabilities of whole tracks."""
    if not (run.folder / "predictions_validation.csv").is_file():
        return TagCalibration(note="There are no thresholds: the run has no validation part")
    segments = run.tag_predictions("validation")
    where = f"{segments.n_tracks} validation tracks, which also chose the checkpoint"
    kept = f"the teacher's {n_top_tags(len(segments.tags))} top tags" if segments.soft else "the largest F1"
    if segments.n_tracks < FEWEST_TRACKS or run.info.get("activation") != "sigmoid":
        thresholds = _rounded(fitted_thresholds(segments.by_track(run.scoring)))
        note = f"Thresholds by {kept} from {where}; probabilities are not calibrated"
        if segments.n_tracks < FEWEST_TRACKS:
            note += f" (fewer than {FEWEST_TRACKS} tracks: expect the thresholds to be rough)"
        return TagCalibration(thresholds, note=note)
    scales, biases = fit_scales(segments)
    logits = _logits(segments.scores)
    calibrated = replace(segments, scores=_sigmoid(logits * scales + biases))
    thresholds = _rounded(fitted_thresholds(calibrated.by_track(run.scoring)))
    note = f"Probabilities calibrated tag by tag, and thresholds by {kept}, from {where}"
    return TagCalibration(thresholds, _rounded(scales), _rounded(biases), note)


def fit_scales(segments: TagPredictions) -> tuple[Float64, Float64]:
    """Fit ``sigmoid(scale * logit + bias)`` to what is true, tag by tag (Platt 1999), shape (k,) each.

    A track weighs 1 however many segments it has; a mild pull towards (1, 0) keeps tags with few examples where they
    are. Newton's method; the scale stays positive, so that the order of tracks does not change.
    """
    counts = dict.fromkeys(segments.track_ids, 0)
    for track_id in segments.track_ids:
        counts[track_id] += 1
    weights = np.array([1.0 / counts[track_id] for track_id in segments.track_ids])
    logits = _logits(segments.scores)
    fitted = [_fit(column, truth, weights) for column, truth in zip(logits.T, segments.truth.T, strict=True)]
    scales, biases = np.array(fitted).T
    return scales, biases


def _fit(logits: Float64, truth: Float64, weights: Float64) -> tuple[float, float]:
    known = ~np.isnan(truth)
    x, y, w = logits[known], truth[known], weights[known]
    log_scale, bias = 0.0, 0.0
    for _ in range(_N_STEPS):
        scale = np.exp(log_scale)
        said = _sigmoid(scale * x + bias)
        error, curvature = w * (said - y), w * said * (1 - said)
        slope = np.array([(error * scale * x).sum() + log_scale, error.sum() + bias])
        cross = (curvature * scale * x).sum()
        hessian = np.array([[(curvature * (scale * x) ** 2).sum() + 1.0, cross], [cross, curvature.sum() + 1.0]])
        step = np.clip(np.linalg.solve(hessian, slope), -_LARGEST_STEP, _LARGEST_STEP)
        log_scale, bias = log_scale - step[0], bias - step[1]
        if np.abs(step).max() < 1e-8:
            break
    return float(np.exp(log_scale)), float(bias)


def _logits(scores: Float64) -> Float64:
    clipped = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(values: Float64) -> Float64:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))


def _rounded(values: Float64) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
