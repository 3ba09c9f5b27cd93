"""Evaluate a run, or a group of seeds and folds, from the predictions it left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from musicgenre.audio.names import printable
from musicgenre.data.manifest import Manifest
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.metrics import (
    ClassMetrics,
    class_metrics,
    confusion_matrix,
    estimate_accuracy,
    majority_share,
)
from musicgenre.evaluation.protocols import caveats, check_split, is_leaky
from musicgenre.evaluation.report import ClassScore, Curve, Report, SeedScore
from musicgenre.models.pooling import POOLINGS, Pooling
from musicgenre.runs.predictions import Predictions, concatenate
from musicgenre.runs.runs import Run, open_runs

PARTS = ("test", "validation")

_CLASS_COLUMNS = ("precision", "recall", "f1", "support")

Folds = Sequence[Predictions]
"""Predictions of one seed, one entry a fold (one entry in all when not k-fold)."""


def evaluate(folder: str | Path, *, part: str = "test", how: Pooling | None = None) -> Report:
    """Score a run folder or a group of them.

    The folds of one seed are pooled, so that each track counts once; seeds are averaged.

    Parameters
    ----------
    folder : str or Path
        A run folder, or a group of runs with its ``group.json``.
    part : {"test", "validation"}
        Which predictions to score. The validation part chose the checkpoint: its scores are flattered.
    how : {"mean", "max", "vote"}, optional
        How the segments of a track score together for the headline; what the recipe says by default.

    Returns
    -------
    Report

    Raises
    ------
    RunError
        A run is missing, unfinished, damaged or from a newer version.
    """
    if part not in PARTS:
        raise UsageError(f"there is no part {part!r}", valid=f"one of {', '.join(PARTS)}")
    runs = open_runs(Path(folder))
    how = runs[0].scoring if how is None else how
    return build_report(printable(Path(folder).resolve().name), runs, by_seed(runs, part), part=part, how=how)


def by_seed(runs: Sequence[Run], part: str = "test") -> dict[int, Folds]:
    """Read the predictions of a group of runs: seed to one entry a fold."""
    found: dict[int, Folds] = {}
    for seed in sorted({run.seed for run in runs}):
        folds = [run.predictions(part) for run in runs if run.seed == seed]
        if part == "test":
            _check_each_track_once(folds, seed)
        found[seed] = folds
    return found


def track_level(folds: Folds, how: Pooling = "mean") -> Predictions:
    """One row a track and fold: the segments of a track score together, models of different folds never do."""
    return concatenate([fold.by_track(how) for fold in folds])


def build_report(
    name: str, runs: Sequence[Run], seeds: Mapping[int, Folds], *, part: str = "test", how: Pooling = "mean"
) -> Report:
    """Score predictions that are at hand already; :func:`evaluate` reads them from a folder."""
    first, labels = runs[0], runs[0].labels
    segments = {seed: concatenate(folds) for seed, folds in seeds.items()}
    tracks = {seed: track_level(folds, how) for seed, folds in seeds.items()}
    manifests = [manifest for run in runs if run.seed == first.seed and (manifest := run.manifest()) is not None]
    confusions = [confusion_matrix(rows.truth, rows.predicted, len(labels)) for rows in tracks.values()]
    metrics = [class_metrics(confusion) for confusion in confusions]
    scores = tuple(
        SeedScore(
            seed=seed,
            accuracy=estimate_accuracy([tracks[seed]]),
            segment_accuracy=estimate_accuracy([segments[seed]]).value,
            macro_f1=scores.macro()[2],
        )
        for seed, scores in zip(seeds, metrics, strict=True)
    )
    accuracy = estimate_accuracy(list(tracks.values()))
    warnings, leaky = _warnings(first, manifests, part, accuracy.n_tracks)
    return Report(
        name=name,
        recipe=first.recipe,
        systems=first.systems,
        protocol=first.protocol,
        leaky=leaky,
        warnings=tuple(warnings),
        part=part,
        how=how,
        labels=labels,
        n_tracks=accuracy.n_tracks,
        n_segments=round(float(np.mean([len(rows) for rows in segments.values()]))),
        n_folds=len({run.fold for run in runs}),
        parameter_count=first.parameter_count,
        accuracy=accuracy,
        accuracy_sd=_spread([score.accuracy.value for score in scores]),
        segment_accuracy=estimate_accuracy(list(segments.values())),
        accuracy_by_pooling={
            pooling: estimate_accuracy([track_level(folds, pooling) for folds in seeds.values()])
            for pooling in POOLINGS
        },
        majority_share=float(np.mean([majority_share(rows.truth) for rows in tracks.values()])),
        seeds=scores,
        classes=_class_scores(metrics, labels),
        macro=_mean_score("macro", metrics, [seed.macro() for seed in metrics]),
        weighted=_mean_score("weighted", metrics, [seed.weighted() for seed in metrics]),
        confusion=np.mean(confusions, axis=0, dtype=np.float64),
        balance=_balance(manifests[0]) if manifests else {},
        curves=tuple(Curve(run.curve_name, columns) for run in runs if (columns := run.curves())),
        members=_members(runs),
    )


def _members(runs: Sequence[Run]) -> tuple[str, ...]:
    """Name the members of an ensemble, with their weights where it has any, mean over its runs."""
    made = [run.info["ensemble"] for run in runs if run.info.get("ensemble")]
    if not made:
        return ()
    names = [str(member.get("recipe", member["folder"])) for member in made[0]["members"]]
    weights = [one["weights"] for one in made if len(one.get("weights") or ()) == len(names)]
    if not weights:
        return tuple(f"{name} ({made[0]['how']})" for name in names)
    return tuple(f"{name} (weight {weight:.2f})" for name, weight in zip(names, np.mean(weights, axis=0), strict=True))


def _check_each_track_once(folds: Folds, seed: int) -> None:
    seen: set[str] = set()
    for fold in folds:
        again = seen.intersection(fold.track_ids)
        if again:
            raise RunError(
                f"seed {seed}: track {min(again)!r} stands in the test part of two folds",
                valid="each track is tested once a seed",
            )
        seen.update(fold.track_ids)


def _class_scores(metrics: Sequence[ClassMetrics], labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """Average the scores of each label over seeds."""
    columns = [np.mean([getattr(seed, name) for seed in metrics], axis=0) for name in _CLASS_COLUMNS]
    return tuple(ClassScore(label, *(float(column[row]) for column in columns)) for row, label in enumerate(labels))


def _mean_score(name: str, metrics: Sequence[ClassMetrics], means: Sequence[tuple[float, float, float]]) -> ClassScore:
    precision, recall, f1 = (float(value) for value in np.mean(means, axis=0))
    return ClassScore(name, precision, recall, f1, float(np.mean([seed.support.sum() for seed in metrics])))


def _warnings(run: Run, manifests: Sequence[Manifest], part: str, n_tracks: int) -> tuple[list[str], bool]:
    check = check_split(manifests)
    found = caveats(run.protocol, check)
    if part == "validation":
        found.insert(0, "the validation part chose the checkpoint: this score is flattered")
    if n_tracks < 300:
        found.append(f"{n_tracks} tracks are few: differences within the interval mean nothing")
    return found, is_leaky(run.protocol) or check.n_shared_tracks > 0


def _spread(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _balance(manifest: Manifest) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for track in manifest.tracks:
        part = (track.split or "unassigned") + (" (augmented)" if track.augmented else "")
        counts.setdefault(part, Counter())[track.label] += 1
    order = ("train", "train (augmented)", "validation", "test", "unassigned")
    parts = sorted(counts, key=lambda part: (order.index(part) if part in order else len(order), part))
    return {part: dict(sorted(counts[part].items())) for part in parts}
