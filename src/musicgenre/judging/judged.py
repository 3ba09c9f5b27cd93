"""Models that are judged: each answers tracks it was not made for, and tells what it learnt from if it knows.

A run answers as it did in training, segment by segment, from sound, pictures or the columns of a table; a bundle, a
taught head and the default model hear files as anybody's.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre._text import printable
from musicgenre.bundle.load import read_card
from musicgenre.bundle.store import bundle_path, is_model_name
from musicgenre.bundle.versions import current_bundle, holds_versions
from musicgenre.data.learnt import LearntFrom
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import DataError, RunError, UsageError, needing
from musicgenre.evaluation.metrics import fitted_thresholds
from musicgenre.evaluation.protocols import learnt_tracks
from musicgenre.listening.answer import Answer
from musicgenre.listening.batch import hear_many, plan_threads
from musicgenre.listening.classifier import Classifier
from musicgenre.models.head import DEFAULT_HEAD, GenreHead, list_taught, load_head, taught_path
from musicgenre.models.pooling import Pooling, mixture_from_settings
from musicgenre.runs.folder import RUN_FILE, Run, holds_runs, names_of_runs, open_run, open_runs
from musicgenre.runs.predictions import Predictions

Float64 = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is."""

_LEARNT_FILE = "default-learnt-from.json"


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model said of tracks.

    Parameters
    ----------
    track_ids : tuple of str
        The track of each of the n rows, which are segments or whole tracks.
    starts_s : ndarray, shape (n,)
        Where each row starts in its track, in seconds.
    scores : ndarray, shape (n, n_labels)
        Probabilities.
    failures : dict of str to str
        Tracks that could not be heard, and why.
    unsure : frozenset of str
        Tracks that the model would rather not name.
    thresholds : ndarray, shape (n_labels,), or None
        Of a tagger: from which probability on a track has each tag; None where the model has none.
    """

    track_ids: tuple[str, ...]
    starts_s: Float64
    scores: Float64
    failures: dict[str, str]
    unsure: frozenset[str] = frozenset()
    thresholds: Float64 | None = None


class Judged(Protocol):
    """A model that can be judged.

    Attributes
    ----------
    name : str
        What it is called.
    systems : tuple of str
        Row codes of the systems it rebuilds.
    labels : tuple of str
        What it can say.
    are_tags : bool
        Whether these are tags, any number of which it may mean.
    pooling : str
        How the segments of a track score together.
    learnt_from : LearntFrom or None
        None where nobody noted it.
    caveats : tuple of str
        What holds of all its answers.
    parameter_count : int or None
        Parameters of the model.
    models : tuple of str
        Names of the models that answer, in the order of their answers; of one alone its name.
    """

    name: str
    systems: tuple[str, ...]
    labels: tuple[str, ...]
    are_tags: bool
    pooling: Pooling
    learnt_from: LearntFrom | None
    caveats: tuple[str, ...]
    parameter_count: int | None
    models: tuple[str, ...]

    def answer(self, tracks: Sequence[Track], *, jobs: int, progress: Progress | None) -> list[Answers]:
        """Answer every track: one entry a model, where there are several of a group."""
        ...


def open_judged(model: str, *, coverage: str | float | None = None) -> Judged:
    """Open a run, a group of runs, a bundle, a taught head, a published tagger or the default model.

    Parameters
    ----------
    model : str
        Its name or path; a name that a folder of runs, or of versions, here has as well is refused.
    coverage : str, float or None
        Seconds of each track to hear, or `full`; a run always hears everything.

    Raises
    ------
    RunError, BundleError
        It is none of these, or damaged.
    UsageError
        It means two things, or a run is to hear less.
    """
    path = Path(model)
    is_name = os.sep not in model and is_model_name(model)
    if is_name and (holds_runs(path) or holds_versions(path)):
        raise _two_meanings(model)
    if holds_versions(path):
        return JudgedListener(os.path.join(os.curdir, model), coverage)  # noqa: PTH118 - a Path would drop the dot
    if is_name or not path.is_dir():
        return JudgedListener(model, coverage)
    if coverage is not None:
        raise UsageError("a run hears whole tracks, as in training", next_step="Leave --coverage out")
    return JudgedRuns(open_runs(path), names_of_runs([path])[0])


def _two_meanings(name: str) -> UsageError:
    """Make the error for a name of a model that a folder of ours in the working folder has as well."""
    folder = f"{os.curdir}{os.sep}{name}"
    if name == DEFAULT_HEAD:
        model, way = (
            "the model that comes with musicgenre",
            "for that model work in another folder, or rename this one",
        )
    elif name in list_taught():
        model, way = "a model that was taught here", f"{taught_path(name)} for that model"
    else:
        model, way = "a bundle", f"{bundle_path(name)} for the bundle"
    return UsageError(
        f"{printable(name)} is both {model} and a folder here that holds runs or versions of a model",
        valid="a path, which means one thing",
        next_step=f"Give {printable(folder)} for the folder, or {way}",
    )


class JudgedRuns:
    """A run, or several of one recipe, each of which answers every track.

    Parameters
    ----------
    runs : sequence of Run
        The runs.
    name : str
        What they are called.
    """

    def __init__(self, runs: Sequence[Run], name: str) -> None:
        first = runs[0]
        self.runs, self.name = runs, name
        self.systems, self.labels, self.are_tags = first.systems, first.labels, first.is_tagging
        self.pooling, self.parameter_count = first.pooling, first.parameter_count
        self.caveats: tuple[str, ...] = ()
        self.models = tuple(run.curve_name for run in runs)

        # what chose the weights was learnt from too; the test part alone was not
        self.learnt_from: LearntFrom | None = None
        learnt = []
        for run in runs:
            manifest = run.manifest()
            if manifest is None:
                return
            learnt.append(LearntFrom.of(learnt_tracks(manifest, run.protocol)))
        self.learnt_from = LearntFrom.together(learnt)

    def answer(self, tracks: Sequence[Track], *, jobs: int, progress: Progress | None) -> list[Answers]:
        """Prepare the tracks as in training, and let every run answer."""
        with needing("hearing with a run", "train"):  # the light install has no torch
            from musicgenre.training.trained import load_trained  # noqa: F401

        answers = [_answers_of_run(run, tracks, jobs, progress) for run in self.runs]
        if not self.are_tags:
            return answers
        fitted = []
        for run, own in zip(self.runs, answers, strict=True):  # its own validation part decides, as for its test part
            validation = run.tag_predictions("validation").by_track(self.pooling)
            fitted.append(replace(own, thresholds=fitted_thresholds(validation)))
        return fitted


class JudgedListener:
    """Whatever the Classifier can load; one row a track.

    Parameters
    ----------
    model : str
        As `musicgenre.Classifier` takes it.
    coverage : str, float or None
        Seconds of each track to hear, or `full`; None takes the measured default.
    """

    def __init__(self, model: str, coverage: str | float | None) -> None:
        self._classifier = Classifier(model, coverage=coverage, threads=1)
        self.name = self._classifier.model
        self.systems: tuple[str, ...] = ()
        self.are_tags = self._classifier.names_tags
        self.labels = self._classifier.vocabulary if self.are_tags else self._classifier.labels
        self.pooling: Pooling = "mean"
        self.caveats = self._classifier.caveats
        self.parameter_count: int | None = None
        self.models: tuple[str, ...] = (self.name,)
        self.learnt_from = _learnt_by(model)

    def answer(self, tracks: Sequence[Track], *, jobs: int, progress: Progress | None) -> list[Answers]:
        """Hear the files."""
        silent = [track for track in tracks if track.path.suffix.lower() not in audio.AUDIO_SUFFIXES]
        if silent:
            raise UsageError(
                f"{self.name} hears sound, and {silent[0].track_id} is {printable(silent[0].path.name)}",
                valid="a manifest of sound files; runs on a table or on pictures are judged as run folders",
            )

        rows, names, unsure = [], [], []
        failures: dict[str, str] = {}
        n_jobs, _ = plan_threads(jobs, 1, len(tracks))
        heard = hear_many([str(track.path) for track in tracks], self._classifier.classify, jobs=n_jobs)
        for number, (track, result) in enumerate(zip(tracks, heard, strict=True), start=1):
            if isinstance(result, Answer):
                said = result.tags if self.are_tags else result.scores
                rows.append([said[label] for label in self.labels])
                names.append(track.track_id)
                if not self.are_tags and not result.is_sure:
                    unsure.append(track.track_id)
            else:
                failures[track.track_id] = result.error
            if progress is not None:
                progress(f"listening with {self.name}", number, len(tracks))

        scores = np.array(rows, dtype=np.float64).reshape(len(names), len(self.labels))
        return [Answers(tuple(names), np.zeros(len(names)), scores, failures, frozenset(unsure), self._thresholds())]

    def _thresholds(self) -> Float64 | None:
        """Those on the card of a tagger, in the order of its tags."""
        card = self._classifier.card
        if not self.are_tags or not card.get("thresholds"):
            return None
        of_tag = dict(zip(card["labels"], card["thresholds"], strict=True))
        return np.array([of_tag[tag] for tag in self.labels], np.float64)


def learnt_by_default() -> LearntFrom:
    """The tracks of GTZAN that the default head was fitted on, as `scripts/train_genre_head.py` noted them."""
    text = resources.files("musicgenre.models").joinpath("heads", _LEARNT_FILE).read_text(encoding="utf-8")
    return LearntFrom.from_values(json.loads(text), _LEARNT_FILE)


def _learnt_by(model: str) -> LearntFrom | None:
    """What a bundle or head notes of its training; None where it notes nothing."""
    bundle = current_bundle(model) or Path(model)
    if bundle.suffix == ".onnx":
        values = read_card(bundle).learnt_from
        return LearntFrom.from_values(values, model) if values else None
    if model == DEFAULT_HEAD:
        return learnt_by_default()

    path = Path(model) if Path(model).suffix == ".json" else taught_path(model)
    if not path.is_file():  # a published tagger
        return None
    head: GenreHead = load_head(model)
    from musicgenre.teaching.kept import read_kept

    try:
        lessons = read_kept(path, head).lessons
    except DataError:  # what was heard for it was deleted
        return None
    return LearntFrom.of_names(
        [item.lesson.path.stem for item in lessons],
        [item.content for item in lessons],
        [item.lesson.group for item in lessons],
        digest="sha256",
    )


def _answers_of_run(run: Run, tracks: Sequence[Track], jobs: int, progress: Progress | None) -> Answers:
    """Let one run answer; an ensemble's members answer first, then together."""
    made = run.info.get("ensemble")
    if made is None:
        return _answers_of_network(run, tracks, jobs, progress)

    members: list[Predictions] = []
    failures: dict[str, str] = {}
    for described in made["members"]:
        folder = Path(os.path.normpath(run.folder / described["folder"]))
        if not (folder / RUN_FILE).is_file():
            raise RunError(f"{folder}, a run of the ensemble {run.folder}, is not there", next_step="Put it back")
        member = open_run(folder)
        if str(member.info.get("finished") or "") > str(run.info.get("finished") or ""):
            raise RunError(
                f"{folder}, a run of the ensemble {run.folder}, was trained or continued after that was made",
                next_step="Make the ensemble again: musicgenre ensemble",
            )
        answers = _answers_of_run(member, tracks, jobs, progress)
        failures |= answers.failures
        order = [member.labels.index(label) for label in run.labels]
        truth = np.zeros(len(answers.track_ids), dtype=np.intp)
        rows = Predictions(run.labels, answers.track_ids, answers.starts_s, truth, answers.scores[:, order])
        members.append(rows.by_track(member.pooling))

    # what one of them could not hear, none answers
    shared = [name for name in members[0].track_ids if name not in failures]
    stacked = []
    for own in members:
        row_of = {name: row for row, name in enumerate(own.track_ids)}
        stacked.append(own.scores[[row_of[name] for name in shared]])
    mixture = mixture_from_settings(made, len(members), len(run.labels))
    return Answers(tuple(shared), np.zeros(len(shared)), mixture(np.stack(stacked)), failures)


def _answers_of_network(run: Run, tracks: Sequence[Track], jobs: int, progress: Progress | None) -> Answers:
    """Prepare tracks as training did, in the cache, and compute the probabilities of all segments."""
    import torch

    from musicgenre.features.prepare import prepare
    from musicgenre.training.fit import probabilities
    from musicgenre.training.material import cache_place
    from musicgenre.training.trained import load_trained

    trained = load_trained(run.folder)
    manifest = Manifest(None, tuple(tracks))
    representation = _representation(trained.representation, manifest)
    settings: list[Any] = [representation.settings(), trained.hop_s, "float32"]
    done = prepare(
        manifest,
        representation,
        cache_place("stores", manifest, settings),
        wait_s=math.inf,
        hop_s=trained.hop_s,
        jobs=jobs,
        progress=None if progress is None else lambda n, total: progress(f"preparing {representation.name}", n, total),
    )

    store = done.open()
    rows = store.everything
    activation = run.info.get("activation", "softmax")
    scores = probabilities(trained.network, trained.normalise, rows, torch.device("cpu"), activation)
    return Answers(
        tuple(map(str, rows.track_ids)),
        np.asarray(rows.starts_s, np.float64),
        np.asarray(scores, np.float64),
        {skip.track_id: skip.reason for skip in done.skipped},
    )


def _representation(settings: Any, manifest: Manifest) -> Any:
    """What the run reads; of a feature table the manifest's own columns where it has them, else from the sound."""
    from musicgenre.features.registry import create_representation, representation_from_settings
    from musicgenre.features.representations.columns import missing_columns

    representation = representation_from_settings(settings)
    columns = representation.columns
    if not columns or representation.segment_s is not None:
        return representation
    if not missing_columns(columns, manifest.extra_columns):
        return create_representation("columns", names=list(columns))
    if representation.reads == "columns":
        table = create_representation("table")
        if tuple(table.columns) != tuple(columns):
            raise UsageError(
                f"the run reads {len(columns)} columns that these tracks do not have, and sound does not give",
                valid=f"columns {', '.join(list(columns)[:3])} ... in the manifest",
            )
        return table
    return representation
