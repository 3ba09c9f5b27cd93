"""Compare two runs on the tracks that both were tested on: a difference counts only against the spread over tracks.

The task of the runs decides what is compared, paired by track: accuracy and macro F1 of labels, or the areas under
both curves of tags. Intervals come from a bootstrap; whether two runs differ is decided by a test (`paired_tests`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._text import how_many
from musicgenre.errors import RunError
from musicgenre.evaluation.evaluate import (
    TagAnswers,
    check_part,
    drawn_areas,
    drawn_macro_f1,
    runs_by_seed,
    segments_of,
    tag_answers,
    track_level,
)
from musicgenre.evaluation.metrics import (
    Estimate,
    Float64,
    centred_estimate,
    interval_of_ratio,
    nanmean,
    p_in_words,
)
from musicgenre.evaluation.paired_tests import LEVEL, areas_test, macro_f1_test, mcnemar, sign_flips
from musicgenre.evaluation.protocols import is_leaky
from musicgenre.models.pooling import Pooling
from musicgenre.runs.folder import Run, names_of_runs, open_runs
from musicgenre.runs.predictions import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(ABC):
    """How two runs differ on the same tracks. Build it with `compare`.

    Parameters
    ----------
    first, second : str
        Names of the runs.
    protocol : str
        The protocol that both stand under.
    part : str
        `test` or `validation`.
    n_tracks : int
        Tracks of that part that both answered.
    n_seeds : (int, int)
        Number of seeds of each.
    warnings : tuple of str
        What a reader must know.
    """

    first: str
    second: str
    protocol: str
    n_tracks: int
    n_seeds: tuple[int, int]
    part: str = "test"
    warnings: tuple[str, ...] = ()

    @property
    @abstractmethod
    def brief(self) -> tuple[str, Estimate, float]:
        """The measure to list comparisons by, empty where there is one alone, its difference and its p value."""

    @abstractmethod
    def difference_in(self, measure: str) -> tuple[Estimate, float]:
        """Second minus first in one of the measures of the runs' reports, and its p value."""

    @abstractmethod
    def to_text(self) -> str:
        """Plain text for the terminal."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self)

    def _head(self, beside: str = "") -> list[str]:
        """Lines that say what is compared on what; `beside` is what counts beside tracks and seeds."""
        n_tracks = how_many(self.n_tracks, "track")
        return [
            f"{self.second} against {self.first}",
            f"  protocol {self.protocol}, {self.part} part, {n_tracks} that both answered, {beside}"
            f"{self.n_seeds[0]} and {how_many(self.n_seeds[1], 'seed')}",
            *(f"  ! {warning}." for warning in self.warnings),
        ]


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of both runs on the same tracks, and the same tags.

    Parameters
    ----------
    measure : str
        What is compared.
    first, second : float
        Mean over labels or tags, and seeds.
    difference : Estimate
        Second minus first, with the 95 % interval of a paired, centred bootstrap over tracks.
    p_value : float
        How often the difference is at least as large where what the two said of a track is exchanged by chance.
    """

    measure: str
    first: float
    second: float
    difference: Estimate
    p_value: float

    def to_text(self) -> str:
        """Two lines for the terminal: what each run has, and how they differ."""
        found = self.difference
        interval = f" (95 % interval {found.low:+.3f} to {found.high:+.3f}, paired {found.method})"
        if found.low == found.high:  # a bootstrap cannot vary what is the same for every track
            interval = ""
        return (
            f"  {self.measure}: {self.first:.3f} and {self.second:.3f}\n"
            f"    difference {found.value:+.3f}{interval}, {p_in_words(self.p_value)} (exchanged answers): "
            f"{_verdict(self.p_value, found.low, found.high)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelComparison(Comparison):
    """How two runs with one label per track differ; what `Comparison` holds, and more.

    Parameters
    ----------
    first_accuracy, second_accuracy : float
        Track-level accuracy on the shared tracks, mean over seeds.
    difference, low, high : float
        Second minus first, with the 95 % interval of a paired bootstrap over tracks.
    p_value : float
        Probability of a difference at least as large if the two were equally good.
    test : str
        `McNemar, exact` where each has one seed, else `sign flips over tracks`.
    only_first, only_second : float
        Tracks that only the first, and only the second, got right (shares of seeds add up).
    macro_f1 : Difference
        The same of F1, mean over labels.
    """

    first_accuracy: float
    second_accuracy: float
    difference: float
    low: float
    high: float
    p_value: float
    test: str
    only_first: float
    only_second: float
    macro_f1: Difference

    def difference_in(self, measure: str) -> tuple[Estimate, float]:
        """Second minus first and its p value; `measure` is `accuracy` or `macro F1`."""
        if measure == "macro F1":
            return self.macro_f1.difference, self.macro_f1.p_value
        found = Estimate(self.difference, self.low, self.high, "bootstrap over tracks", self.n_tracks)
        return found, self.p_value

    @property
    def brief(self) -> tuple[str, Estimate, float]:
        """No name, as accuracy is what everybody means, its difference and its p value."""
        return "", *self.difference_in("accuracy")

    def to_text(self) -> str:
        """Plain text for the terminal."""
        width = max(len(self.first), len(self.second))
        interval = f"95 % interval {self.low:+.3f} to {self.high:+.3f}, paired bootstrap over tracks"
        if self.low == self.high:  # a bootstrap cannot vary what is the same for every track
            interval = "the same on every track, so that nothing tells how far off it may be"
        lines = [
            *self._head(),
            f"  {self.first:<{width}}  {self.first_accuracy:.3f} track-level accuracy",
            f"  {self.second:<{width}}  {self.second_accuracy:.3f} track-level accuracy",
            f"  difference               {self.difference:+.3f} ({interval})",
            f"  only the first right     {self.only_first:g} {'track' if self.only_first == 1 else 'tracks'}; "
            f"only the second right {self.only_second:g}",
            f"  {p_in_words(self.p_value)} ({self.test}): {_verdict(self.p_value, self.low, self.high)}",
            self.macro_f1.to_text(),
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagComparison(Comparison):
    """How two taggers differ; what `Comparison` holds, and more.

    Parameters
    ----------
    n_tags : int
        Tags that could be measured on the shared tracks.
    differences : tuple of Difference
        Both areas.
    """

    n_tags: int
    differences: tuple[Difference, ...]

    @property
    def brief(self) -> tuple[str, Estimate, float]:
        """PR-AUC, which tells more of rare tags, its difference and its p value."""
        found = self.differences[1]
        return "PR-AUC", found.difference, found.p_value

    def difference_in(self, measure: str) -> tuple[Estimate, float]:
        """Second minus first and its p value; `measure` is `mean ROC-AUC` or `mean PR-AUC`."""
        found = next(entry for entry in self.differences if entry.measure == measure)
        return found.difference, found.p_value

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"task": "multi_label", **asdict(self)}

    def to_text(self) -> str:
        """Plain text for the terminal."""
        lines = self._head(f"{how_many(self.n_tags, 'tag')}, ")
        lines += [entry.to_text() for entry in self.differences]
        return "\n".join(lines) + "\n"


def compare(
    first: str | Path, second: str | Path, *, part: str = "test", pooling: Pooling | None = None
) -> Comparison:
    """Compare two runs (or groups of seeds and folds) on the tracks of one part that they share.

    Parameters
    ----------
    first, second : str or Path
        Run folders, or groups of runs.
    part : {"test", "validation"}
        Whose tracks: what is chosen by the validation part leaves the test part untouched.
    pooling : {"mean", "max", "vote"}, optional
        How the segments of a track score together; what each recipe says by default. Tags take no vote.

    Returns
    -------
    LabelComparison or TagComparison
        As the runs were trained.

    Raises
    ------
    RunError
        The two share no track of the part, or disagree about task, protocol, labels or what is true of a track.
    UsageError
        There is no such part.
    """
    check_part(part)
    groups = [open_runs(Path(first)), open_runs(Path(second))]
    check_same_question(groups[0][0], groups[1][0])

    names = names_of_runs([first, second])
    facts: dict[str, Any] = {
        "first": names[0],
        "second": names[1],
        "protocol": groups[0][0].protocol,
        "part": part,
    }
    if groups[0][0].is_tagging:
        return _compare_tags(groups, pooling, facts)
    return _compare_labels(groups, pooling, facts)


def check_same_question(
    first: Run,
    second: Run,
    whose: str = "the two runs",
    *,
    beside: Iterable[tuple[str, str, str]] = (),
    next_step: str = "Train both on the same manifest, under one protocol",
) -> None:
    """Check that two runs stand under one protocol and answer one task with the same labels or tags.

    Parameters
    ----------
    first, second : Run
        The runs.
    whose : str
        What the message calls them.
    beside : iterable of (str, str, str)
        What else must be the same: its name, and what it is in the first and in the second.
    next_step : str
        What to do where they differ, without the full stop.

    Raises
    ------
    RunError
        They differ; the message names in what.
    """
    facts = [
        ("tasks", first.task, second.task),
        ("protocols", first.protocol, second.protocol),
        ("tags" if first.is_tagging else "labels", ", ".join(sorted(first.labels)), ", ".join(sorted(second.labels))),
        *beside,
    ]
    for what, one, other in facts:
        if one != other:
            raise RunError(
                f"{whose} have different {what}: {one} against {other}",
                valid=f"runs that share their {what}",
                next_step=next_step,
            )


def _compare_labels(
    groups: Sequence[Sequence[Run]], pooling: Pooling | None, facts: dict[str, Any]
) -> LabelComparison:
    answers: list[dict[str, list[bool]]] = []  # of each group: track to whether each seed was right
    by_seed: list[list[Predictions]] = []  # of each group: the tracks of each seed
    truths: list[dict[str, str]] = []  # of each seed: track to its label
    n_seeds = []
    for runs in groups:
        right: dict[str, list[bool]] = {}
        seeds = runs_by_seed(runs)
        by_seed.append([])
        for folds in seeds.values():
            tracks = track_level(segments_of(folds, facts["part"]), pooling or runs[0].pooling)
            by_seed[-1].append(tracks)
            truths.append({})
            for track_id, said, true in zip(tracks.track_ids, tracks.predicted, tracks.truth, strict=True):
                right.setdefault(track_id, []).append(bool(said == true))
                truths[-1][track_id] = tracks.labels[int(true)]
        answers.append(right)
        n_seeds.append(len(seeds))

    # Manifests may disagree about a track: then one of the two was marked by a wrong truth.
    shared = _shared_tracks(answers[0], answers[1], facts["part"])
    for track_id in shared:
        labels = {truth[track_id] for truth in truths if track_id in truth}
        if len(labels) > 1:
            raise RunError(f"track {track_id!r} has different labels in the two runs: {', '.join(sorted(labels))}")

    # Each track counts once, by the share of seeds that were right.
    first, second = (np.array([np.mean(right[track_id]) for track_id in shared]) for right in answers)
    differences = second - first
    low, high = interval_of_ratio(differences)
    f1 = [drawn_macro_f1(seeds, shared) for seeds in by_seed]
    f1_test = macro_f1_test(by_seed[0], by_seed[1], shared)
    # in the validation parts of folds a track may be answered more than once
    single = n_seeds == [1, 1] and all(len(right[track_id]) == 1 for right in answers for track_id in shared)
    return LabelComparison(
        **facts,
        n_tracks=len(shared),
        n_seeds=(n_seeds[0], n_seeds[1]),
        warnings=_warnings(facts, len(shared), len(answers[0]), len(answers[1])),
        first_accuracy=float(first.mean()),
        second_accuracy=float(second.mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=mcnemar(differences) if single else sign_flips(differences),
        test="McNemar, exact" if single else "sign flips over tracks",
        only_first=float(np.abs(differences[differences < 0]).sum()),
        only_second=float(differences[differences > 0].sum()),
        macro_f1=_paired("macro F1", f1[0], f1[1], len(shared), f1_test),
    )


def _paired(measure: str, one: Float64, other: Float64, n_tracks: int, p_value: float) -> Difference:
    """Difference of two measures, (value, draws ...) each, where every draw took the same tracks for both."""
    difference = centred_estimate(other - one, n_tracks, least=-1.0)
    return Difference(measure, float(one[0]), float(other[0]), difference, p_value)


def _compare_tags(groups: Sequence[Sequence[Run]], pooling: Pooling | None, facts: dict[str, Any]) -> TagComparison:
    part = facts["part"]
    answers = []
    for runs in groups:
        chosen = pooling or runs[0].pooling
        seeds = [tag_answers(folds, part, chosen) for folds in runs_by_seed(runs).values()]
        answers.append([_each_row_its_name(seed) for seed in seeds])
    first = answers[0][0].tracks

    # All seeds of both must have answered the same tracks and tags, in one order.
    known = [set.intersection(*(set(seed.tracks.track_ids) for seed in seeds)) for seeds in answers]
    shared = _shared_tracks(first.track_ids, known[0] & known[1], part)
    paired = [[_chosen(seed, shared, first.labels) for seed in seeds] for seeds in answers]
    truth = paired[0][0].tracks.truth
    for seed in [*paired[0], *paired[1]]:
        same = ((truth == seed.tracks.truth) | (np.isnan(truth) & np.isnan(seed.tracks.truth))).all(axis=1)
        if not same.all():
            raise RunError(f"track {shared[int(np.argmin(same))]!r} has different tags in the two runs")

    # Both are drawn by the same weights, so that the spread is that of their difference.
    drawn = [drawn_areas(seeds) for seeds in paired]
    measured = ~np.isnan(drawn[0][0, 0] + drawn[1][0, 0])
    if not measured.any():
        raise RunError(
            f"the shared {part} tracks tell nothing about any tag", next_step=f"Compare on a larger {part} part"
        )
    differences = []
    scores = [[seed.tracks.scores[:, measured] for seed in seeds] for seeds in paired]
    p_values = areas_test(paired[0][0].presence[:, measured], scores[0], scores[1])
    for row, measure in enumerate(("mean ROC-AUC", "mean PR-AUC")):
        one, other = (nanmean(figures[row][:, measured], 1) for figures in drawn)  # the value, then the draws
        differences.append(_paired(measure, one, other, len(shared), p_values[row]))

    warnings = _warnings(facts, len(shared), len(known[0]), len(known[1]))
    if first.soft:
        warnings += ("the targets are another model's answers: agreement, not accuracy",)
    return TagComparison(
        **facts,
        n_tracks=len(shared),
        n_seeds=(len(answers[0]), len(answers[1])),
        warnings=warnings,
        n_tags=int(measured.sum()),
        differences=tuple(differences),
    )


def _shared_tracks(first: Iterable[str], second: Iterable[str], part: str) -> list[str]:
    others = set(second)
    shared = [track_id for track_id in first if track_id in others]
    if not shared:
        raise RunError(f"the two runs share no {part} track", next_step="Train both on the same manifest and split")
    return shared


def _each_row_its_name(seed: TagAnswers) -> TagAnswers:
    """Number a track that several folds answered, as in their validation parts: models never answer together."""
    times: Counter[str] = Counter()
    names = []
    for track_id in seed.tracks.track_ids:
        times[track_id] += 1
        names.append(track_id if times[track_id] == 1 else f"{track_id} ({times[track_id]})")
    tracks = replace(seed.tracks, track_ids=tuple(names))
    return TagAnswers(tracks, seed.thresholds, seed.means, seed.n_segments)


def _chosen(seed: TagAnswers, shared: Sequence[str], tags: tuple[str, ...]) -> TagAnswers:
    """The shared tracks and the tags of the first run, in its order."""
    tracks = seed.tracks
    row_of = {track_id: row for row, track_id in enumerate(tracks.track_ids)}
    rows = np.array([row_of[track_id] for track_id in shared])
    place = np.ix_(rows, np.array([tracks.labels.index(tag) for tag in tags]))
    kept = replace(
        tracks,
        labels=tags,
        track_ids=tuple(shared),
        starts_s=np.zeros(len(rows)),
        truth=tracks.truth[place],
        scores=tracks.scores[place],
    )
    return TagAnswers(kept, seed.thresholds[place], seed.means[place], seed.n_segments)


def _warnings(facts: dict[str, Any], n_shared: int, n_first: int, n_second: int) -> tuple[str, ...]:
    found = []
    if is_leaky(facts["protocol"]):
        found.append("LEAKY PROTOCOL: neither number measures how well new tracks are recognised")
    if n_shared < max(n_first, n_second):
        found.append(f"only {n_shared} tracks are shared, of {n_first} and {n_second}")
    return tuple(found)


def _verdict(p_value: float, low: float, high: float) -> str:
    if p_value < LEVEL:
        return "the two differ"
    if low > 0 or high < 0:  # draws of few tracks vary too little
        return "no difference can be told from chance (p decides: of so few tracks the interval is too narrow)"
    return "no difference can be told from chance"
