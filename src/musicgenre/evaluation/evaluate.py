"""Evaluate a run, or a group of seeds and folds, from the predictions it left behind.

The task decides what is measured. The folds of one seed are pooled, so that each track counts once; seeds are
averaged. Thresholds of tags are fitted on the validation part of the very run whose test part they decide about: the
test part chooses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._text import how_many
from musicgenre.data.manifest import Manifest
from musicgenre.data.targets import tag_targets
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.metrics import (
    Estimate,
    Float64,
    areas,
    centred_estimate,
    class_metrics,
    confusion_matrix,
    correlation,
    decide,
    draw_weights,
    estimate_accuracy,
    fitted_thresholds,
    interval_of_ratio,
    macro_f1,
    majority_share,
    nanmean,
)
from musicgenre.evaluation.protocols import caveats, check_split, fitted_to_validation, is_leaky
from musicgenre.evaluation.report import (
    Agreement,
    ClassScore,
    Curve,
    Decisions,
    LabelReport,
    Report,
    SeedScore,
    TagReport,
    TagScore,
)
from musicgenre.models.pooling import POOLINGS, Pooling
from musicgenre.runs.folder import Run, names_of_runs, open_runs
from musicgenre.runs.predictions import Predictions, TagPredictions, concatenate

PARTS = ("test", "validation")

N_DRAWS = 1_000
"""Draws of tracks behind the intervals of areas."""

_BLOCK = 10  # draws at a time; another number gives other draws
_FEW_TRACKS = 300
"""Fewer tracks than these are worth a warning."""

_PARTS_OF_BALANCE = ("train", "train (augmented)", "validation", "test", "unassigned")


def evaluate(folder: str | Path, *, part: str = "test", pooling: Pooling | None = None) -> Report:
    """Score a run folder or a group of them.

    Parameters
    ----------
    folder : str or Path
        A run folder, or a group of runs with its `group.json`.
    part : {"test", "validation"}
        Which predictions to score. The validation part chose the checkpoint and the thresholds: it flatters.
    pooling : {"mean", "max", "vote"}, optional
        How the segments of a track score together for the headline; what the recipe says by default. Tags take no
        vote.

    Returns
    -------
    LabelReport or TagReport
        As the run was trained.

    Raises
    ------
    RunError
        A run is missing, unfinished, damaged or from a newer version.
    UsageError
        There is no such part, or no such pooling.
    """
    check_part(part)
    runs = open_runs(Path(folder))
    chosen = runs[0].pooling if pooling is None else pooling
    name = names_of_runs([folder])[0]
    if runs[0].is_tagging:
        return _tag_report(name, runs, part, chosen)
    return _label_report(name, runs, part, chosen)


def check_part(part: str) -> None:
    """Raise `UsageError` where there is no such part."""
    if part not in PARTS:
        raise UsageError(f"there is no part {part!r}", valid=f"one of {', '.join(PARTS)}")


def runs_by_seed(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """Take a group of runs apart: seed to one run a fold (one run in all when not k-fold)."""
    seeds: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        seeds.setdefault(run.seed, []).append(run)
    return seeds


def segments_of(folds: Sequence[Run], part: str = "test") -> list[Predictions]:
    """Read what the folds of one seed said of segments.

    Raises
    ------
    RunError
        One cannot be read, or two of them tested one track.
    """
    segments = [run.predictions(part) for run in folds]
    if part == "test":
        _check_each_track_once(segments, folds[0].seed)
    return segments


def track_level(folds: Sequence[Predictions], pooling: Pooling = "mean") -> Predictions:
    """One row per track and fold: the segments of a track score together, models of different folds never do."""
    return concatenate([fold.by_track(pooling) for fold in folds])


class TagAnswers:
    """Track-level answers of one seed of a tagger, its folds pooled.

    Parameters
    ----------
    tracks : TagPredictions
        One row per track.
    thresholds : ndarray, shape (n, k)
        Those of the run that answered each track.
    means : ndarray, shape (n, k)
        Each tag's mean in the training part of that run; NaN where it is not known.
    n_segments : int
        How many segments the tracks were heard in.
    """

    def __init__(self, tracks: TagPredictions, thresholds: Float64, means: Float64, n_segments: int) -> None:
        self.tracks, self.thresholds, self.means, self.n_segments = tracks, thresholds, means, n_segments
        self.presence = tracks.presence()
        self.named = decide(tracks.scores, thresholds)


def tag_answers(folds: Sequence[Run], part: str, pooling: Pooling) -> TagAnswers:
    """Read what the folds of one seed of a tagger said, and pool it.

    Raises
    ------
    RunError
        One cannot be read, or two of them tested one track.
    """
    tracks, thresholds, means, n_segments = [], [], [], 0
    for run in folds:
        segments = run.tag_predictions(part)
        fold = segments.by_track(pooling)
        validation = run.tag_predictions("validation").by_track(pooling)
        tracks.append(fold)
        # every track keeps the thresholds and means of the run that answered it
        thresholds.append(np.tile(fitted_thresholds(validation), (len(fold), 1)))
        means.append(np.tile(_training_means(run, fold), (len(fold), 1)))
        n_segments += len(segments)

    if part == "test":
        _check_each_track_once(tracks, folds[0].seed)
    return TagAnswers(concatenate(tracks), np.concatenate(thresholds), np.concatenate(means), n_segments)


def drawn_areas(seeds: Sequence[TagAnswers], n_draws: int = N_DRAWS) -> Float64:
    """Areas of every tag when tracks are drawn with replacement, mean over seeds.

    Returns
    -------
    ndarray, shape (2, 1 + n_draws, k)
        ROC-AUC and PR-AUC; the first entry counts every track once. NaN where a tag cannot be measured.
    """
    found = np.full((len(seeds), 2, 1 + n_draws, len(seeds[0].tracks.labels)), np.nan)
    for number, seed in enumerate(seeds):
        n_tracks = len(seed.tracks)
        blocks = [(0, np.ones((1, n_tracks)))]
        for start in range(0, n_draws, _BLOCK):
            # the same draws for every seed and run, so that what is compared is paired
            blocks.append((1 + start, draw_weights(n_tracks, start, min(_BLOCK, n_draws - start))))

        for first, weights in blocks:
            by_track = np.ascontiguousarray(weights.T)  # (n_tracks, n_draws)
            for tag, (presence, scores) in enumerate(zip(seed.presence.T, seed.tracks.scores.T, strict=True)):
                found[number, :, first : first + len(weights), tag] = areas(presence, scores, by_track)
    return nanmean(found, 0)


def drawn_macro_f1(
    seeds: Sequence[Predictions], track_ids: Sequence[str] = (), columns: Sequence[int] | None = None
) -> Float64:
    """Macro F1 of tracks when they are drawn with replacement, mean over seeds.

    Parameters
    ----------
    seeds : sequence of Predictions
        One row a track, each.
    track_ids : sequence of str
        The tracks that count, in the order in which they are drawn; all by default.
    columns : sequence of int, optional
        The labels whose F1 counts; all by default.

    Returns
    -------
    ndarray, shape (1 + N_DRAWS,)
        The first entry counts every track once.
    """
    # seeds may have been tested on different tracks
    drawn = track_ids or tuple(dict.fromkeys(track_id for tracks in seeds for track_id in tracks.track_ids))
    position = {track_id: place for place, track_id in enumerate(drawn)}
    kept = []
    for tracks in seeds:
        rows = [row for row, track_id in enumerate(tracks.track_ids) if track_id in position]
        places = [position[tracks.track_ids[row]] for row in rows]
        kept.append((tracks.truth[rows], tracks.predicted[rows], len(tracks.labels), places))

    blocks = [(0, np.ones((1, len(drawn))))]
    for start in range(0, N_DRAWS, _BLOCK):
        # the same draws for every seed and run, so that what is compared is paired
        blocks.append((1 + start, draw_weights(len(drawn), start, min(_BLOCK, N_DRAWS - start))))
    found = np.zeros(1 + N_DRAWS)
    for first, weights in blocks:
        for truth, predicted, n_labels, places in kept:
            found[first : first + len(weights)] += macro_f1(truth, predicted, n_labels, weights[:, places], columns)
    return found / len(kept)


def label_figures(
    seeds: Mapping[int, Sequence[Predictions]], pooling: Pooling, *, only_true_labels: bool = False
) -> dict[str, Any]:
    """Everything of a `LabelReport` that answers alone tell.

    Parameters
    ----------
    seeds : mapping of int to sequence of Predictions
        Answers to segments: of every seed the folds, each track in one of them.
    pooling : {"mean", "max", "vote"}
        How the segments of a track score together for the headline.
    only_true_labels : bool
        Whether all macro means go over the labels that some track has: of one that none has, nothing can be recalled.
    """
    labels = next(iter(seeds.values()))[0].labels
    counted: list[int] | None = None
    if only_true_labels:
        truths = [rows.truth for folds in seeds.values() for rows in folds]
        counted = np.unique(np.concatenate(truths)).tolist()

    # Each seed by itself: its folds together are one answer to every track.
    tracks, segments, scores, metrics, confusions, majorities = [], [], [], [], [], []
    for seed, folds in seeds.items():
        of_tracks, of_segments = track_level(folds, pooling), concatenate(folds)
        confusion = confusion_matrix(of_tracks.truth, of_tracks.predicted, len(labels))
        of_classes = class_metrics(confusion)
        segment_accuracy = estimate_accuracy([of_segments]).value
        scores.append(SeedScore(seed, estimate_accuracy([of_tracks]), segment_accuracy, of_classes.macro(counted)[2]))
        tracks.append(of_tracks)
        segments.append(of_segments)
        metrics.append(of_classes)
        confusions.append(confusion)
        majorities.append(majority_share(of_tracks.truth))

    # Scores of each label, and their means over labels, are averaged over seeds.
    columns = np.mean([[own.precision, own.recall, own.f1, own.support] for own in metrics], axis=0)  # (4, n_labels)
    classes = []
    for label, column in zip(labels, columns.T.tolist(), strict=True):
        classes.append(ClassScore(label, *column))
    support = float(columns[3].sum())
    macro = [*np.mean([own.macro(counted) for own in metrics], axis=0).tolist(), support]
    weighted = [*np.mean([own.weighted() for own in metrics], axis=0).tolist(), support]

    accuracy = estimate_accuracy(tracks)
    f1 = centred_estimate(drawn_macro_f1(tracks, columns=counted), accuracy.n_tracks)
    if f1.low == f1.high:  # every track is right, or none: no draw of them varies
        low, high = min(f1.value, accuracy.low), max(f1.value, accuracy.high)
        f1 = replace(f1, low=low, high=high, method=f"{accuracy.method}, of accuracy")
    accuracy_sd = None
    if len(scores) > 1:
        accuracy_sd = float(np.std([own.accuracy.value for own in scores], ddof=1))
    by_pooling: dict[str, Estimate] = {}
    for other in POOLINGS:
        by_pooling[other] = estimate_accuracy([track_level(folds, other) for folds in seeds.values()])

    # seeds may have been tested on different tracks
    return {
        "labels": labels,
        "n_tracks": accuracy.n_tracks,
        "n_segments": round(float(np.mean([len(rows) for rows in segments]))),
        "accuracy": accuracy,
        "accuracy_sd": accuracy_sd,
        "macro_f1": f1,
        "segment_accuracy": estimate_accuracy(segments),
        "accuracy_by_pooling": by_pooling,
        "majority_share": float(np.mean(majorities)),
        "seeds": tuple(scores),
        "classes": tuple(classes),
        "macro": ClassScore("macro", *macro),
        "weighted": ClassScore("weighted", *weighted),
        "confusion": np.mean(confusions, axis=0, dtype=np.float64),
    }


def _label_report(name: str, runs: Sequence[Run], part: str, pooling: Pooling) -> LabelReport:
    seeds = {seed: segments_of(folds, part) for seed, folds in runs_by_seed(runs).items()}
    figures = label_figures(seeds, pooling)
    manifests = _manifests(runs)
    facts = _common(name, runs, manifests, part, pooling, figures["n_tracks"], figures["n_segments"])
    return LabelReport(
        **{**facts, **figures},
        balance=_balance(manifests[0]) if manifests else {},
        members=_members(runs),
    )


def tag_figures(seeds: Sequence[TagAnswers], part: str = "test") -> dict[str, Any]:
    """Everything of a `TagReport` that answers alone tell.

    Parameters
    ----------
    seeds : sequence of TagAnswers
        One entry a seed.
    part : str
        What the tracks are called where they tell nothing.

    Raises
    ------
    RunError
        No tag is present on one track and absent from another.
    """
    first = seeds[0].tracks

    # Tags that no track of the part has, or every one, have no area: they are named and left out of all means.
    drawn = drawn_areas(seeds)
    measured = ~np.isnan(drawn[0, 0])
    if not measured.any():
        raise RunError(f"the {part} part tells nothing about any tag", next_step="Split again with a larger part")
    roc_auc, pr_auc = (centred_estimate(nanmean(figures[:, measured], 1), first.n_tracks) for figures in drawn)
    per_seed = np.array([nanmean(drawn_areas([seed], 0)[:, 0], 1) for seed in seeds])  # (n_seeds, 2)
    spreads = per_seed.std(axis=0, ddof=1).tolist() if len(seeds) > 1 else [None, None]

    left_out = [tag for tag, known in zip(first.labels, measured, strict=True) if not known]
    return {
        "tags": first.labels,
        "n_tracks": first.n_tracks,
        "n_segments": round(float(np.mean([seed.n_segments for seed in seeds]))),
        "roc_auc": roc_auc,
        "pr_auc": pr_auc,
        "roc_auc_sd": spreads[0],
        "pr_auc_sd": spreads[1],
        "chance_pr_auc": float(np.mean([nanmean(seed.presence[:, measured], 0).mean() for seed in seeds])),
        "left_out": tuple(left_out),
        "decisions": _decisions(seeds, measured),
        "scores": _tag_scores(seeds, drawn),
        "agreement": _agreement(seeds) if first.soft else None,
    }


def _tag_report(name: str, runs: Sequence[Run], part: str, pooling: Pooling) -> TagReport:
    seeds = [tag_answers(folds, part, pooling) for folds in runs_by_seed(runs).values()]
    figures = tag_figures(seeds, part)
    n_tracks, n_segments = figures["n_tracks"], figures["n_segments"]
    facts = _common(name, runs, _manifests(runs), part, pooling, n_tracks, n_segments, soft=seeds[0].tracks.soft)
    if figures["roc_auc"].low == figures["roc_auc"].high:
        facts["warnings"] += ("every draw of tracks gives the same areas: the interval says nothing",)
    return TagReport(**{**facts, **figures}, seeds=tuple(runs_by_seed(runs)))


def _common(
    name: str,
    runs: Sequence[Run],
    manifests: Sequence[Manifest],
    part: str,
    pooling: Pooling,
    n_tracks: int,
    n_segments: int,
    *,
    soft: bool = False,
) -> dict[str, Any]:
    """Fields that reports on both tasks share; `soft` where the targets are another model's answers."""
    first = runs[0]
    check = check_split(manifests, part, chose_weights=first.chose_weights)
    warnings = caveats(first.protocol, check)
    if soft:
        warnings.insert(0, "the targets are another model's answers: this is agreement with a teacher, not accuracy")
    if part == "validation" and (reason := fitted_to_validation(first)):
        warnings.insert(0, f"the run {reason}: this score says nothing about other tracks")
    elif part == "validation" and first.is_tagging:
        warnings.insert(0, "the validation part chose the checkpoint and the thresholds: these scores are flattered")
    elif part == "validation" and first.chose_weights:
        warnings.insert(0, "the validation part chose the checkpoint: this score is flattered")
    if worse := str(first.info.get("ensemble", {}).get("warning", "")):  # what making it found
        warnings.insert(0, worse)
    warnings += warnings_of_few(n_tracks)

    curves = []
    for run in runs:
        if columns := run.curves():
            curves.append(Curve(run.curve_name, columns, run.best_epoch))
    return {
        "name": name,
        "recipe": first.recipe,
        "systems": first.systems,
        "protocol": first.protocol,
        "leaky": is_leaky(first.protocol) or check.n_shared_tracks > 0,
        "warnings": tuple(warnings),
        "part": part,
        "pooling": pooling,
        "n_tracks": n_tracks,
        "n_segments": n_segments,
        "n_folds": len({run.fold for run in runs}),
        "parameter_count": first.parameter_count,
        "curves": tuple(curves),
        "continued": _continued_in_words(runs),
    }


def warnings_of_few(n_tracks: int) -> list[str]:
    """Say of a report on few tracks that it is one; nothing where they are many."""
    if n_tracks >= _FEW_TRACKS:
        return []
    are_few = f"{how_many(n_tracks, 'track')} {'is' if n_tracks == 1 else 'are'} few"
    return [f"{are_few}: differences within the interval mean nothing"]


def _continued_in_words(runs: Sequence[Run]) -> tuple[str, ...]:
    """How finished runs were given more epochs: what changed, and on which day; said once of all that were alike."""
    told: Counter[str] = Counter()
    for run in runs:
        for entry in run.continued:
            changes = ", ".join(f"{name} {before} to {now}" for name, (before, now) in entry["settings"].items())
            told[
                f"from epoch {entry['from_epoch']} to {entry['to_epoch']} on {entry['started'][:10]} ({changes})"
            ] += 1
    if len(runs) == 1:
        return tuple(told)
    return tuple(f"{n} of {len(runs)} runs, {words}" for words, n in told.items())


def _manifests(runs: Sequence[Run]) -> list[Manifest]:
    """Manifests of the first seed's runs, one a fold; all seeds have the same."""
    found = []
    for run in runs:
        manifest = run.manifest() if run.seed == runs[0].seed else None
        if manifest is not None:
            found.append(manifest)
    return found


def _check_each_track_once(folds: Sequence[Predictions] | Sequence[TagPredictions], seed: int) -> None:
    seen: set[str] = set()
    for fold in folds:
        if again := seen.intersection(fold.track_ids):
            raise RunError(
                f"seed {seed}: track {min(again)!r} stands in the test part of two folds",
                valid="each track is tested once a seed",
            )
        seen.update(fold.track_ids)


def _balance(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Rows of each label in every part, the parts in their order."""
    counts: dict[str, Counter[str]] = {}
    for track in manifest.tracks:
        part = (track.split or "unassigned") + (" (augmented)" if track.augmented else "")
        counts.setdefault(part, Counter())[track.label] += 1

    known = [part for part in _PARTS_OF_BALANCE if part in counts]  # in the order of a training
    others = sorted(set(counts) - set(known))
    return {part: dict(sorted(counts[part].items())) for part in [*known, *others]}


def _members(runs: Sequence[Run]) -> tuple[str, ...]:
    """Name the members of an ensemble, with their weights where it has any, mean over its runs."""
    ensembles = [run.info["ensemble"] for run in runs if run.info.get("ensemble")]
    if not ensembles:
        return ()

    names = [str(member.get("recipe", member["folder"])) for member in ensembles[0]["members"]]
    weights = [one["weights"] for one in ensembles if len(one.get("weights") or ()) == len(names)]
    if not weights:  # stacking has none
        return tuple(f"{name} ({ensembles[0]['how']})" for name in names)
    means = np.mean(weights, axis=0)
    return tuple(f"{name} (weight {weight:.2f})" for name, weight in zip(names, means, strict=True))


def _counts(seed: TagAnswers) -> tuple[Float64, Float64, Float64, Float64]:
    """Tracks that have each tag, that are given it, both, and tracks of which it is known; shape (k,) each."""
    known = ~np.isnan(seed.presence)
    present, named = np.nan_to_num(seed.presence), (seed.named & known).astype(float)
    return present.sum(axis=0), named.sum(axis=0), (present * named).sum(axis=0), known.sum(axis=0).astype(float)


def _f1(present: Float64, named: Float64, both: Float64) -> Float64:
    # where a tag is neither there nor named, 0 of nothing is 0
    return np.asarray(2 * both / np.maximum(present + named, 1.0))


def _decisions(seeds: Sequence[TagAnswers], measured: NDArray[np.bool_]) -> Decisions:
    rows = []
    for seed in seeds:
        present, named, both, known = _counts(seed)
        wrong = present.sum() + named.sum() - 2 * both.sum()  # missed, and named in vain
        micro = _f1(present.sum(), named.sum(), both.sum())
        macro = _f1(present, named, both)[measured].mean()
        rows.append((micro, macro, 1 - wrong / known.sum(), 1 - present.sum() / known.sum()))
    return Decisions(*(float(value) for value in np.mean(rows, axis=0)))


def _tag_scores(seeds: Sequence[TagAnswers], drawn: Float64) -> tuple[TagScore, ...]:
    """Scores of every tag, averaged over seeds; its areas and their draws are `drawn`, shape (2, 1 + n_draws, k)."""
    rows = []
    for seed in seeds:
        present, named, both, known = _counts(seed)
        precision, recall = both / np.maximum(named, 1.0), both / np.maximum(present, 1.0)
        thresholds = seed.thresholds.mean(axis=0)
        rows.append((present, known, thresholds, precision, recall, _f1(present, named, both)))
    columns = np.mean(rows, axis=0)  # (6, k)

    scores = []
    for number, tag in enumerate(seeds[0].tracks.labels):
        n_present, n_known, *decided = columns[:, number].tolist()
        roc_auc, pr_auc = None, None
        if not np.isnan(drawn[0, 0, number]):
            roc_auc, pr_auc = (centred_estimate(figures[:, number], round(n_known)) for figures in drawn)
        scores.append(TagScore(tag, n_present, n_known, roc_auc, pr_auc, *decided))
    return tuple(scores)


def _agreement(seeds: Sequence[TagAnswers]) -> Agreement:
    """Hold the scores against soft targets; the baseline says each tag's mean of the run's training part."""
    n_tracks = len(seeds[0].tracks)
    weights = np.concatenate([np.ones((1, n_tracks)), draw_weights(n_tracks, 0, N_DRAWS)])
    errors, baselines, correlations = [], [], []
    for seed in seeds:
        truth, scores = seed.tracks.truth, seed.tracks.scores
        errors.append(nanmean(np.abs(scores - truth), 1))
        baselines.append(nanmean(np.abs(seed.means - truth), 1))
        by_tag = [correlation(said, true, weights) for said, true in zip(scores.T, truth.T, strict=True)]
        correlations.append(nanmean(np.stack(by_tag), 0))

    error, baseline = np.mean(errors, axis=0), np.mean(baselines, axis=0)  # (n_tracks,)
    return Agreement(
        mean_absolute_error=_over_tracks(error),
        baseline_error=float(np.nanmean(baseline)),
        improvement=_over_tracks(baseline - error),
        pearson=centred_estimate(np.mean(correlations, axis=0), n_tracks, least=-1.0),
    )


def _over_tracks(values: Float64) -> Estimate:
    known = values[~np.isnan(values)]
    return Estimate(float(known.mean()), *interval_of_ratio(known), "bootstrap over tracks", len(known))


def _training_means(run: Run, tracks: TagPredictions) -> Float64:
    """Each tag's mean in the training part, from the run's own manifest, shape (k,); NaN of hard tags: none asks."""
    manifest = run.manifest()
    if manifest is None or not tracks.soft:
        return np.full(len(tracks.labels), np.nan)

    train = manifest.with_tracks(track for track in manifest.tracks if track.split == "train" and not track.augmented)
    return nanmean(tag_targets(train, "columns", tracks.labels).table.astype(np.float64), 0)
