"""Teach a head of one's own genres: hear the tracks, fit, test honestly, calibrate, save."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import writing_result
from musicgenre._locks import file_lock
from musicgenre._numbers import softmax
from musicgenre._outputs import refuse_overwriting
from musicgenre._text import printable
from musicgenre.audio import MAX_DURATION_S, choose_level, parse_level
from musicgenre.audio.level import QUIETEST_DB
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.load import load_bundle
from musicgenre.bundle.stages import ears_sha256
from musicgenre.bundle.store import DEFAULT_BUNDLE, ensure_bundle
from musicgenre.errors import AudioError, BundleError, DataError, UsageError
from musicgenre.evaluation.calibration import (
    Answered,
    apply_threshold,
    calibration_error,
    choose_threshold,
    fit_temperature_by_count,
)
from musicgenre.evaluation.metrics import ClassMetrics, class_metrics, confusion_matrix, wilson_interval
from musicgenre.features.published.musicnn.published import published
from musicgenre.listening.classifier import DEFAULT_COVERAGE_S
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import Ear
from musicgenre.models.discriminant import fit_discriminant
from musicgenre.models.head import GenreHead, taught_path
from musicgenre.models.support import LEAST_TAGS
from musicgenre.teaching.lessons import HeardLesson, gather_lessons, hear_lessons, key_of
from musicgenre.teaching.support import RIGHT_ANSWERS_LOST, support_of
from musicgenre.teaching.trial import Trial, choose_settings, cross_validate, join_groups, near_pairs

Float64 = NDArray[np.float64]
Labels = NDArray[np.intp]
Progress = Callable[[int, int], None]

DEFAULT_TEACH_COVERAGE_S = 30.0
TARGET = 0.9
"""Share of the answered tracks that must be named rightly: it sets the "unsure" threshold."""

FEW, VERY_FEW = 10, 5
"""Tracks of a genre below which a person is told so."""

_SEEDS = 3
_MANY_TRACKS = 400  # one seed is enough beyond
_VIEWS = {"all": None, "default": DEFAULT_COVERAGE_S, "one": 1e-3}  # seconds heard
_DIGITS = 4  # of the figures on a card


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """What cross-validation found; tracks of a group (artist) stayed together.

    Parameters
    ----------
    n_tested : int
        Tracks that could be tested; a label whose tracks are all one group cannot.
    accuracy : float
        Share of them named rightly.
    interval : tuple of float
        Its 95 % interval (Wilson).
    majority : float
        What always naming the most frequent label would score.
    calibration_error : float
        Mean gap between confidence and accuracy.
    answered : Answered
        What the "unsure" threshold leaves, when as much is heard as `classify` hears.
    classes : ClassMetrics
        Precision, recall, F1 and number of tested tracks of every label.
    """

    n_tested: int
    accuracy: float
    interval: tuple[float, float]
    majority: float
    calibration_error: float
    answered: Answered
    classes: ClassMetrics


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A taught head and how good it is.

    Parameters
    ----------
    head : GenreHead
    path : Path
        Where it was saved.
    counts : dict of str to int
        Tracks learned from, by label.
    score : Score
    warnings : tuple of str
        What a person should know about the data.
    failures : tuple of (Path, str)
        Files that could not be heard, with the reason.
    seconds : float
        Time it took.
    """

    head: GenreHead
    path: Path
    counts: dict[str, int]
    score: Score
    warnings: tuple[str, ...]
    failures: tuple[tuple[Path, str], ...]
    seconds: float


def teach(
    source: Path,
    name: str,
    *,
    model: str = "default",
    output: Path | None = None,
    overwrite: bool = False,
    coverage: float | str = DEFAULT_TEACH_COVERAGE_S,
    level: float | str | None = None,
    max_duration_s: float | None = None,
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> Taught:
    """Teach a head from labelled tracks and save it.

    Parameters
    ----------
    source : Path
        A folder with one folder per genre, or a manifest CSV (`path`, `label`, optionally `group`).
    name : str
        Name of the head, for `classify --model`.
    model : str
        What hears: `default` (MSD-MusiCNN), or another embedding bundle in the cache, as `discogs-effnet`. The head
        holds its name, and of a network that is a file of its own the checksum; nothing of the network itself.
    output : Path, optional
        Where to save it instead of the folder of taught heads; ends in `.json`.
    overwrite : bool
        Replace a head that exists.
    coverage : float or "full"
        Seconds of each track to hear, evenly spread.
    level : float or "off", optional
        RMS in dBFS that every track is brought to, here and whenever the head is used, or "off" for tracks as they
        are. By default that of the default head.
    max_duration_s : float, optional
        Length of the longest file that is heard, in seconds; `inf` for any. By default a day.
    jobs : int
        Tracks heard at a time.
    progress : callable
        Told (tracks done, tracks in all).

    Raises
    ------
    DataError
        When the tracks do not allow to learn and to test: fewer than two genres, or too few tracks.
    UsageError
        When the name cannot be used, or the head exists.
    BundleError
        When there is no such model, or it gives no embedding.
    """
    path = taught_path(name)  # refuses a name that cannot be one, wherever the head goes
    wanted = Coverage.parse(coverage, max_duration_s)
    if output is not None:
        if output.suffix != ".json":
            raise UsageError(f"{output} cannot be the file of a head", valid="a name that ends in .json")
        path = output

    # A lesson that comes to nothing leaves no folders behind that were made for it.
    made = [folder for folder in (path.parent, path.parent.parent) if not folder.exists()]
    # held from here on, so that two lessons at once do not both find the name free
    with ExitStack() as held:
        held.callback(_remove_empty, made)
        with writing_result(path, "Choose another --output"):
            held.enter_context(file_lock(path, "'musicgenre teach'"))
        refuse_overwriting(path, overwrite=overwrite, inputs=[source], option="--output" if output else "--name")
        return _teach(source, name, path, model=model, coverage=wanted, level=level, jobs=jobs, progress=progress)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that hold nothing, the innermost first."""
    for folder in folders:
        with suppress(OSError):  # it holds something, or was never made
            folder.rmdir()


def _teach(
    source: Path,
    name: str,
    path: Path,
    *,
    model: str,
    coverage: Coverage,
    level: float | str | None,
    jobs: int,
    progress: Progress,
) -> Taught:
    """Teach a head and save it at `path`, which this process holds; the rest is as for `teach`."""
    started = time.monotonic()
    lessons, warnings = gather_lessons(source)
    default = GenreHead.load_default()
    default = replace(default, level=choose_level(parse_level(level), default.level))
    # Tracks go side by side, so one thread each.
    bundle = load_bundle(ensure_bundle(default.bundle_name if model == "default" else model), threads=1)
    card = bundle.card
    if card.kind != "embedding":
        raise BundleError(
            f"{card.name} gives no embedding to teach on: it is a {card.kind}",
            valid="an embedding bundle such as msd-musicnn or discogs-effnet",
        )
    if card.name != default.bundle_name:
        default = _on_other_ears(default, card)

    framing = Framing.of(card)
    ear = _LessonEar(Ear(framing, coverage, bundle.run, level=default.level))
    # Under another limit other tracks can be heard, so what was heard before does not count.
    limits = () if coverage.max_duration_s == MAX_DURATION_S else (coverage.max_duration_s,)
    key = key_of(card.sha256, coverage.seconds, default.level, *limits)
    all_heard, failures = hear_lessons(lessons, ear, jobs=jobs, cache_key=key, progress=progress)

    heard, about_copies = without_copies(all_heard)
    check_labels(heard, [reason for _, reason in failures] + list(about_copies))
    noticed = []
    for item in heard:
        noticed += [f"{item.lesson.path.name}: {note}" for note in item.warnings]

    head, score, about_fit = fit_head(name, heard, default, hop_s=framing.hop_s)
    with writing_result(path, "Choose another --output; what was heard is kept, so the next time is quick"):
        head.save(path)
    return Taught(
        head=head,
        path=path,
        counts=_tracks_by_label(heard),
        score=score,
        warnings=(*warnings, *about_copies, *noticed, *about_fit),
        failures=failures,
        seconds=time.monotonic() - started,
    )


def _on_other_ears(default: GenreHead, card: BundleCard) -> GenreHead:
    """Let the default head, which new heads take their surroundings from, stand on another network."""
    surroundings: dict[str, Any] = {"licences": {f"{card.name} weights": card.licence}}
    if sha256 := ears_sha256(card):
        surroundings["ears_sha256"] = sha256

    # Its style tags are those of MSD-MusiCNN, with a threshold for them.
    tags = default.style_tags if card.tags == published(default.bundle_name).tags else ()
    return replace(default, bundle_name=card.name, style_tags=tags, card=surroundings)


@dataclass(frozen=True, slots=True)
class _LessonEar:
    """An ear that tells of a track what a lesson keeps."""

    ear: Ear

    def hear(self, path: Path, /) -> tuple[dict[str, Float32], tuple[str, ...]]:
        heard = self.ear.hear(path)
        if heard.is_too_quiet:
            raise AudioError(
                f"{printable(path)} is too quiet to learn from",
                valid=f"{QUIETEST_DB:g} dBFS (RMS) or more in what is heard",
                next_step="Turn it up, or leave it out",
            )
        return heard.outputs, heard.warnings


def fit_head(
    name: str, heard: Sequence[HeardLesson], default: GenreHead, *, hop_s: float
) -> tuple[GenreHead, Score, tuple[str, ...]]:
    """Fit, test and calibrate a head on tracks that were heard.

    Parameters
    ----------
    name : str
        Name of the head.
    heard : sequence of HeardLesson
        No two of the same content.
    default : GenreHead
        Gives the bundle, the level, and the style tags with their threshold.
    hop_s : float
        Seconds from one segment to the next.

    Returns
    -------
    (head, score, warnings)

    Raises
    ------
    DataError
        When there are fewer than two labels, or no track can be spared for a test.
    """
    check_labels(heard)
    labels = tuple(_tracks_by_label(heard))
    truth = np.array([labels.index(item.lesson.label) for item in heard], dtype=np.intp)

    # Mean embeddings by view, (n_tracks, width), and the number of segments behind each.
    views, counts, heard_by_default = {}, {}, []
    for view, seconds in _VIEWS.items():
        means, n_segments = [], []
        for item in heard:
            chosen = Coverage(seconds).choose(len(item.embedding), hop_s)
            means.append(item.embedding[chosen].mean(axis=0, dtype=np.float64))
            n_segments.append(len(chosen))
            if view == "default":
                heard_by_default.append(np.array(chosen, dtype=np.intp))
        views[view] = np.stack(means)
        counts[view] = np.array(n_segments, dtype=np.intp)

    # Tracks that sound like one recording stay together in a test, as those of an artist do.
    pairs = near_pairs(views["all"])
    groups = join_groups([item.lesson.group for item in heard], pairs)

    n_seeds = _SEEDS if len(heard) <= _MANY_TRACKS else 1
    trials = [cross_validate(views, truth, groups, len(labels), seed) for seed in range(n_seeds)]
    if trials[0].tested.sum() < 2:
        raise DataError(
            "no track can be spared to test what is learned",
            valid="at least two genres with two tracks each, from different groups",
            next_step="Add tracks",
        )

    # Temperatures from all views together: how sure an answer may be depends on how much was heard.
    tested_logits, tested_truth, tested_counts = [], [], []
    for trial in trials:
        for view, logits in trial.logits.items():
            tested_logits.append(logits[trial.tested])
            tested_truth.append(truth[trial.tested])
            tested_counts.append(counts[view][trial.tested])
    temperatures = fit_temperature_by_count(
        np.concatenate(tested_logits), np.concatenate(tested_truth), np.concatenate(tested_counts)
    )
    score = _score_of(trials, truth, counts, temperatures)

    # An answer needs support, too: what is unlike all these tracks gets none.
    surely_right = []
    for trial in trials:
        believed = _believed(trial.logits["default"], counts["default"], temperatures)
        is_right = trial.tested & (believed.argmax(axis=1) == truth)
        surely_right.append(is_right & (believed.max(axis=1) >= score.answered.threshold))
    support = support_of(
        [item.embedding for item in heard],
        heard_by_default,
        [trial.folds for trial in trials],
        surely_right,
        least_tags=LEAST_TAGS if default.bundle_name == DEFAULT_BUNDLE else 0.0,
    )

    # The head that is kept learns from all tracks.
    settings = choose_settings(views["all"], truth, groups, len(labels), seed=0)
    head = GenreHead(
        name=name,
        bundle_name=default.bundle_name,
        inputs="embedding",
        labels=labels,
        linear=fit_discriminant(views["all"], truth, len(labels), groups=groups, settings=settings),
        temperature=temperatures[0],
        segment_temperature=temperatures[1],
        unsure_threshold=score.answered.threshold,
        style_tags=default.style_tags,
        tag_threshold=default.tag_threshold,
        card=_card_of(heard, labels, score, default, has_support=support is not None),
        level=default.level,
        support=support,
    )
    return head, score, _warnings_about(heard, pairs, labels, truth, trials, score)


def check_labels(heard: Sequence[HeardLesson], reasons: Sequence[str] = ()) -> None:
    """Refuse to learn from fewer than two genres.

    Parameters
    ----------
    heard : sequence of HeardLesson
        The tracks that are left to learn from.
    reasons : sequence of str
        Why others were left out.

    Raises
    ------
    DataError
        With the first of the reasons.
    """
    n_labels = len(_tracks_by_label(heard))
    if n_labels < 2:
        raise DataError(
            f"{len(heard)} tracks of {n_labels} genre{'s' * (n_labels != 1)} could be heard",
            valid="two genres or more",
            next_step=f"Look at what was left out, first of all: {reasons[0]}" if reasons else "Add tracks",
        )


def without_copies(heard: Sequence[HeardLesson]) -> tuple[tuple[HeardLesson, ...], tuple[str, ...]]:
    """Keep one of files that are the same bytes, and none where they stand under different labels; with warnings."""
    same_content: dict[str, list[HeardLesson]] = {}
    for item in heard:
        same_content.setdefault(item.content, []).append(item)

    kept, warnings = [], []
    for copies in same_content.values():
        names = ", ".join(f"{item.lesson.path.name} ({item.lesson.label})" for item in copies)
        if len(_tracks_by_label(copies)) > 1:
            warnings.append(f"the same file under different genres, left out: {names}")
            continue
        kept.append(copies[0])
        if len(copies) > 1:
            warnings.append(f"the same file {len(copies)} times, counted once: {names}")
    return tuple(kept), tuple(warnings)


def rounded_threshold(chosen: Answered) -> float:
    """Round up to three digits; where every track may be answered, ask of no answer more than the target itself.

    The lowest confidence of a handful of tracks that are all answered rightly is near 1, and tells nothing of how low
    one may be.
    """
    rounded = float(np.ceil(chosen.threshold * 1000) / 1000)
    return min(rounded, TARGET) if chosen.n_answered == chosen.n_tracks else rounded


def _tracks_by_label(heard: Sequence[HeardLesson]) -> dict[str, int]:
    """Count the tracks of every label, labels in order."""
    return dict(sorted(Counter(item.lesson.label for item in heard).items()))


def _score_of(
    trials: Sequence[Trial], truth: Labels, counts: dict[str, Labels], temperatures: tuple[float, float]
) -> Score:
    """Score what the trials said of tracks they had not seen, at the temperatures for many segments and for one."""
    believed = {}
    for view in ("all", "default"):
        parts = [_believed(trial.logits[view], counts[view], temperatures)[trial.tested] for trial in trials]
        believed[view] = np.concatenate(parts)
    tested = np.concatenate([truth[trial.tested] for trial in trials])
    n_tested = int(trials[0].tested.sum())

    # Accuracy with all that was heard; the threshold with as much as `classify` hears.
    best = believed["all"].argmax(axis=1)
    accuracy = float((best == tested).mean())
    right = believed["default"].argmax(axis=1) == tested
    confidence = believed["default"].max(axis=1)
    chosen = choose_threshold(confidence, right, target=TARGET, fewest=VERY_FEW * len(trials))

    n_labels = trials[0].logits["all"].shape[1]
    return Score(
        n_tested=n_tested,
        accuracy=accuracy,
        interval=wilson_interval(accuracy * n_tested, n_tested),  # seeds repeat the tracks, they add none
        majority=float(np.bincount(truth[trials[0].tested]).max() / n_tested),
        calibration_error=calibration_error(believed["all"].max(axis=1), best == tested),
        answered=apply_threshold(confidence, right, rounded_threshold(chosen)),
        classes=class_metrics(confusion_matrix(tested, best, n_labels) / len(trials)),
    )


def _believed(logits: Float64, counts: Labels, temperatures: tuple[float, float]) -> Float64:
    """Probabilities, shape (n_tracks, n_labels), at the temperature for so many segments."""
    limit, single = temperatures
    return softmax(logits / (limit + (single - limit) / counts)[:, np.newaxis])


def _warnings_about(
    heard: Sequence[HeardLesson],
    pairs: Sequence[tuple[int, int]],
    labels: Sequence[str],
    truth: Labels,
    trials: Sequence[Trial],
    score: Score,
) -> tuple[str, ...]:
    """Say what a person should know: tracks that sound alike, small genres, and a score that means little."""
    warnings = []
    for a, b in pairs:
        first, second = heard[a].lesson, heard[b].lesson
        names = f"{first.path.name} ({first.label}) and {second.path.name} ({second.label})"
        where = " under different genres" if first.label != second.label else ""
        warnings.append(f"sound like one recording{where}: {names}; tested together")

    for number, label in enumerate(labels):
        size = int((truth == number).sum())
        if size < FEW:
            grade = "far too few" if size < VERY_FEW else "few"
            tracks = "1 track is" if size == 1 else f"{size} tracks are"
            warnings.append(f"{label}: {tracks} {grade}; {FEW} or more are better")
        if not any(trial.tested[truth == number].any() for trial in trials):
            warnings.append(f"{label}: could not be tested, since its tracks are all one group (or one track)")

    if score.answered.n_answered == 0:
        warnings.append(f"no confidence is right {TARGET:.0%} of the time: every answer will be 'unsure'; add tracks")
    if score.interval[0] <= score.majority:
        warnings.append("the score is not clearly above always naming the most frequent genre")
    return tuple(warnings)


def _card_of(
    heard: Sequence[HeardLesson], labels: Sequence[str], score: Score, default: GenreHead, *, has_support: bool
) -> dict[str, Any]:
    """Write the card of a head: data, protocol, scores and the licence of what it reads."""
    recalls: dict[str, float | None] = dict.fromkeys(labels)
    for number, label in enumerate(labels):
        if score.classes.support[number]:
            recalls[label] = round(float(score.classes.recall[number]), _DIGITS)

    support = "none: too few right answers out of fold to set a limit by"
    if has_support:
        support = f"limit of the distance at {RIGHT_ANSWERS_LOST:.0%} loss of right answers out of fold"
    weights = "MusiCNN weights" if default.bundle_name == DEFAULT_BUNDLE else f"{default.bundle_name} weights"
    licences = {weights: default.card.get("licences", {}).get(weights, "")}
    groups = "none given: tracks of one artist may stand on both sides"
    if any(item.lesson.group for item in heard):
        groups = "kept apart"
    return {
        "description": f"Taught by its owner on {len(heard)} tracks; reads mean embeddings of {default.bundle_name}.",
        "taught": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "tracks": _tracks_by_label(heard),
        "protocol": {
            "choice": "5-fold cross-validation, regularisation chosen inside each fold",
            "groups": groups,
            "unsure_threshold": f"lowest with {TARGET:.0%} of the answered right out of fold (point estimate)",
            "support": support,
        },
        "scores": [
            {
                "tracks": score.n_tested,
                "accuracy": round(score.accuracy, _DIGITS),
                "interval_95": [round(end, _DIGITS) for end in score.interval],
                "majority": round(score.majority, _DIGITS),
                "answered": round(score.answered.coverage, _DIGITS),
                "accuracy_of_answered": round(score.answered.accuracy, _DIGITS),
                "recall": recalls,
            }
        ],
        "licences": licences,
        **({"ears_sha256": default.ears_sha256} if default.ears_sha256 else {}),
    }
