"""Evaluate a tagger, or a group of seeds and folds of one, from the predictions it left behind.

Thresholds are fitted on the validation part of the very run whose test part they decide about; the test part chooses
nothing. The unit of every interval is the track.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre.audio.names import printable
from musicgenre.data.manifest import Manifest
from musicgenre.data.targets import tag_targets
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.metrics import Estimate, areas, best_threshold, correlation, decide, resample_ratio
from musicgenre.evaluation.protocols import caveats, check_split
from musicgenre.evaluation.report import Curve
from musicgenre.evaluation.tag_report import Agreement, Decisions, TagReport, TagScore
from musicgenre.models.pooling import Pooling
from musicgenre.runs.runs import Run, open_runs
from musicgenre.runs.tag_predictions import TagPredictions, concatenate_tags

N_DRAWS = 1_000
_BLOCK = 10
_SEED = 20_003
METHOD = "centred bootstrap over tracks"

Float64 = NDArray[np.float64]


def evaluate_tags(folder: str | Path, *, part: str = "test", how: Pooling | None = None) -> TagReport:
    """Score a run folder of a tagger, or a group of them.

    The folds of one seed are pooled, so that each track counts once; seeds are averaged.

    Parameters
    ----------
    folder : str or Path
        A run folder, or a group of runs with its ``group.json``.
    part : {"test", "validation"}
        Which predictions to score. The validation part chose the checkpoint and the thresholds.
    how : {"mean", "max"}, optional
        How the segments of a track score together; what the recipe says by default.

    Raises
    ------
    RunError
        A run is missing, unfinished, damaged, from a newer version, or no tagger.
    """
    if part not in ("test", "validation"):
        raise UsageError(f"there is no part {part!r}", valid="one of test, validation")
    runs = open_runs(Path(folder))
    require_tagger(runs[0])
    how = how or runs[0].scoring
    seeds = {seed: [run for run in runs if run.seed == seed] for seed in sorted({run.seed for run in runs})}
    answers = [answers_of(members, part, how) for members in seeds.values()]
    n_segments = round(float(np.mean([sum(len(run.tag_predictions(part)) for run in m) for m in seeds.values()])))
    return _report(printable(Path(folder).resolve().name), runs, answers, part=part, how=how, n_segments=n_segments)


class Answers:
    """Track-level answers of one seed, its folds pooled.

    Parameters
    ----------
    tracks : TagPredictions
        One row a track.
    thresholds : ndarray, shape (n, k)
        Those of the run that answered each track.
    means : ndarray, shape (n, k)
        Each tag's mean in the training part of that run; NaN where it is not known.
    """

    def __init__(self, tracks: TagPredictions, thresholds: Float64, means: Float64) -> None:
        self.tracks, self.thresholds, self.means = tracks, thresholds, means
        self.presence = tracks.presence()
        self.named = decide(tracks.scores, thresholds)


def answers_of(runs: Sequence[Run], part: str, how: Pooling) -> Answers:
    """Read the folds of one seed and pool them."""
    folds, thresholds, means = [], [], []
    for run in runs:
        tracks = run.tag_predictions(part).by_track(how)
        folds.append(tracks)
        thresholds.append(
            np.tile(fitted_thresholds(run.tag_predictions("validation").by_track(how)), (len(tracks), 1))
        )
        means.append(np.tile(_training_means(run, tracks), (len(tracks), 1)))
    pooled = concatenate_tags(folds)
    if part == "test" and pooled.n_tracks < len(pooled):
        raise RunError(
            f"seed {runs[0].seed}: a track stands in the test part of two folds",
            valid="each track is tested once a seed",
        )
    return Answers(pooled, np.concatenate(thresholds), np.concatenate(means))


def fitted_thresholds(validation: TagPredictions) -> Float64:
    """Thresholds of largest F1 on validation tracks, tag by tag, shape (k,)."""
    pairs = zip(validation.presence().T, validation.scores.T, strict=True)
    return np.array([best_threshold(presence, scores) for presence, scores in pairs])


def require_tagger(run: Run) -> None:
    """Refuse a run that names one label a track."""
    if not run.is_tagging:
        raise RunError(
            f"{run.folder} names one label a track, no tags", valid="the folder of a run with task: multi_label"
        )


def drawn_areas(answers: Sequence[Answers], n_draws: int = N_DRAWS) -> Float64:
    """Areas of every tag when tracks are drawn with replacement, mean over seeds.

    Returns
    -------
    ndarray, shape (2, 1 + n_draws, k)
        ROC-AUC and PR-AUC; the first entry counts every track once. NaN where a tag cannot be measured.
    """
    first = answers[0].tracks
    made = np.full((len(answers), 2, 1 + n_draws, len(first.tags)), np.nan)
    for number, seed in enumerate(answers):
        made[number, :, :1] = _areas_of(seed, np.ones((1, len(seed.tracks))))
        for start in range(0, n_draws, _BLOCK):
            weights = draw_weights(len(seed.tracks), start, min(_BLOCK, n_draws - start))
            made[number, :, 1 + start : 1 + start + len(weights)] = _areas_of(seed, weights)
    return nanmean(made, 0)


def draw_weights(n_tracks: int, start: int, n_draws: int) -> Float64:
    """Count how often each track is drawn, shape (n_draws, n_tracks); the same for the same start."""
    random = np.random.default_rng([_SEED, start])
    return random.multinomial(n_tracks, np.full(n_tracks, 1.0 / n_tracks), size=n_draws).astype(np.float64)


def _areas_of(seed: Answers, weights: Float64) -> Float64:
    by_track = np.ascontiguousarray(weights.T)
    pairs = [areas(p, s, by_track) for p, s in zip(seed.presence.T, seed.tracks.scores.T, strict=True)]
    return np.stack([np.stack(column, axis=1) for column in zip(*pairs, strict=True)])  # (2, n_draws, k)


def _report(
    name: str, runs: Sequence[Run], answers: Sequence[Answers], *, part: str, how: Pooling, n_segments: int
) -> TagReport:
    first, tags, n_tracks = runs[0], answers[0].tracks.tags, answers[0].tracks.n_tracks
    drawn = drawn_areas(answers)
    measured = ~np.isnan(drawn[0, 0])
    if not measured.any():
        raise RunError(f"the {part} part tells nothing about any tag", next_step="Split again with a larger part")
    roc_auc, pr_auc = (_estimate(nanmean(figures[:, measured], 1), n_tracks) for figures in drawn)
    per_seed = np.array([nanmean(drawn_areas([seed], 0)[:, 0], 1) for seed in answers])  # (n_seeds, 2)
    spreads = per_seed.std(axis=0, ddof=1).tolist() if len(answers) > 1 else [None, None]
    shares = [nanmean(seed.presence[:, measured], 0).mean() for seed in answers]
    manifests = [manifest for run in runs if run.seed == first.seed and (manifest := run.manifest()) is not None]
    warnings, leaky = _warnings(first, manifests, part, n_tracks, answers[0].tracks.soft)
    if roc_auc.low == roc_auc.high:
        warnings.append("every draw of tracks gives the same areas: the interval says nothing")
    return TagReport(
        name=name,
        recipe=first.recipe,
        systems=first.systems,
        protocol=first.protocol,
        leaky=leaky,
        warnings=tuple(warnings),
        part=part,
        how=how,
        tags=tags,
        n_tracks=n_tracks,
        n_segments=n_segments,
        n_folds=len({run.fold for run in runs}),
        parameter_count=first.parameter_count,
        seeds=tuple(sorted({run.seed for run in runs})),
        roc_auc=roc_auc,
        pr_auc=pr_auc,
        roc_auc_sd=spreads[0],
        pr_auc_sd=spreads[1],
        chance_pr_auc=float(np.mean(shares)),
        left_out=tuple(tag for tag, known in zip(tags, measured, strict=True) if not known),
        decisions=_decisions(answers, measured),
        scores=_tag_scores(answers, drawn),
        agreement=_agreement(answers) if answers[0].tracks.soft else None,
        curves=tuple(Curve(run.curve_name, columns) for run in runs if (columns := run.curves())),
    )


def centred(values: Float64) -> Float64:
    """Draws around the value they belong to: (value, draws ...) to the draws that could be measured, shifted.

    Tracks drawn twice raise the area under a precision-recall curve, and rare tags drop out of some draws. Both move
    the draws as a whole, sometimes past the value itself, so their mean is moved back onto it; their spread stays.
    """
    draws = values[1:][~np.isnan(values[1:])]
    return np.asarray(draws - draws.mean() + values[0]) if draws.size else values[:1]


def _estimate(values: Float64, n_tracks: int) -> Estimate:
    """Make an estimate within -1..1 of (value, draws ...)."""
    low, high = np.clip(np.quantile(centred(values), [0.025, 0.975]), -1.0, 1.0)
    return Estimate(float(values[0]), float(low), float(high), METHOD, n_tracks)


def _counts(seed: Answers) -> tuple[Float64, Float64, Float64, Float64]:
    """Tracks that have each tag, that are given it, both, and tracks of which it is known; shape (k,) each."""
    known = ~np.isnan(seed.presence)
    present, named = np.nan_to_num(seed.presence), seed.named & known
    return present.sum(axis=0), named.sum(axis=0).astype(float), (present * named).sum(axis=0), known.sum(axis=0)


def _f1(present: Float64, named: Float64, both: Float64) -> Float64:
    return np.asarray(2 * both / np.maximum(present + named, 1.0))


def _decisions(answers: Sequence[Answers], measured: NDArray[np.bool_]) -> Decisions:
    rows = []
    for seed in answers:
        present, named, both, known = _counts(seed)
        wrong = present.sum() + named.sum() - 2 * both.sum()
        micro = 2 * both.sum() / max(present.sum() + named.sum(), 1.0)
        macro = _f1(present, named, both)[measured].mean()
        rows.append((micro, macro, 1 - wrong / known.sum(), 1 - present.sum() / known.sum()))
    return Decisions(*(float(value) for value in np.mean(rows, axis=0)))


def _tag_scores(answers: Sequence[Answers], drawn: Float64) -> tuple[TagScore, ...]:
    counts = [_counts(seed) for seed in answers]
    present, known = (np.mean([entry[column] for entry in counts], axis=0) for column in (0, 3))
    precision = np.mean([both / np.maximum(named, 1.0) for _, named, both, _ in counts], axis=0)
    recall = np.mean([both / np.maximum(true, 1.0) for true, _, both, _ in counts], axis=0)
    f1 = np.mean([_f1(*entry[:3]) for entry in counts], axis=0)
    thresholds = np.mean([seed.thresholds.mean(axis=0) for seed in answers], axis=0)
    made = []
    for row, tag in enumerate(answers[0].tracks.tags):
        n_tracks = round(float(known[row]))
        roc_auc, pr_auc = (None if np.isnan(f[0, row]) else _estimate(f[:, row], n_tracks) for f in drawn)
        made.append(
            TagScore(
                tag=tag,
                n_present=float(present[row]),
                n_known=float(known[row]),
                roc_auc=roc_auc,
                pr_auc=pr_auc,
                threshold=float(thresholds[row]),
                precision=float(precision[row]),
                recall=float(recall[row]),
                f1=float(f1[row]),
            )
        )
    return tuple(made)


def _agreement(answers: Sequence[Answers]) -> Agreement:
    """Hold the scores against soft targets; the baseline says each tag's mean of the run's training part."""
    errors, baselines, correlations = [], [], []
    n_tracks = len(answers[0].tracks)
    weights = np.concatenate([np.ones((1, n_tracks)), draw_weights(n_tracks, 0, N_DRAWS)])
    for seed in answers:
        truth = seed.tracks.truth
        errors.append(nanmean(np.abs(seed.tracks.scores - truth), 1))
        baselines.append(nanmean(np.abs(seed.means - truth), 1))
        columns = zip(seed.tracks.scores.T, truth.T, strict=True)
        correlations.append(nanmean(np.stack([correlation(said, true, weights) for said, true in columns]), 0))
    error, baseline = np.mean(errors, axis=0), np.mean(baselines, axis=0)
    return Agreement(
        mean_absolute_error=_over_tracks(error),
        baseline_error=float(np.nanmean(baseline)),
        improvement=_over_tracks(baseline - error),
        pearson=_estimate(np.mean(correlations, axis=0), n_tracks),
    )


def _over_tracks(values: Float64) -> Estimate:
    known = values[~np.isnan(values)]
    low, high = np.quantile(resample_ratio(known, np.ones(len(known))), [0.025, 0.975])
    return Estimate(float(known.mean()), float(low), float(high), "bootstrap over tracks", len(known))


def _training_means(run: Run, tracks: TagPredictions) -> Float64:
    """Each tag's mean in the training part, from the run's own manifest, shape (k,)."""
    manifest = run.manifest()
    if manifest is None or not tracks.soft:
        return np.full(len(tracks.tags), np.nan)
    train = manifest.with_tracks(t for t in manifest.tracks if t.split == "train" and not t.augmented)
    return nanmean(tag_targets(train, "columns", tracks.tags).table.astype(np.float64), 0)


def _warnings(run: Run, manifests: Sequence[Manifest], part: str, n_tracks: int, soft: bool) -> tuple[list[str], bool]:
    check = check_split(manifests)
    found = caveats(run.protocol, check)
    if soft:
        found.insert(0, "the targets are another model's answers: this is agreement with a teacher, not accuracy")
    if part == "validation":
        found.insert(0, "the validation part chose the checkpoint and the thresholds: these scores are flattered")
    if n_tracks < 300:
        found.append(f"{n_tracks} tracks are few: differences within the interval mean nothing")
    return found, check.n_shared_tracks > 0


def nanmean(values: Float64, axis: int) -> Float64:
    """Mean over an axis without what is NaN; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0))
