"""Teach a head of one's own genres: hear the tracks, fit, test honestly, calibrate, save."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import writing_result
from musicgenre._locks import file_lock
from musicgenre._outputs import refuse_overwriting
from musicgenre._text import how_many, printable
from musicgenre.audio import MAX_DURATION_S, Level, choose_level, parse_level
from musicgenre.audio.level import QUIETEST_DB
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.ears import BOTH, load_ears
from musicgenre.bundle.stages import ears_sha256
from musicgenre.bundle.store import DEFAULT_BUNDLE
from musicgenre.errors import AudioError, BundleError, DataError, UsageError
from musicgenre.evaluation.calibration import fit_temperature_by_count
from musicgenre.features.published.musicnn.published import published
from musicgenre.listening.classifier import DEFAULT_COVERAGE_S
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import Ear
from musicgenre.models.discriminant import fit_discriminant
from musicgenre.models.head import GenreHead, heard_path, list_taught, taught_path
from musicgenre.teaching.advice import warnings_about
from musicgenre.teaching.curve import CurvePoint, learning_curve
from musicgenre.teaching.kept import CARD_KEY, KeptLessons, read_kept, with_new
from musicgenre.teaching.lessons import HeardLesson, hear_lessons, key_of
from musicgenre.teaching.score import TARGET, Score, believed, score_of
from musicgenre.teaching.sources import LessonSource
from musicgenre.teaching.support import TOO_FEW, taught_support
from musicgenre.teaching.trial import choose_settings, cross_validate, join_groups, near_pairs

Progress = Callable[[int, int], None]

DEFAULT_TEACH_COVERAGE_S = 30.0
_SEEDS = 3
_MANY_TRACKS = 400  # one seed is enough beyond
_VIEWS = {"all": None, "default": DEFAULT_COVERAGE_S, "one": 1e-3}  # seconds heard
_DIGITS = 4  # of the figures on a card


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
    artists : dict of str to int
        Artists that are known, by label.
    n_known : int
        Tracks whose artist is known.
    curve : tuple of CurvePoint
        How accuracy grew with the tracks, where that was asked for.
    """

    head: GenreHead
    path: Path
    counts: dict[str, int]
    score: Score
    warnings: tuple[str, ...]
    failures: tuple[tuple[Path, str], ...]
    seconds: float
    artists: dict[str, int] = field(default_factory=dict)
    n_known: int = 0
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hearing:
    """How tracks are heard: with which model, how much of them, at which level."""

    model: str
    coverage: Coverage
    level: Level | None


def teach(
    source: Path | LessonSource,
    name: str,
    *,
    model: str | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    update: bool = False,
    coverage: float | str | None = None,
    level: float | str | None = None,
    max_duration_s: float | None = None,
    with_curve: bool = False,
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
    report: Callable[[str], None] = lambda line: None,
) -> Taught:
    """Teach a head from labelled tracks and save it.

    What was heard is kept beside it (`models.head.heard_path`), for tracks to be added to.

    Parameters
    ----------
    source : Path or LessonSource
        A folder with one folder per genre, or a manifest CSV (`path`, `label`, optionally `group`); or what says more.
    name : str
        Name of the head, for `classify --model`.
    model : str, optional
        What hears: `default` (MSD-MusiCNN), another embedding bundle in the cache, as `mtt-musicnn` or
        `discogs-effnet`, the path of one, or `both` MusiCNNs. The head holds its name (path), and of a network that is
        a file of its own the checksum; nothing of the network itself.
    output : Path, optional
        Where to save it instead of the folder of taught heads; ends in `.json`.
    overwrite : bool
        Replace a head that exists.
    update : bool
        Add the tracks to those of the head that exists, which are not heard again. Model, coverage and level are
        those of the head.
    coverage : float or "full", optional
        Seconds of each track to hear, evenly spread; by default 30.
    level : float or "off", optional
        RMS in dBFS that every track is brought to, here and whenever the head is used, or "off" for tracks as they
        are. By default that of the default head.
    max_duration_s : float, optional
        Length of the longest file that is heard, in seconds; `inf` for any. By default a day.
    with_curve : bool
        Also measure how accuracy grows with the number of tracks.
    jobs : int
        Tracks heard at a time.
    progress : callable
        Told (tracks done, tracks in all).
    report : callable
        Told what is going on before, one line at a time.

    Raises
    ------
    DataError
        When the tracks do not allow to learn and to test: fewer than two genres, or too few tracks; when the folders
        are artists; when there is nothing that could be added to.
    UsageError
        When the name cannot be used, or the head exists, or does not where it is to be added to.
    BundleError
        When there is no such model, or it gives no embedding.
    """
    path = taught_path(name)  # refuses a name that cannot be one, wherever the head goes
    wanted = source if isinstance(source, LessonSource) else LessonSource(source)
    if output is not None:
        if output.suffix != ".json":
            raise UsageError(f"{output} cannot be the file of a head", valid="a name that ends in .json")
        path = output
    given = {"--model": model, "--coverage": coverage, "--level": level}
    heard_so = Coverage.parse(DEFAULT_TEACH_COVERAGE_S if coverage is None else coverage, max_duration_s)

    # A lesson that comes to nothing leaves no folders behind that were made for it.
    made = [folder for folder in (path.parent, path.parent.parent) if not folder.exists()]
    # held from here on, so that two lessons at once do not both find the name free
    with ExitStack() as held:
        held.callback(_remove_empty, made)
        with writing_result(path, "Choose another --output"):
            held.enter_context(file_lock(path, "'musicgenre teach'"))
        inputs = [*wanted.inputs(), *([model] if model else [])]
        option = "--output" if output else "--name"
        for place in (path, heard_path(path)):
            refuse_overwriting(place, overwrite=overwrite or update, inputs=inputs, option=option)

        old: KeptLessons | None = None
        if update:
            old, hearing = _to_be_added_to(path, name, given, max_duration_s)
        else:
            default = GenreHead.load_default()
            chosen = choose_level(parse_level(level), default.level)
            hearing = _Hearing(_place_of(model or "default", default), heard_so, chosen)
        return _teach(
            wanted, name, path, hearing, old, with_curve=with_curve, jobs=jobs, progress=progress, report=report
        )


def _place_of(model: str, default: GenreHead) -> str:
    """What a head calls the model that hears: a name, or the whole path of a file."""
    if model == "default":
        return default.bundle_name
    return str(Path(model).absolute()) if Path(model).suffix == ".onnx" else model


def _to_be_added_to(
    path: Path, name: str, given: dict[str, Any], max_duration_s: float | None
) -> tuple[KeptLessons, _Hearing]:
    """Give what was heard for a head, and how; what was `given` by option must not contradict."""
    if not path.is_file():
        raise UsageError(
            f"there is no taught model {name} that tracks could be added to ({path})",
            valid=f"Taught: {', '.join(list_taught()) or 'none'}",
            next_step="Teach it first, without --update",
        )
    head = GenreHead.load(path)
    if others := [option for option, value in given.items() if value is not None]:
        raise UsageError(
            f"{' and '.join(others)} cannot be changed by --update: all tracks of a model are heard alike",
            valid=f"{head.name} has its own",
            next_step="Leave it out, or teach the model again with --overwrite",
        )
    old = read_kept(path, head)
    coverage = old.coverage if max_duration_s is None else Coverage.parse(old.coverage.seconds, max_duration_s)
    return old, _Hearing(head.bundle_name, coverage, head.level)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that hold nothing, the innermost first."""
    for folder in folders:
        with suppress(OSError):  # it holds something, or was never made
            folder.rmdir()


def _teach(
    source: LessonSource,
    name: str,
    path: Path,
    hearing: _Hearing,
    old: KeptLessons | None,
    *,
    with_curve: bool,
    jobs: int,
    progress: Progress,
    report: Callable[[str], None],
) -> Taught:
    """Teach a head and save it at `path`, which this process holds; the rest is as for `teach`."""
    started = time.monotonic()
    lessons, warnings = source.lessons(fewest_labels=1 if old else 2, report=report)
    # Tracks go side by side, so one thread each.
    bundle = load_ears(hearing.model, threads=1)
    card, coverage = bundle.card, hearing.coverage
    if card.kind != "embedding":
        raise BundleError(
            f"{card.name} gives no embedding to teach on: it is a {card.kind}",
            valid="an embedding bundle such as msd-musicnn or discogs-effnet",
        )
    if old and old.ears_sha256 != card.sha256:
        raise DataError(
            f"nothing can be added to {name}: its tracks were heard by another {card.name} than the one here",
            next_step="Teach it all of its tracks again, with --overwrite",
        )
    default = replace(GenreHead.load_default(), level=hearing.level)
    if hearing.model != default.bundle_name:
        default = _on_other_ears(default, card, hearing.model)

    framing = Framing.of(card)
    ear = _LessonEar(Ear(framing, coverage, bundle.run, level=default.level))
    # Under another limit other tracks can be heard, so what was heard before does not count.
    limits = () if coverage.max_duration_s == MAX_DURATION_S else (coverage.max_duration_s,)
    key = key_of(card.sha256, coverage.seconds, default.level, *limits)
    new, failures = hear_lessons(lessons, ear, jobs=jobs, cache_key=key, progress=progress)
    noticed = []
    for item in new:
        noticed += [f"{item.lesson.path.name}: {note}" for note in item.warnings]

    heard, about_copies = without_copies(new)
    if old:
        heard, moved = with_new(old.lessons, heard)
        noticed += moved
    check_labels(heard, [reason for _, reason in failures] + list(about_copies))

    kept = KeptLessons(heard, coverage, card.sha256)
    head, score, about_fit = fit_head(name, heard, default, hop_s=framing.hop_s)
    curve = _curve_of(heard, head.labels) if with_curve else ()
    head = replace(head, card=head.card | _card_of_lessons(kept, curve))
    with writing_result(path, "Choose another --output; what was heard is kept, so the next time is quick"):
        kept.save(heard_path(path))
        head.save(path)
    return Taught(
        head=head,
        path=path,
        counts=_tracks_by_label(heard),
        score=score,
        warnings=(*warnings, *about_copies, *noticed, *about_fit),
        failures=failures,
        seconds=time.monotonic() - started,
        artists=_artists_by_label(heard),
        n_known=_n_known(heard),
        curve=curve,
    )


def _on_other_ears(default: GenreHead, card: BundleCard, model: str) -> GenreHead:
    """Let the default head, which new heads take their surroundings from, stand on another network."""
    surroundings: dict[str, Any] = {"licences": {f"{card.name} weights": card.licence}}
    if sha256 := ears_sha256(card):
        surroundings["ears_sha256"] = sha256
    if Path(model).suffix == ".onnx":  # a file of somebody's, which may become another
        surroundings["bundle_sha256"] = card.sha256

    # Its style tags are those of MSD-MusiCNN, with a threshold for them.
    tags = default.style_tags if card.tags == published(default.bundle_name).tags else ()
    return replace(default, bundle_name=model, style_tags=tags, card=surroundings)


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

    trials = [cross_validate(views, truth, groups, len(labels), seed) for seed in range(_n_seeds(len(heard)))]
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
    score = score_of(trials, truth, counts, temperatures)

    # An answer needs support, too: what is unlike all these tracks gets none.
    surely_right = []
    for trial in trials:
        spoken = believed(trial.logits["default"], counts["default"], temperatures)
        is_right = trial.tested & (spoken.argmax(axis=1) == truth)
        surely_right.append(is_right & (spoken.max(axis=1) >= score.answered.threshold))
    known = GenreHead.load_default().support if default.bundle_name in (DEFAULT_BUNDLE, BOTH) else None
    support, about_support = taught_support(
        [item.embedding for item in heard],
        heard_by_default,
        truth,
        [trial.folds for trial in trials],
        surely_right,
        known=known,
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
        card=_card_of(heard, labels, score, default, support=about_support),
        level=default.level,
        support=support,
    )
    warnings = warnings_about(heard, pairs, labels, truth, trials, score)
    too_few = (about_support,) if about_support.startswith(TOO_FEW) else ()
    return head, score, (*warnings, *too_few)


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
            f"{how_many(len(heard), 'track')} of {how_many(n_labels, 'genre')} could be heard",
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


def _tracks_by_label(heard: Sequence[HeardLesson]) -> dict[str, int]:
    """Count the tracks of every label, labels in order."""
    return dict(sorted(Counter(item.lesson.label for item in heard).items()))


def _artists_by_label(heard: Sequence[HeardLesson]) -> dict[str, int]:
    """Count the artists (groups) that are known, by label."""
    artists: dict[str, set[str]] = {}
    for item in heard:
        artists.setdefault(item.lesson.label, set()).update({item.lesson.group} - {""})
    return {label: len(names) for label, names in sorted(artists.items())}


def _n_known(heard: Sequence[HeardLesson]) -> int:
    """Count the tracks whose artist is known."""
    return sum(bool(item.lesson.group) for item in heard)


def _card_of(
    heard: Sequence[HeardLesson], labels: Sequence[str], score: Score, default: GenreHead, *, support: str
) -> dict[str, Any]:
    """Write the card of a head: data, protocol, scores and the licence of what it reads."""
    recalls: dict[str, float | None] = dict.fromkeys(labels)
    for number, label in enumerate(labels):
        if score.classes.support[number]:
            recalls[label] = round(float(score.classes.recall[number]), _DIGITS)

    licences = default.card["licences"]
    if default.bundle_name == DEFAULT_BUNDLE:  # of what the default head was taught on, nothing is in this one
        licences = {"MusiCNN weights": licences["MusiCNN weights"]}
    n_known = _n_known(heard)
    groups = "none given: tracks of one artist may stand on both sides"
    if n_known:
        groups = "kept apart" if n_known == len(heard) else f"kept apart, known of {n_known} of {len(heard)} tracks"
    return {
        "description": f"Taught by its owner on {how_many(len(heard), 'track')}; "
        f"reads mean embeddings of {default.bundle_name}.",
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
        **({"bundle_sha256": default.bundle_sha256} if default.bundle_sha256 else {}),
    }


def _card_of_lessons(kept: KeptLessons, curve: Sequence[CurvePoint]) -> dict[str, Any]:
    """What a card tells of the lessons: the checksum of what was heard, and the learning curve."""
    told: dict[str, Any] = {CARD_KEY: kept.checksum()}
    if curve:
        points = []
        for point in curve:
            ends = [round(end, _DIGITS) for end in point.interval]
            figures = {"accuracy": round(point.accuracy, _DIGITS), "interval_95": ends}
            points.append({"tracks_a_label": point.tracks_per_label, **figures})
        told["learning_curve"] = points
    return told


def _curve_of(heard: Sequence[HeardLesson], labels: Sequence[str]) -> tuple[CurvePoint, ...]:
    """Measure how accuracy grows, with settings chosen on all tracks."""
    features = np.stack([item.embedding.mean(axis=0, dtype=np.float64) for item in heard])
    truth = np.array([labels.index(item.lesson.label) for item in heard], dtype=np.intp)
    groups = join_groups([item.lesson.group for item in heard], near_pairs(features))
    settings = choose_settings(features, truth, groups, len(labels), seed=0)
    return learning_curve(features, truth, groups, len(labels), settings, n_seeds=_n_seeds(len(heard)))


def _n_seeds(n_tracks: int) -> int:
    return _SEEDS if n_tracks <= _MANY_TRACKS else 1
