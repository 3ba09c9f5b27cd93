"""Members of ensembles: which runs may answer together, their answers in one order, and what mixes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from musicgenre.data.manifest import Manifest
from musicgenre.errors import RunError, UsageError, needing
from musicgenre.evaluation.compare import check_same_question
from musicgenre.evaluation.protocols import is_leaky
from musicgenre.models.pooling import SMALLEST, Array, Stacked, evidence
from musicgenre.runs.folder import Run, open_runs
from musicgenre.runs.predictions import Predictions

MixtureKind = Literal["mean", "weighted", "stacking"]
"""How the models of an ensemble answer together; `how` in `run.json` and on the command line."""

MIXTURES: tuple[MixtureKind, ...] = get_args(MixtureKind)
FITTED: tuple[MixtureKind, ...] = ("weighted", "stacking")
"""Those that learn from validation tracks."""

STACKING_C = 1.0
"""Inverse strength of the penalty on stacking's coefficients; fixed, so that nothing has to choose it."""

_N_STEPS = 500  # of expectation-maximisation
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

        if part == "validation" and (reason := _fitted_to_validation(run)):
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
    with needing("stacking", "train"):
        from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=STACKING_C, max_iter=2_000).fit(evidence(members), truth)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(intercepts) == 1:  # of two labels scikit-learn keeps the second alone, against 0
        coefficients, intercepts = np.vstack([0.0 * coefficients, coefficients]), np.append(0.0, intercepts)
    return Stacked(coefficients, intercepts)


def _fitted_to_validation(run: Run) -> str:
    """Why the answers to validation tracks are no honest ones; empty where they are."""
    if run.info.get("ensemble", {}).get("how") in FITTED:
        return "is an ensemble that was fitted to its validation tracks"
    path = run.files.recipe
    if not path.is_file():
        return ""

    from musicgenre._yaml import read_yaml

    try:
        recipe = read_yaml(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error})", next_step="Train this run again") from error
    training = recipe.get("training") if isinstance(recipe, dict) else None
    if isinstance(training, dict) and training.get("fit_on") == "train+validation":
        return "was fitted to its validation tracks too"
    return ""


def _known(values: set[int] | set[int | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return ", ".join(map(str, known)) if known else "none"
