"""Compare two taggers on the tracks that both were tested on: areas under both curves, paired by track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre.audio.names import printable
from musicgenre.errors import RunError
from musicgenre.evaluation._same_question import check_same_question
from musicgenre.evaluation.metrics import Estimate
from musicgenre.evaluation.tag_evaluate import (
    METHOD,
    Answers,
    Float64,
    answers_of,
    centred,
    drawn_areas,
    nanmean,
    require_tagger,
)
from musicgenre.models.pooling import Pooling
from musicgenre.runs.runs import Run, open_runs

_MEASURES = ("mean ROC-AUC", "mean PR-AUC")


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of both taggers on the same tracks and tags.

    Parameters
    ----------
    measure : str
        What is compared.
    first, second : float
        Mean over tags and seeds.
    difference : Estimate
        Second minus first, with the 95 % interval of a paired, centred bootstrap over tracks.
    p_value : float
        Twice the smaller share of draws on either side of no difference, as that bootstrap has it.
    """

    measure: str
    first: float
    second: float
    difference: Estimate
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TagComparison:
    """How two taggers differ on the same tracks.

    Parameters
    ----------
    first, second : str
        Names of the runs.
    protocol : str
        The protocol that both stand under.
    n_tracks, n_tags : int
        Tracks that both were tested on, and tags measured on them.
    n_seeds : (int, int)
        Number of seeds of each.
    differences : tuple of Difference
        Both areas.
    warnings : tuple of str
        What a reader must know.
    """

    first: str
    second: str
    protocol: str
    n_tracks: int
    n_tags: int
    n_seeds: tuple[int, int]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"task": "multi_label", **asdict(self)}

    def to_text(self) -> str:
        """Plain text for the terminal."""
        lines = [
            f"{self.second} against {self.first}",
            f"  protocol {self.protocol}, test part, {self.n_tracks} tracks that both answered, {self.n_tags} tags, "
            f"{self.n_seeds[0]} and {self.n_seeds[1]} seeds",
            *(f"  ! {warning}." for warning in self.warnings),
        ]
        for entry in self.differences:
            found = entry.difference
            verdict = "the two differ" if found.low > 0 or found.high < 0 else "no difference can be told from chance"
            lines += [
                f"  {entry.measure}: {entry.first:.3f} and {entry.second:.3f}",
                f"    difference {found.value:+.3f} (95 % interval {found.low:+.3f} to {found.high:+.3f}, paired "
                f"{found.method}), p = {entry.p_value:.3f}: {verdict}",
            ]
        return "\n".join(lines) + "\n"


def compare_tags(first: str | Path, second: str | Path, *, how: Pooling | None = None) -> TagComparison:
    """Compare two taggers (or groups of seeds and folds) on the test tracks they share.

    Raises
    ------
    RunError
        One of them names labels; or they share no test track, or disagree about protocol, tags or a track's tags.
    """
    groups = [open_runs(Path(folder)) for folder in (first, second)]
    for runs in groups:
        require_tagger(runs[0])
    check_same_question(groups[0][0], groups[1][0])
    answers = [_answers(runs, how or runs[0].scoring) for runs in groups]
    known = [set(group[0].tracks.track_ids) for group in answers]
    shared = tuple(track_id for track_id in answers[0][0].tracks.track_ids if track_id in known[1])
    if not shared:
        raise RunError("the two runs share no test track", next_step="Train both on the same manifest and split")
    tags = answers[0][0].tracks.tags
    paired = [[_chosen(seed, shared, tags) for seed in group] for group in answers]
    _check_same_truth(paired, shared)
    drawn = [drawn_areas(group) for group in paired]
    measured = ~np.isnan(drawn[0][0, 0] + drawn[1][0, 0])
    if not measured.any():
        raise RunError("the shared test tracks tell nothing about any tag", next_step="Compare on a larger test part")
    means = [[nanmean(figures[:, measured], 1) for figures in areas] for areas in drawn]
    fewer = len(shared) < max(map(len, known))
    return TagComparison(
        first=printable(Path(first).resolve().name),
        second=printable(Path(second).resolve().name),
        protocol=groups[0][0].protocol,
        n_tracks=len(shared),
        n_tags=int(measured.sum()),
        n_seeds=(len(answers[0]), len(answers[1])),
        differences=tuple(_difference(name, a, b, len(shared)) for name, a, b in zip(_MEASURES, *means, strict=True)),
        warnings=(f"only {len(shared)} tracks are shared, of {len(known[0])} and {len(known[1])}",) * fewer
        + ("the targets are another model's answers: agreement, not accuracy",) * answers[0][0].tracks.soft,
    )


def _answers(runs: Sequence[Run], how: Pooling) -> list[Answers]:
    seeds = sorted({run.seed for run in runs})
    return [answers_of([run for run in runs if run.seed == seed], "test", how) for seed in seeds]


def _chosen(seed: Answers, shared: Sequence[str], tags: tuple[str, ...]) -> Answers:
    """Take the shared tracks and the tags of the first run, in its order."""
    tracks = seed.tracks
    row_of = {track_id: row for row, track_id in enumerate(tracks.track_ids)}
    rows = np.array([row_of[track_id] for track_id in shared])
    place = np.ix_(rows, np.array([tracks.tags.index(tag) for tag in tags]))
    kept = replace(
        tracks,
        tags=tags,
        track_ids=tuple(shared),
        starts_s=np.zeros(len(rows)),
        truth=tracks.truth[place],
        scores=tracks.scores[place],
    )
    return Answers(kept, seed.thresholds[place], seed.means[place])


def _difference(measure: str, first: Float64, second: Float64, n_tracks: int) -> Difference:
    value = float(second[0] - first[0])
    draws = centred(second - first)
    low, high = np.quantile(draws, [0.025, 0.975])
    smaller = min((draws <= 0).sum(), (draws >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(smaller)) / (1 + len(draws)))
    found = Estimate(value, float(low), float(high), METHOD, n_tracks)
    return Difference(measure, float(first[0]), float(second[0]), found, p_value)


def _check_same_truth(groups: Sequence[Sequence[Answers]], shared: Sequence[str]) -> None:
    truth = groups[0][0].tracks.truth
    for seed in (seed for group in groups for seed in group):
        same = ((truth == seed.tracks.truth) | (np.isnan(truth) & np.isnan(seed.tracks.truth))).all(axis=1)
        if not same.all():
            raise RunError(f"track {shared[int(np.argmin(same))]!r} has different tags in the two runs")
