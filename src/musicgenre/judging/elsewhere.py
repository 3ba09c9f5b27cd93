"""Score a model on other labelled tracks than its own: labels matched, what it learnt from left out and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from musicgenre._files import writing_result
from musicgenre._text import how_many, printable, shortened
from musicgenre.data.learnt import LearntFrom, Likeness
from musicgenre.data.manifest import Manifest, Track, read_manifest
from musicgenre.data.targets import unknown_tags
from musicgenre.errors import DataError, RunError
from musicgenre.evaluation.calibration import Answered, calibration_error
from musicgenre.evaluation.evaluate import TagAnswers, label_figures, tag_figures, track_level, warnings_of_few
from musicgenre.evaluation.metrics import Estimate, Float64, estimate_accuracy
from musicgenre.evaluation.report import CalibrationBin, LabelReport, TagReport, describe
from musicgenre.judging.judged import Answers, Judged, Progress, open_judged
from musicgenre.judging.label_map import MatchedLabels, match_labels
from musicgenre.judging.track_answers import write_track_answers
from musicgenre.models.pooling import Pooling
from musicgenre.runs.predictions import Predictions, TagPredictions

LeaveOut = Literal["artists", "tracks", "nothing"]
"""What of the model's own training is left out: tracks and all of their artists, tracks alone, or nothing."""

_LIKENESSES: tuple[Likeness, ...] = get_args(Likeness)
_THRESHOLD = 0.5  # of a tagger that has none of its own
_N_BINS = 10
_SHOWN = 6  # names of tracks or labels in a line


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ElsewhereReport(LabelReport):
    """A model on other tracks than its own; what `LabelReport` holds, and more.

    Parameters
    ----------
    data : str
        Name of the manifest.
    learnt_from : dict
        How tracks are among what the model learnt from (`the same track` ...) to their names.
    left_out : tuple of str
        Which of those are left out; the others are scored, which the warnings say.
    unmapped, dropped : dict of str to int
        Labels that the model has nothing for, and those that the map leaves out, with their tracks.
    failures : dict of str to str
        Tracks that could not be heard, and why.
    shared_accuracy : Estimate or None
        Accuracy where the model may only say labels that these tracks have; None where it has no others.
    answered : Answered or None
        What is right among the answers that are not `unsure`; None of a model that never is.
    expected_calibration_error : float or None
        Mean gap between confidence and accuracy, over bins of equal numbers of tracks; None of a tagger.
    calibration : tuple of CalibrationBin
        Those bins, the least confident first.
    models : tuple of str
        Names of the models, one for each entry of `seeds`; seed and fold of the runs of a group.
    caveats : tuple of str
        What holds of all answers of the model.
    """

    data: str
    learnt_from: dict[str, tuple[str, ...]]
    left_out: tuple[Likeness, ...]
    unmapped: dict[str, int]
    dropped: dict[str, int]
    failures: dict[str, str]
    shared_accuracy: Estimate | None
    answered: Answered | None
    expected_calibration_error: float | None
    calibration: tuple[CalibrationBin, ...] = ()
    n_models: int = 1
    models: tuple[str, ...] = ()
    caveats: tuple[str, ...] = field(default=())

    @property
    def setting(self) -> str:
        """Say in one line what the numbers stand on."""
        return _setting(self)

    @property
    def unit(self) -> str:
        """What scores are averaged over, where there are several."""
        return "model"

    @property
    def names_of_scores(self) -> tuple[str, ...]:
        """What each entry of `seeds` is called: each is a model's, of a fold too."""
        return self.models

    @property
    def confidence_groups(self) -> tuple[CalibrationBin, ...]:
        """Groups of tracks of like confidence, the least confident first."""
        return self.calibration

    def headline(self) -> list[tuple[str, str]]:
        """Name and words of every figure above the tables."""
        rows = LabelReport.headline(self)
        if self.shared_accuracy is not None:
            rows.insert(1, ("among their labels alone", describe(self.shared_accuracy)))
        if self.answered is not None:
            rows.append(("where it is not unsure", str(self.answered)))
        if self.expected_calibration_error is not None:
            rows.append(("calibration error", f"{self.expected_calibration_error:.3f}"))
        return rows + _tracks_told(self, self.left_out, "labels")

    def tables(self) -> list[list[str]]:
        """Scores of the classes, the confusion matrix, and what confidence is worth, as lines."""
        tables = LabelReport.tables(self)
        if self.calibration:
            lines = ["  confidence and what came of it", "    tracks  confidence   right"]
            for one in self.calibration:
                lines.append(f"    {one.n_tracks:6d}  {one.confidence:10.3f}  {one.right:6.3f}")
            tables.append(lines)
        return tables


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TagElsewhereReport(TagReport):
    """A tagger on other tracks than its own, which have tags; what `TagReport` holds, and more.

    Parameters
    ----------
    data, learnt_from, failures, n_models, models, caveats
        As `ElsewhereReport` has them.
    kinds_left_out : tuple of str
        Its `left_out`, which of a tagger are tags.
    unmapped, dropped : dict of str to int
        Tags that the model has nothing for, and those that the map leaves out, with the tracks that have them.
    """

    data: str
    learnt_from: dict[str, tuple[str, ...]]
    kinds_left_out: tuple[Likeness, ...]
    unmapped: dict[str, int]
    dropped: dict[str, int]
    failures: dict[str, str]
    n_models: int = 1
    models: tuple[str, ...] = ()
    caveats: tuple[str, ...] = field(default=())

    @property
    def setting(self) -> str:
        """Say in one line what the numbers stand on."""
        return _setting(self)

    @property
    def unit(self) -> str:
        """What scores are averaged over, where there are several."""
        return "model"

    def headline(self) -> list[tuple[str, str]]:
        """Name and words of every figure above the tables."""
        return TagReport.headline(self) + _tracks_told(self, self.kinds_left_out, "tags")


def evaluate_elsewhere(
    model: str,
    data: Manifest | Path,
    *,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    part: str | None = None,
    pooling: Pooling | None = None,
    leave_out: LeaveOut = "artists",
    coverage: str | float | None = None,
    answers_file: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ElsewhereReport | TagElsewhereReport:
    """Score a model on labelled tracks, without those it learnt from.

    Parameters
    ----------
    model : str
        A run folder or a group of runs, a bundle (`.onnx`), a taught head, a published tagger, or `default`.
    data : Manifest or Path
        The tracks, one label each, or any number of tags.
    labels : mapping, optional
        Which label of the tracks is which of the model's, see `musicgenre.judging.label_map.read_label_map`.
    part : {"train", "validation", "test"}, optional
        Only tracks of this part of the manifest's split; all tracks by default.
    pooling : {"mean", "max", "vote"}, optional
        How the segments of a run's tracks score together; what its recipe says by default.
    leave_out : {"artists", "tracks", "nothing"}
        What of the model's own training is left out. With anything but `artists` the report says what is kept.
    coverage : str or float, optional
        Seconds of each track to hear, or `full`; of a run always everything.
    answers_file : Path, optional
        Where to write what was said of every track (`musicgenre.judging.track_answers`); what is there is replaced.
    jobs : int
        Tracks at a time.
    progress : callable, optional
        Takes (what is being done, how much of it is done, how much there is).

    Returns
    -------
    ElsewhereReport or TagElsewhereReport
        The second where the tracks have tags.

    Raises
    ------
    DataError
        The manifest has no track of the part, tags for a model of one label, or nothing is left to score.
    UsageError
        No label matches, or the model cannot hear such tracks.
    """
    manifest = data if isinstance(data, Manifest) else read_manifest(data)
    name = printable(manifest.path.name) if manifest.path else "tracks"
    tracks = _tracks_of(manifest, part, name)
    judged = open_judged(model, coverage=coverage)
    have_tags = _have_tags(tracks, judged, name)
    said = [label for track in tracks for label in track.labels] if have_tags else [track.label for track in tracks]
    matched = match_labels(said, judged.labels, labels, are_tags=judged.are_tags)
    if not have_tags:  # a track without any of the tags is an example too
        tracks = [track for track in tracks if track.label in matched.group_of]

    # Nothing that it learnt from is scored, unless somebody wants to see how much that flatters.
    learnt = _learnt_from(judged.learnt_from, tracks)
    own = {"artists": _LIKENESSES, "tracks": _LIKENESSES[:2]}.get(leave_out, ())
    leaving = {track_id for likeness in own for track_id in learnt.get(likeness, ())}
    kept = [track for track in tracks if track.track_id not in leaving]
    if not kept:
        raise DataError(
            f"nothing is left to score: {judged.name} learnt from all {len(tracks)} tracks of {name} that it has "
            f"labels for ({_in_words(learnt)})",
            valid="tracks, or artists, that it never heard",
            next_step="--leave-out tracks keeps other tracks of its artists, --leave-out nothing all (a LEAK then)",
        )

    judged.pooling = pooling or judged.pooling
    answers = judged.answer(kept, jobs=jobs, progress=progress)
    if not all(one.track_ids for one in answers):
        raise DataError(f"none of the {len(kept)} tracks could be heard by {judged.name}")
    facts = {
        "name": judged.name,
        "recipe": judged.name,
        "systems": judged.systems,
        "protocol": "elsewhere",
        "leaky": bool(_flattering(learnt, own)),
        "part": part or "all",
        "pooling": judged.pooling,
        "n_folds": 1,
        "parameter_count": judged.parameter_count,
        "data": name,
        "learnt_from": learnt,
        "unmapped": dict(matched.unmapped),
        "dropped": dict(matched.dropped),
        "failures": {track_id: reason for one in answers for track_id, reason in one.failures.items()},
        "n_models": len(answers),
        "models": judged.models,
        "caveats": judged.caveats,
    }
    warnings = _warnings(judged, learnt, own, kept)
    report: ElsewhereReport | TagElsewhereReport
    of_tracks: Sequence[Predictions | TagAnswers]
    if have_tags:
        report, of_tracks = _tag_report(facts, answers, kept, matched, own, warnings)
    else:
        report, of_tracks = _label_report(facts, answers, kept, matched, own, warnings, are_tags=judged.are_tags)
    if answers_file is not None:
        with writing_result(answers_file, "Choose another --answers"):
            write_track_answers(answers_file, kept, of_tracks, [one.unsure for one in answers], report.failures)
    return report


def _label_report(
    facts: Mapping[str, Any],
    answers: Sequence[Answers],
    kept: Sequence[Track],
    matched: MatchedLabels,
    left_out: tuple[Likeness, ...],
    warnings: list[str],
    *,
    are_tags: bool,
) -> tuple[ElsewhereReport, list[Predictions]]:
    """The report on tracks that have one label each, and each model's answers to them."""
    truth_of = {track.track_id: matched.group_of[track.label] for track in kept}
    seeds = {}
    for number, own_answers in enumerate(answers):
        seeds[number] = [_judged_predictions(own_answers, truth_of, matched, are_tags=are_tags)]
    figures = label_figures(seeds, facts["pooling"], only_true_labels=True)
    of_tracks = [track_level(folds, facts["pooling"]) for folds in seeds.values()]

    if are_tags:
        warnings.append("the model names tags: the likeliest of those that stand for a label counts as its answer")
    report = ElsewhereReport(
        **{**facts, **figures},
        **_figures_of_tracks(of_tracks, answers, are_tags),
        left_out=left_out,
        warnings=(*warnings, *warnings_of_few(figures["n_tracks"])),
    )
    return report, of_tracks


def _tag_report(
    facts: Mapping[str, Any],
    answers: Sequence[Answers],
    kept: Sequence[Track],
    matched: MatchedLabels,
    left_out: tuple[Likeness, ...],
    warnings: list[str],
) -> tuple[TagElsewhereReport, list[TagAnswers]]:
    """The report on tracks that have any number of tags, and each tagger's answers to them."""
    truth_of = {track.track_id: _presence(track, matched) for track in kept}
    seeds = []
    for own in answers:
        rows = TagPredictions(
            labels=matched.names,
            track_ids=own.track_ids,
            starts_s=own.starts_s,
            truth=np.array([truth_of[track_id] for track_id in own.track_ids]),
            scores=matched.together(own.scores, are_tags=True),
        )
        pooled = rows.by_track(facts["pooling"])
        # of tags that answer together the lowest threshold counts, as the highest score does
        thresholds = np.full(len(matched.names), _THRESHOLD)
        if own.thresholds is not None:
            thresholds = np.array([own.thresholds[list(group)].min() for group in matched.groups])
        everywhere = np.tile(thresholds, (len(pooled), 1))
        seeds.append(TagAnswers(pooled, everywhere, np.full_like(everywhere, np.nan), len(rows)))

    if answers[0].thresholds is None:
        warnings.append(f"the model has no thresholds of its own: decisions are by {_THRESHOLD}, areas need none")
    try:
        figures = tag_figures(seeds)
    except RunError as error:
        raise DataError(
            f"{facts['data']} tells nothing about the tags {shortened(matched.names, _SHOWN)}",
            valid="a tag that some of the tracks have, and others have not",
        ) from error
    report = TagElsewhereReport(
        **facts,
        **figures,
        seeds=tuple(range(len(answers))),
        kinds_left_out=left_out,
        warnings=(*warnings, *warnings_of_few(figures["n_tracks"])),
    )
    return report, seeds


def _presence(track: Track, matched: MatchedLabels) -> Float64:
    """1 where a track has a tag, 0 where not, NaN where that is unknown; shape (n_groups,)."""
    found = np.zeros(len(matched.names))
    for tag in unknown_tags(track):
        if tag in matched.group_of:
            found[matched.group_of[tag]] = np.nan
    for tag in track.labels:
        if tag in matched.group_of:
            found[matched.group_of[tag]] = 1.0
    return found


def _setting(report: ElsewhereReport | TagElsewhereReport) -> str:
    models = f", mean over {report.n_models} models" if report.n_models > 1 else ""
    leak = " (LEAKY)" if report.leaky else ""
    return f"on {report.data}{leak}, {how_many(report.n_tracks, 'track')}{models}"


def _tracks_told(
    report: ElsewhereReport | TagElsewhereReport, left_out: Sequence[Likeness], what: str
) -> list[tuple[str, str]]:
    """Rows of what was learnt from, of labels or tags without a partner, and of what could not be heard."""
    rows = []
    for likeness, names in report.learnt_from.items():
        done = "left out" if likeness in left_out else "scored all the same"
        n_tracks = how_many(len(names), "track")
        rows.append((f"it learnt from {likeness}", f"{n_tracks}, {done}: {shortened(names, _SHOWN)}"))
    for title, counts, advice in (
        (f"{what} it has nothing for", report.unmapped, "; --labels-map can name what they are"),
        (f"{what} left out", report.dropped, ""),
    ):
        if counts:
            named = [f"{label} ({how_many(n, 'track')})" for label, n in counts.items()]
            total = how_many(sum(counts.values()), "track") if what == "labels" else how_many(len(counts), "tag")
            rows.append((title, f"{total}: {shortened(named, _SHOWN)}{advice}"))
    if report.failures:
        n_tracks = how_many(len(report.failures), "track")
        rows.append(("not heard", f"{n_tracks}: {shortened(list(report.failures), _SHOWN)}"))
    return rows


def _tracks_of(manifest: Manifest, part: str | None, name: str) -> list[Track]:
    """Originals of a part, without a split that would leave some of them out."""
    tracks = []
    for track in manifest.tracks:
        if track.augmented or (part is not None and track.split != part):
            continue
        tracks.append(replace(track, split="", fold=None))
    if not tracks:
        raise DataError(
            f"{name} has no track of the part {part!r}" if part else f"{name} lists no track",
            next_step="Split it (musicgenre data split), or leave --part out" if part else "",
        )
    return tracks


def _have_tags(tracks: Sequence[Track], judged: Judged, name: str) -> bool:
    """Whether the tracks have any number of tags, in place of one label each; the model must name tags then."""
    tagged = [track.track_id for track in tracks if not track.label]
    if tagged and not judged.are_tags:
        raise DataError(
            f"{len(tagged)} of {len(tracks)} tracks of {name} have tags and no label ({tagged[0]} is one)",
            valid=f"a manifest with one label per track, since {judged.name} names one",
        )
    return bool(tagged)


def _learnt_from(known: LearntFrom | None, tracks: Sequence[Track]) -> dict[str, tuple[str, ...]]:
    """Names of the tracks that a model learnt from, or whose artists, the gravest first."""
    found = {} if known is None else known.find(tracks)
    names = {likeness: tuple(name for name, how in found.items() if how == likeness) for likeness in _LIKENESSES}
    return {likeness: own for likeness, own in names.items() if own}


def _flattering(learnt: Mapping[str, tuple[str, ...]], left_out: Sequence[str]) -> list[str]:
    """Tracks that are scored although the model learnt from them; those of its artists alone are no leak of tracks."""
    return [name for likeness in _LIKENESSES[:2] if likeness not in left_out for name in learnt.get(likeness, ())]


def _judged_predictions(
    answers: Answers, truth_of: Mapping[str, int], matched: MatchedLabels, *, are_tags: bool
) -> Predictions:
    scores = matched.together(answers.scores, are_tags=are_tags)
    truth = np.array([truth_of[track_id] for track_id in answers.track_ids], dtype=np.intp)
    return Predictions(matched.names, answers.track_ids, answers.starts_s, truth, scores)


def _figures_of_tracks(seeds: Sequence[Predictions], answers: Sequence[Answers], are_tags: bool) -> dict[str, Any]:
    """What track-level answers, one entry a model, tell beside a `LabelReport`."""
    there = np.unique(np.concatenate([rows.truth for rows in seeds]))
    shared = None
    if len(there) < len(seeds[0].labels):
        labels = tuple(seeds[0].labels[column] for column in there)
        rows_of_shared = []
        for rows in seeds:
            truth = np.searchsorted(there, rows.truth)
            rows_of_shared.append(replace(rows, labels=labels, truth=truth, scores=rows.scores[:, there]))
        shared = estimate_accuracy(rows_of_shared)

    confidence = np.concatenate([rows.scores.max(axis=1) for rows in seeds])
    right = np.concatenate([rows.predicted == rows.truth for rows in seeds])
    answered, unsure = None, answers[0].unsure
    if unsure:
        sure = np.array([track_id not in unsure for track_id in seeds[0].track_ids])
        answered = Answered(0.0, int(sure.sum()), int(right[sure].sum()), len(sure))

    error: float | None = None
    bins: tuple[CalibrationBin, ...] = ()
    if not are_tags:  # whose probabilities are of each tag alone
        error, bins = calibration_error(confidence, right, n_bins=_N_BINS), _bins(confidence, right)
    return {
        "shared_accuracy": shared,
        "answered": answered,
        "expected_calibration_error": error,
        "calibration": bins,
    }


def _bins(confidence: Float64, right: Any) -> tuple[CalibrationBin, ...]:
    rows = np.array_split(np.argsort(confidence, kind="stable"), min(_N_BINS, len(confidence)))
    return tuple(CalibrationBin(len(own), float(confidence[own].mean()), float(right[own].mean())) for own in rows)


def _warnings(
    judged: Judged, learnt: Mapping[str, tuple[str, ...]], left_out: Sequence[str], kept: Sequence[Track]
) -> list[str]:
    """What a reader must know, the gravest first."""
    found = list(judged.caveats)
    if flattering := _flattering(learnt, left_out):
        found.insert(0, f"LEAK: {len(flattering)} of {len(kept)} tracks are tracks that the model learnt from")
    if judged.learnt_from is None:
        found.append("nobody noted what the model learnt from: some of these tracks may be among it")
    artists = learnt.get("the same artist", ())
    if artists and "the same artist" not in left_out:
        found.append(f"{len(artists)} of {len(kept)} tracks are by artists that the model learnt from")
    unknown = sum(not track.group for track in kept)
    if judged.learnt_from is not None and not judged.learnt_from.groups:
        found.append("the artists of its training are not known: theirs may be among these")
    elif unknown:
        found.append(f"{unknown} of {len(kept)} tracks have no artist: the model may know theirs")
    return found


def _in_words(learnt: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{likeness}: {len(names)}" for likeness, names in learnt.items())
