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

from musicgenre.data.manifest import Manifest
from musicgenre.errors import RunError, UsageError, needing
from musicgenre.evaluation.compare import check_same_question
from musicgenre.evaluation.protocols import fitted_to_validation, is_leaky
from musicgenre.models.pooling import SMALLEST, Array, Mixture, Stacked, Weighted, evidence, stacking_floor
from musicgenre.runs.folder import Run, open_runs
from musicgenre.runs.predictions import Predictions

MixtureKind = Literal["mean", "weighted", "stacking"]
"""How the models of an ensemble answer together; `how` in `run.json` and on the command line."""

MIXTURES: tuple[MixtureKind, ...] = get_args(MixtureKind)

STACKING_C = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the penalty on stacking's coefficients, among which the validation part chooses."""

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


def fitted_stacking(members: Array, truth: NDArray[np.intp], labels: Sequence[str]) -> Stacked:
    """Fit a multinomial logistic regression to the models' log-probabilities.

    The strength of its penalty is the one of `STACKING_C` under which validation tracks that it was not fitted to are
    most likely; of equally good ones the strongest.

    Parameters
    ----------
    members : ndarray, shape (n_models, n_tracks, n_labels)
        Probabilities.
    truth : ndarray of int, shape (n_tracks,)
        Index of the true label.
    labels : sequence of str
        The labels.

    Raises
    ------
    RunError
        If a label has no validation track.
    MissingExtraError
        There is no scikit-learn.
    """
    absent = [label for index, label in enumerate(labels) if not (truth == index).any()]
    if absent:
        raise RunError(
            f"no validation track has the label {', '.join(absent)}, so that stacking cannot be fitted",
            valid="One validation track of every label at least",
            next_step="Use --how mean, or train with a larger validation part",
        )

    return _regression(members, truth, _chosen_strength(members, truth)[0])


def fitted_mixture(
    kind: MixtureKind, members: Array, truth: NDArray[np.intp], labels: Sequence[str]
) -> tuple[Mixture, Array]:
    """Make what mixes the models' answers, fitted to these validation tracks where it is of a kind that learns.

    Returns
    -------
    (Mixture, ndarray, shape (n_tracks, n_labels))
        The mixture, and the answers that mixtures of its kind give to those of the tracks they were not fitted to.

    Raises
    ------
    RunError
        Stacking cannot be fitted: a label has no validation track.
    """
    if kind == "stacking":
        return fitted_stacking(members, truth, labels), _chosen_strength(members, truth)[1]
    if kind == "weighted":
        return _weighted(members, truth), out_of_fold(members, truth, _weighted)
    mean = Weighted(np.full(len(members), 1.0 / len(members)))
    return mean, mean(members)


def out_of_fold(members: Array, truth: NDArray[np.intp], fit: Callable[[Array, NDArray[np.intp]], Mixture]) -> Array:
    """Answers to validation tracks by mixtures that were fitted to the others, shape (n_tracks, n_labels).

    Parameters
    ----------
    members : ndarray, shape (n_models, n_tracks, n_labels)
        Probabilities.
    truth : ndarray of int, shape (n_tracks,)
        Index of the true label.
    fit : callable
        Takes the members' answers to some tracks, and their true labels; returns what mixes.
    """
    # dealt out label by label, so that every fold has its share of each
    order = np.random.default_rng(_SEED).permutation(len(truth))
    order = order[np.argsort(truth[order], kind="stable")]
    fold = np.empty(len(truth), dtype=np.intp)
    fold[order] = np.arange(len(truth)) % _N_FOLDS

    said = np.empty(members.shape[1:])
    for number in np.unique(fold):
        held = fold == number
        if held.all():  # a single track has no others
            return np.full_like(said, 1.0 / said.shape[1])
        said[held] = fit(members[:, ~held], truth[~held])(members[:, held])
    return said


def _weighted(members: Array, truth: NDArray[np.intp]) -> Weighted:
    return Weighted(mixture_weights(members, truth))


def _chosen_strength(members: Array, truth: NDArray[np.intp]) -> tuple[float, Array]:
    """The penalty under which tracks that stacking was not fitted to are most likely, and its answers to them."""
    best: tuple[float, float, Array] | None = None
    for strength in STACKING_C:  # the strongest first, which is kept where another is no better
        said = out_of_fold(members, truth, partial(_regression, strength=strength))
        loss = float(-np.log(np.maximum(said[np.arange(len(truth)), truth], SMALLEST)).mean())
        if best is None or loss < best[0]:
            best = loss, strength, said
    assert best is not None
    return best[1], best[2]


def _regression(members: Array, truth: NDArray[np.intp], strength: float) -> Stacked:
    """Fit stacking with one inverse strength of the penalty; a label without a track gets next to nothing."""
    with needing("stacking", "train"):
        from sklearn.linear_model import LogisticRegression

    n_models, _, n_labels = members.shape
    floor = stacking_floor(n_labels)
    known = np.unique(truth)
    coefficients = np.zeros((n_labels, n_models * n_labels))
    intercepts = np.full(n_labels, np.log(SMALLEST))
    if len(known) == 1:  # there is nothing to tell apart
        intercepts[known] = 0.0
        return Stacked(coefficients, intercepts, floor)

    fitted = LogisticRegression(C=strength, max_iter=2_000).fit(evidence(members, floor), truth)
    found, offsets = fitted.coef_, fitted.intercept_
    if len(known) == 2:  # of two labels scikit-learn keeps the second alone, against 0
        found, offsets = np.vstack([0.0 * found, found]), np.append(0.0, offsets)
    coefficients[known], intercepts[known] = found, offsets
    return Stacked(coefficients, intercepts, floor)


def _known(values: set[int] | set[int | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return ", ".join(map(str, known)) if known else "none"
