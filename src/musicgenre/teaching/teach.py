"""Teach a head of one's own genres: hear the tracks, fit, test honestly, calibrate, save."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._numbers import softmax
from musicgenre.bundle.load import read_card
from musicgenre.bundle.store import ensure_bundle
from musicgenre.errors import DataError, UsageError
from musicgenre.evaluation.calibration import (
    Answered,
    apply_threshold,
    calibration_error,
    choose_threshold,
    fit_temperature_by_count,
)
from musicgenre.evaluation.metrics import ClassMetrics, class_metrics, confusion_matrix, wilson_interval
from musicgenre.listening.classifier import DEFAULT_COVERAGE_S, Classifier
from musicgenre.listening.framing import Coverage
from musicgenre.models.discriminant import fit_discriminant
from musicgenre.models.head import GenreHead, taught_path
from musicgenre.teaching.lessons import HeardLesson, gather_lessons, hear_lessons, key_of
from musicgenre.teaching.trial import Trial, choose_settings, cross_validate, join_groups, near_pairs

Float64 = NDArray[np.float64]
Labels = NDArray[np.intp]
Progress = Callable[[int, int], None]

DEFAULT_TEACH_COVERAGE_S = 30.0
TARGET = 0.9
FEW, VERY_FEW = 10, 5

_SEEDS = 3
_MANY_TRACKS = 400  # one seed is enough beyond
_VIEWS = {"all": None, "default": DEFAULT_COVERAGE_S, "one": 1e-3}  # seconds heard


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
        What the "unsure" threshold leaves, when as much is heard as ``classify`` hears.
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
    output: Path | None = None,
    overwrite: bool = False,
    coverage: float | str = DEFAULT_TEACH_COVERAGE_S,
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> Taught:
    """Teach a head from labelled tracks and save it.

    Parameters
    ----------
    source : Path
        A folder with one folder a genre, or a manifest CSV (``path``, ``label``, optionally ``group``).
    name : str
        Name of the head, for ``classify --model``.
    output : Path, optional
        Where to save it instead of the folder of taught heads; ends in ``.json``.
    overwrite : bool
        Replace a head that exists.
    coverage : float or "full"
        Seconds of each track to hear, evenly spread.
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
    """
    started = time.monotonic()
    path = _destination(name, output, overwrite)
    lessons, warnings = gather_lessons(source)
    default = GenreHead.load_default()
    card = read_card(ensure_bundle(default.bundle_name))
    classifier = Classifier(coverage=coverage, threads=1)
    key = key_of(card.sha256, classifier.coverage.seconds)
    heard, failures = hear_lessons(lessons, classifier, jobs=jobs, cache_key=key, progress=progress)
    heard, more = _without_copies(heard)
    _check_labels(heard, [reason for _, reason in failures] + list(more))
    notes = [*warnings, *more, *(f"{item.lesson.path.name}: {note}" for item in heard for note in item.warnings)]
    head, score, about = fit_head(name, heard, default, hop_s=card.hop_samples / card.sample_rate_hz)
    try:
        head.save(path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror})",
            next_step="Choose another --output; what was heard is kept, so the next time is quick",
        ) from error
    return Taught(
        head=head,
        path=path,
        counts=dict(sorted(Counter(item.lesson.label for item in heard).items())),
        score=score,
        warnings=(*notes, *about),
        failures=failures,
        seconds=time.monotonic() - started,
    )


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
        Gives the bundle, and the style tags with their threshold.
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
    labels = tuple(sorted({item.lesson.label for item in heard}))
    truth = np.array([labels.index(item.lesson.label) for item in heard], dtype=np.intp)
    _check_labels(heard)
    views, counts = _pooled(heard, hop_s)
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
    limit, single = _fit_temperatures(trials, truth, counts)
    score = _score(trials, truth, counts, (limit, single))
    settings = choose_settings(views["all"], truth, groups, len(labels), seed=0)
    head = GenreHead(
        name=name,
        bundle_name=default.bundle_name,
        inputs="embedding",
        labels=labels,
        linear=fit_discriminant(views["all"], truth, len(labels), groups=groups, settings=settings),
        temperature=limit,
        segment_temperature=single,
        unsure_threshold=score.answered.threshold,
        style_tags=default.style_tags,
        tag_threshold=default.tag_threshold,
        card=_card(heard, labels, score, default),
    )
    return head, score, (*_pair_warnings(heard, pairs), *_size_warnings(labels, truth, trials, score))


def _check_labels(heard: Sequence[HeardLesson], reasons: Sequence[str] = ()) -> None:
    n_labels = len({item.lesson.label for item in heard})
    if n_labels < 2:
        raise DataError(
            f"{len(heard)} tracks of {n_labels} genre{'s' * (n_labels != 1)} could be heard",
            valid="two genres or more",
            next_step=f"Look at what was left out, first of all: {reasons[0]}" if reasons else "Add tracks",
        )


def _destination(name: str, output: Path | None, overwrite: bool) -> Path:
    path = taught_path(name)
    if output is not None:
        if output.suffix != ".json":
            raise UsageError(f"{output} cannot be the file of a head", valid="a name that ends in .json")
        path = output
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", next_step="Add --overwrite to replace it, or choose another name")
    return path


def _without_copies(heard: Sequence[HeardLesson]) -> tuple[tuple[HeardLesson, ...], tuple[str, ...]]:
    """Keep one of files that are the same bytes, and none where they stand under different labels."""
    same: dict[str, list[HeardLesson]] = {}
    for item in heard:
        same.setdefault(item.content, []).append(item)
    kept, warnings = [], []
    for copies in same.values():
        names = ", ".join(f"{item.lesson.path.name} ({item.lesson.label})" for item in copies)
        if len({item.lesson.label for item in copies}) > 1:
            warnings.append(f"the same file under different genres, left out: {names}")
            continue
        kept.append(copies[0])
        if len(copies) > 1:
            warnings.append(f"the same file {len(copies)} times, counted once: {names}")
    return tuple(kept), tuple(warnings)


def _pooled(heard: Sequence[HeardLesson], hop_s: float) -> tuple[dict[str, Float64], dict[str, Labels]]:
    """Mean embedding of every track by view, and the number of segments behind each."""
    chosen = {
        view: [Coverage(seconds).choose(len(item.embedding), hop_s) for item in heard]
        for view, seconds in _VIEWS.items()
    }
    features = {
        view: np.stack(
            [item.embedding[kept].mean(axis=0, dtype=np.float64) for item, kept in zip(heard, rows, strict=True)]
        )
        for view, rows in chosen.items()
    }
    return features, {view: np.array([len(kept) for kept in rows], np.intp) for view, rows in chosen.items()}


def _fit_temperatures(trials: Sequence[Trial], truth: Labels, counts: dict[str, Labels]) -> tuple[float, float]:
    rows = [
        (trial.logits[view][trial.tested], truth[trial.tested], counts[view][trial.tested])
        for trial in trials
        for view in trial.logits
    ]
    logits, labels, heard = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return fit_temperature_by_count(logits, labels, heard)


def _score(
    trials: Sequence[Trial], truth: Labels, counts: dict[str, Labels], temperatures: tuple[float, float]
) -> Score:
    limit, single = temperatures
    n_labels = trials[0].logits["all"].shape[1]
    believed = {
        view: np.concatenate(
            [
                softmax(t.logits[view] / (limit + (single - limit) / counts[view])[:, np.newaxis])[t.tested]
                for t in trials
            ]
        )
        for view in ("all", "default")
    }
    tested = np.concatenate([truth[trial.tested] for trial in trials])
    n_tested = int(trials[0].tested.sum())
    best = believed["all"].argmax(axis=1)
    accuracy = float((best == tested).mean())
    right = believed["default"].argmax(axis=1) == tested
    confidence = believed["default"].max(axis=1)
    chosen = choose_threshold(confidence, right, target=TARGET, fewest=VERY_FEW * len(trials))
    chosen = apply_threshold(confidence, right, _rounded_threshold(chosen))
    return Score(
        n_tested=n_tested,
        accuracy=accuracy,
        interval=wilson_interval(accuracy * n_tested, n_tested),
        majority=float(np.bincount(truth[trials[0].tested]).max() / n_tested),
        calibration_error=calibration_error(believed["all"].max(axis=1), best == tested),
        answered=chosen,
        classes=class_metrics(confusion_matrix(tested, best, n_labels) / len(trials)),
    )


def _rounded_threshold(chosen: Answered) -> float:
    """Round up to three digits; where every track may be answered, ask of no answer more than the target itself.

    The lowest confidence of a handful of tracks that are all answered rightly is near 1, and tells nothing of how low
    one may be.
    """
    rounded = float(np.ceil(chosen.threshold * 1000) / 1000)
    return min(rounded, TARGET) if chosen.n_answered == chosen.n_tracks else rounded


def _pair_warnings(heard: Sequence[HeardLesson], pairs: Sequence[tuple[int, int]]) -> list[str]:
    warnings = []
    for a, b in pairs:
        first, second = heard[a].lesson, heard[b].lesson
        names = f"{first.path.name} ({first.label}) and {second.path.name} ({second.label})"
        where = " under different genres" if first.label != second.label else ""
        warnings.append(f"sound like one recording{where}: {names}; tested together")
    return warnings


def _size_warnings(labels: Sequence[str], truth: Labels, trials: Sequence[Trial], score: Score) -> list[str]:
    warnings = []
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
    return warnings


def _card(heard: Sequence[HeardLesson], labels: Sequence[str], score: Score, default: GenreHead) -> dict[str, Any]:
    grouped = any(item.lesson.group for item in heard)
    return {
        "description": f"Taught by its owner on {len(heard)} tracks; reads mean embeddings of {default.bundle_name}.",
        "taught": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "tracks": dict(sorted(Counter(item.lesson.label for item in heard).items())),
        "protocol": {
            "choice": "5-fold cross-validation, regularisation chosen inside each fold",
            "groups": "kept apart" if grouped else "none given: tracks of one artist may stand on both sides",
            "unsure_threshold": f"lowest with {TARGET:.0%} of the answered right out of fold (point estimate)",
        },
        "scores": [
            {
                "tracks": score.n_tested,
                "accuracy": round(score.accuracy, 4),
                "interval_95": [round(end, 4) for end in score.interval],
                "majority": round(score.majority, 4),
                "answered": round(score.answered.coverage, 4),
                "accuracy_of_answered": round(score.answered.accuracy, 4),
                "recall": {
                    label: round(float(recall), 4) if tested else None
                    for label, recall, tested in zip(labels, score.classes.recall, score.classes.support, strict=True)
                },
            }
        ],
        "licences": {"MusiCNN weights": default.card.get("licences", {}).get("MusiCNN weights", "")},
    }
