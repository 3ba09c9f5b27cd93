"""Members of ensembles: which runs may answer together, their answers in one order, and what mixes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from musicgenre._numbers import softmax
from musicgenre.data.manifest import Manifest
from musicgenre.errors import RunError, UsageError, needing
from musicgenre.evaluation.compare import check_same_question
from musicgenre.evaluation.folds import ALWAYS_TRAIN, grouped_folds
from musicgenre.evaluation.protocols import fitted_to_validation, is_leaky
from musicgenre.models.pooling import SMALLEST, Array, Mixture, Stacked, Weighted, evidence, stacking_floor
from musicgenre.runs.folder import Run, open_runs
from musicgenre.runs.predictions import Predictions

MixtureKind = Literal["mean", "weighted", "stacking"]
"""How the models of an ensemble answer together; `how` in `run.json` and on the command line."""

MIXTURES: tuple[MixtureKind, ...] = get_args(MixtureKind)

STACKING_C = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the penalty on stacking, among which the validation part chooses; the strongest first."""

_N_STEPS = 500  # of expectation-maximisation
_N_FOLDS = 5  # of the validation part
_SEED = 20_004
_ONE_MANIFEST = "Train all of them on one manifest"


def open_members(folders: Sequence[Path]) -> list[tuple[Run, ...]]:
    """Open every folder; the runs of all of them stand in the same order of seeds and folds.

    Raises
    ------
    UsageError
        Fewer than two, or one of them twice.
    RunError
        One cannot be read, or they differ in task, labels, protocol, seeds or folds.
    """
    seen = set()
    for folder in folders:
        place = os.path.realpath(folder)
        if place in seen:
            raise UsageError(f"{folder} is given twice", valid="Different runs")
        seen.add(place)
    if len(folders) < 2:
        raise UsageError(
            f"{len(folders)} run makes no ensemble",
            valid="Two runs or more",
            next_step="Name another run of the split",
        )

    groups = [open_runs(folder) for folder in folders]
    first = groups[0]
    for folder, group in zip(folders[1:], groups[1:], strict=True):
        beside = [("folds", _known({run.fold for run in first}), _known({run.fold for run in group}))]
        seeds = [{run.seed for run in first}, {run.seed for run in group}]
        if max(map(len, seeds)) > 1:  # single seeds may differ: that is one way to make an ensemble
            beside.append(("seeds", _known(seeds[0]), _known(seeds[1])))
        beside.append(("runs", str(len(first)), str(len(group))))
        check_same_question(
            first[0],
            group[0],
            f"{folders[0]} and {folder}",
            beside=beside,
            next_step=f"{_ONE_MANIFEST}, with the same --folds and --seeds",
        )
    return groups


def check_members(members: Sequence[Run]) -> list[Manifest]:
    """Return the manifests of the members; without them nobody could tell a leak.

    Raises
    ------
    RunError
        One has no manifest, or its protocol leaks by design.
    """
    manifests = []
    for run in members:
        if is_leaky(run.protocol):
            raise RunError(
                f"{run.folder} was split by {run.protocol}: its test tracks are training tracks too",
                valid="Runs under an honest protocol",
                next_step="Train the recipe without -leaky",
            )
        manifest = run.manifest()
        if manifest is None:
            raise RunError(
                f"{run.folder} has no manifest.csv: nobody can tell what it was trained on",
                next_step="Train this run again",
            )
        manifests.append(manifest)
    return manifests


def aligned(members: Sequence[Run], part: str) -> list[Predictions]:
    """One row per track for each member, all with the tracks and labels of the first, in its order.

    Raises
    ------
    RunError
        A track is missing in one of them, or has another label there.
    """
    first = members[0].predictions(part).by_track(members[0].pooling)
    in_one_order = [first]
    for run in members[1:]:
        other = run.predictions(part).by_track(run.pooling)
        if apart := sorted(set(first.track_ids) ^ set(other.track_ids)):
            has, lacks = members[0], run
            if apart[0] not in first.track_ids:
                has, lacks = run, members[0]
            raise RunError(
                f"track {apart[0]!r} stands in the {part} part of {has.folder}, not of {lacks.folder}",
                valid=f"Runs with the same {part} tracks; {len(apart)} differ",
                next_step=f"{_ONE_MANIFEST} that carries its split or folds",
            )

        # Tracks and labels may stand in another order there.
        row_of = {track_id: row for row, track_id in enumerate(other.track_ids)}
        rows = np.array([row_of[track_id] for track_id in first.track_ids], dtype=np.intp)
        columns = [other.labels.index(label) for label in first.labels]
        label_of = np.array([first.labels.index(label) for label in other.labels], dtype=np.intp)
        truth = label_of[other.truth[rows]]
        for track_id, one, two in zip(first.track_ids, first.truth, truth, strict=True):
            if one != two:
                raise RunError(
                    f"track {track_id!r} is {first.labels[one]} in {members[0].folder} and "
                    f"{first.labels[two]} in {run.folder}",
                    valid="One label per track",
                )
        in_one_order.append(replace(first, truth=truth, scores=other.scores[rows][:, columns]))
    return in_one_order


def check_unseen(
    parts: Sequence[Predictions], part: str, members: Sequence[Run], manifests: Sequence[Manifest]
) -> None:
    """Refuse a track of `part` that any member has learnt from, or, where something is fitted, was fitted to.

    Raises
    ------
    RunError
        It names the first such track and the run.
    """
    # tracks that chose a checkpoint were learnt from too, where the test part is concerned
    used = ("train", "validation") if part == "test" else ("train",)
    asked = set(parts[0].track_ids)
    for run, manifest in zip(members, manifests, strict=True):
        for track in manifest.tracks:
            if track.split in used and track.source_id in asked:
                raise RunError(
                    f"LEAK: {part} track {track.source_id!r} stands in the {track.split} part of {run.folder}",
                    valid=f"Runs none of which has seen the {part} tracks",
                    next_step=f"{_ONE_MANIFEST} that carries its split or folds",
                )

        if part == "validation" and (reason := fitted_to_validation(run)):
            raise RunError(
                f"{run.folder} {reason}: its validation answers are flattered, and nothing can be fitted to them",
                next_step="Use --how mean, or leave it out",
            )


def mixture_weights(members: Array, truth: NDArray[np.intp]) -> Array:
    """Weights, shape (n_models,) with sum 1, under which the mixture makes the true labels most likely.

    The likelihood has one maximum over all weights; expectation-maximisation climbs to it from equal weights.

    Parameters
    ----------
    members : ndarray, shape (n_models, n_tracks, n_labels)
        Probabilities.
    truth : ndarray of int, shape (n_tracks,)
        Index of the true label.
    """
    own = np.maximum(members[:, np.arange(len(truth)), truth], SMALLEST)  # (n_models, n_tracks)
    weights = np.full(len(members), 1.0 / len(members))
    for _ in range(_N_STEPS):
        shares = weights[:, None] * own
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    return np.asarray(weights / weights.sum())


def fitted_mixture(
    kind: MixtureKind,
    members: Array,
    truth: NDArray[np.intp],
    labels: Sequence[str],
    groups: Sequence[str] | None = None,
) -> tuple[Mixture, Array]:
    """Make what mixes the models' answers, fitted to these validation tracks where it is of a kind that learns.

    Stacking is a multinomial logistic regression on the models' log-probabilities. A penalty pulls it towards their
    mean: it is the strongest of `STACKING_C` under which tracks that it was not fitted to are as likely as under the
    best one, within one standard error.

    Parameters
    ----------
    kind : {"mean", "weighted", "stacking"}
        What mixes.
    members : ndarray, shape (n_models, n_tracks, n_labels)
        Probabilities.
    truth : ndarray of int, shape (n_tracks,)
        Index of the true label.
    labels : sequence of str
        The labels.
    groups : sequence of str, optional
        The artist of each track, who is never on both sides of a fit; each track its own by default.

    Returns
    -------
    (Mixture, ndarray, shape (n_tracks, n_labels))
        The mixture, and the answers that mixtures of its kind give to those of the tracks they were not fitted to.

    Raises
    ------
    RunError
        Stacking cannot be fitted: a label has no validation track.
    MissingExtraError
        There is no SciPy.
    """
    if kind == "mean":
        mean = Weighted(np.full(len(members), 1.0 / len(members)))
        return mean, mean(members)

    fold = _validation_folds(truth, groups)
    if kind == "weighted":
        return _weighted(members, truth), _out_of_fold(members, truth, fold, _weighted)

    absent = [label for index, label in enumerate(labels) if not (truth == index).any()]
    if absent:
        raise RunError(
            f"no validation track has the label {', '.join(absent)}, so that stacking cannot be fitted",
            valid="One validation track of every label at least",
            next_step="Use --how mean, or train with a larger validation part",
        )

    answers, losses = [], []
    for strength in STACKING_C:
        said = _out_of_fold(members, truth, fold, partial(stacked, strength=strength))
        answers.append(said)
        losses.append(-np.log(np.maximum(said[np.arange(len(truth)), truth], SMALLEST)))
    means = [float(loss.mean()) for loss in losses]
    best = int(np.argmin(means))
    bound = means[best] + float(losses[best].std()) / np.sqrt(len(truth))
    chosen = next(number for number, mean in enumerate(means) if mean <= bound)
    return stacked(members, truth, STACKING_C[chosen]), answers[chosen]


def stacked(members: Array, truth: NDArray[np.intp], strength: float) -> Stacked:
    """Fit stacking under a penalty whose inverse strength is given; the stronger it is, the nearer the models' mean.

    Parameters
    ----------
    members : ndarray, shape (n_models, n_tracks, n_labels)
        Probabilities.
    truth : ndarray of int, shape (n_tracks,)
        Index of the true label.
    strength : float
        As C of scikit-learn: the penalty is the squared distance from the mean, divided by twice this.
    """
    with needing("stacking", "train"):
        from scipy.optimize import minimize

    n_models, _, n_labels = members.shape
    floor = stacking_floor(n_labels)
    heard = np.column_stack([evidence(members, floor), np.ones(len(truth))])  # the last column is for the intercepts
    mean = np.hstack([np.eye(n_labels) / n_models] * n_models + [np.zeros((n_labels, 1))])
    wanted = np.eye(n_labels)[truth]

    def loss(values: Array) -> tuple[float, Array]:
        """Negative log-likelihood with its penalty, and its slope."""
        away = values.reshape(mean.shape)
        said = softmax(heard @ (mean + away).T)
        own = np.maximum((said * wanted).sum(axis=1), np.finfo(float).tiny)
        slope = (said - wanted).T @ heard + away / strength
        return float(-np.log(own).sum() + (away**2).sum() / (2 * strength)), slope.ravel()

    found = minimize(loss, np.zeros(mean.size), jac=True, method="L-BFGS-B", options={"maxiter": 1_000})
    weights = mean + found.x.reshape(mean.shape)
    return Stacked(weights[:, :-1], weights[:, -1], floor)


def _weighted(members: Array, truth: NDArray[np.intp]) -> Weighted:
    return Weighted(mixture_weights(members, truth))


def _validation_folds(truth: NDArray[np.intp], groups: Sequence[str] | None) -> NDArray[np.intp]:
    """Deal validation tracks to folds, artists whole and labels spread evenly, shape (n_tracks,)."""
    numbers = np.arange(len(truth))
    if groups is not None:
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    fold = grouped_folds(truth, numbers, _N_FOLDS, _SEED)
    return np.where(fold == ALWAYS_TRAIN, 0, fold)  # whose label is in no other fold: the mean answers for it


def _out_of_fold(
    members: Array,
    truth: NDArray[np.intp],
    fold: NDArray[np.intp],
    fit: Callable[[Array, NDArray[np.intp]], Mixture],
) -> Array:
    """Answers to tracks by mixtures that were fitted to the other folds, shape (n_tracks, n_labels)."""
    said = members.mean(axis=0)
    for number in np.unique(fold):
        held = fold == number
        if not held.all():  # of a single artist there is nothing else to fit to
            said[held] = fit(members[:, ~held], truth[~held])(members[:, held])
    return np.asarray(said)


def _known(values: set[int] | set[int | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return ", ".join(map(str, known)) if known else "none"
