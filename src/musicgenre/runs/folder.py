"""The run folder: everything that one training leaves behind and that repeats it, written and read.

A run is described by its `run.json`. Runs of several seeds and folds lie in a group, whose `group.json` lists them;
runs of several recipes that differ in one thing lie in a study, whose `study.json` lists them. What is damaged or from
a newer version is refused.
"""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import write_text_atomic, writing_result
from musicgenre._json import pretty_json, read_versioned_json
from musicgenre._locks import LOCK_NAME
from musicgenre._text import did_you_mean_path, printable, short_repr, shortened
from musicgenre._version import __version__
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.errors import RunError, UsageError
from musicgenre.models.pooling import POOLINGS, Pooling
from musicgenre.runs.predictions import (
    Predictions,
    TagPredictions,
    csv_text,
    read_predictions,
    read_tag_predictions,
    write_predictions,
)

if TYPE_CHECKING:
    from musicgenre.data.store import PartView

FORMAT_VERSION = 1
"""Newest format of run.json, group.json and study.json."""

RUN_FILE, GROUP_FILE, STUDY_FILE = "run.json", "group.json", "study.json"
SEARCH_FILE = "search.json"
"""What a search is described in (`musicgenre.search`); its trials and winners are runs within its folder."""

CONTINUATION = "continuation"
"""Folder in a finished run, in which more epochs are trained; it goes when they take their place."""

METRICS = (
    "epoch",
    "train_loss",
    "validation_loss",
    "train_accuracy",
    "validation_accuracy",
    "validation_macro_f1",
    "validation_roc_auc",
    "validation_pr_auc",
    "seconds",
    "waiting_share",
)
"""Columns of the learning curves; a run measures some of them."""

# Versions of these are noted: they decide the numbers.
_PACKAGES = ("torch", "lightning", "numpy", "scipy", "scikit-learn", "librosa", "audiomentations", "soundfile", "soxr")
# Other keys may be missing: ensembles, for one, have no model of their own.
_REQUIRED = ("recipe", "labels", "seed", "protocol", "status")
_FINISHED = "finished"
# Beside predictions and logs; a study's variants and a group's runs have them in folders of their own.
_RUN_FILES = frozenset(
    {
        *(RUN_FILE, GROUP_FILE, STUDY_FILE),
        *("recipe.yaml", "manifest.csv", "normalisation.json", "model.safetensors", "resume.ckpt"),
    }
)
_DEEPEST_IN_A_SEARCH = 3  # SEARCH/winner-0007/seed-0/fold-0
_TRAIN_AGAIN = "Train this run again"
_N_SHOWN = 80
"""So many characters of a wrong value stand in a message."""


class RunFolder:
    """Names and writers of a run's files.

    Parameters
    ----------
    folder : Path
        Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = folder / RUN_FILE
        self.recipe = folder / "recipe.yaml"
        self.manifest = folder / "manifest.csv"
        self.normalisation = folder / "normalisation.json"
        self.weights = folder / "model.safetensors"
        self.logs = folder / "logs"
        self.metrics = self.logs / "metrics.csv"
        self.resume_state = folder / "resume.ckpt"

    def predictions(self, part: str) -> Path:
        """Path of the predictions of a part."""
        return self.folder / f"predictions_{part}.csv"

    @property
    def status(self) -> str | None:
        """`running`, `finished`, `failed`, `interrupted`; `None` where there is no run."""
        return str(read_description(self.folder)["status"]) if self.description.is_file() else None

    def begin(self, facts: Mapping[str, Any], recipe_yaml: str, normalisation: Mapping[str, Any]) -> None:
        """Write what is known before the first epoch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        write_text_atomic(self.recipe, recipe_yaml)
        write_text_atomic(self.normalisation, pretty_json(normalisation, indent=1))
        # run.json comes last: a folder without it is no run, and nothing can be resumed in it
        self.describe({**facts, "status": "running", "started": timestamp(), "finished": None})

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Mark the run as whole."""
        self.describe({**read_description(self.folder), **facts, "status": _FINISHED, "finished": timestamp()})

    def stop(self, status: str, reason: str) -> None:
        """Mark the run as failed or interrupted."""
        if self.description.is_file():  # a training that never began leaves nothing to mark
            known = read_description(self.folder)
            self.describe({**known, "status": status, "reason": reason, "finished": timestamp()})

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        write_text_atomic(self.description, pretty_json({"format_version": FORMAT_VERSION, **facts}, indent=1))

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the learning curves, one row an epoch; what was not measured stays empty."""
        table = [list(METRICS)]
        for row in rows:
            table.append([f"{row[name]:.9g}" if row.get(name) is not None else "" for name in METRICS])
        write_text_atomic(self.metrics, csv_text(table))

    def read_metrics(self, name: str) -> list[float]:
        """Read one column of the learning curves."""
        return [row[name] for row in self.read_epochs()]

    def read_epochs(self) -> list[dict[str, float]]:
        """Read the learning curves, one row an epoch, each with what was measured."""
        with self.metrics.open(encoding="utf-8", newline="") as stream:
            return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(stream)]

    def write_predictions(self, part: str, rows: PartView, scores: NDArray[np.floating[Any]]) -> None:
        """Write probabilities (n_rows, n_labels), one line per segment, with what is true of it."""
        labels, track_ids = rows.label_names, tuple(map(str, rows.track_ids))
        starts_s, probabilities = np.asarray(rows.starts_s, np.float64), np.asarray(scores, np.float64)
        predictions: Predictions | TagPredictions
        if rows.tags is None:
            predictions = Predictions(labels, track_ids, starts_s, np.asarray(rows.labels, np.intp), probabilities)
        else:
            targets = np.asarray(rows.targets(), np.float64)
            predictions = TagPredictions(labels, track_ids, starts_s, targets, probabilities, rows.tags.soft)
        write_predictions(predictions, self.predictions(part))


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run: what one training left behind.

    Parameters
    ----------
    folder : Path
        The folder.
    info : mapping
        Content of its `run.json`.
    """

    folder: Path
    info: Mapping[str, Any]

    @property
    def files(self) -> RunFolder:
        """Where its files lie."""
        return RunFolder(self.folder)

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return str(self.info["recipe"])

    @property
    def systems(self) -> tuple[str, ...]:
        """Row codes of the systems the recipe rebuilds, as `A5`."""
        return tuple(self.info.get("systems") or ())

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels or tags, in the order of the model's outputs."""
        return tuple(self.info["labels"])

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.info["seed"])

    @property
    def fold(self) -> int | None:
        """Fold that was held out, if this run is part of a k-fold."""
        fold = self.info.get("fold")
        return None if fold is None else int(fold)

    @property
    def protocol(self) -> str:
        """Name of the protocol that split the tracks."""
        return str(self.info["protocol"])

    @property
    def task(self) -> str:
        """`single_label` or `multi_label`; runs from before there were taggers do not say."""
        return str(self.info.get("task", "single_label"))

    @property
    def is_tagging(self) -> bool:
        """Whether it names any number of tags a track."""
        return self.task == "multi_label"

    @property
    def curve_name(self) -> str:
        """Seed and fold, as a legend names them."""
        return f"seed {self.seed}" + ("" if self.fold is None else f", fold {self.fold}")

    @property
    def pooling(self) -> Pooling:
        """How the recipe lets the segments of a track score together; `scoring` in `run.json`."""
        pooling = self.info.get("scoring", "mean")
        if pooling not in POOLINGS:
            raise RunError(
                f"{self.folder} scores segments together by {pooling!r}", valid=f"one of {', '.join(POOLINGS)}"
            )
        return cast("Pooling", pooling)

    @property
    def parameter_count(self) -> int | None:
        """Number of the model's parameters, where that has a meaning."""
        count = self.info.get("parameters")
        return None if count is None else int(count)

    @property
    def best_epoch(self) -> int | None:
        """Number of the epoch, from 0, whose weights were kept; None where a single fit left none to choose."""
        return self.info["best_epoch"] if self.info.get("epochs", 0) > 1 else None

    @property
    def continued(self) -> tuple[Mapping[str, Any], ...]:
        """How it was given more epochs after it was finished: `from_epoch`, `to_epoch` and so on, oldest first."""
        return tuple(continuations_of(self.folder, self.info))

    @property
    def chose_weights(self) -> bool:
        """Whether its validation part chose among weights: a network's, for classical models are fitted in one go."""
        return self.parameter_count is not None or "ensemble" in self.info

    def manifest(self) -> Manifest | None:
        """Read the manifest with the split this run was trained on, if it is there."""
        path = self.files.manifest
        return read_manifest(path) if path.is_file() else None

    def predictions(self, part: str = "test") -> Predictions:
        """Predictions for the `test` or `validation` part, one row per segment.

        Raises
        ------
        RunError
            The run names tags, or the predictions are missing, damaged, without rows or of other labels.
        """
        if self.is_tagging:
            raise RunError(
                f"{self.folder} names tags (task: multi_label), not one label per track",
                valid="a run with task: single_label; 'musicgenre evaluate' and 'musicgenre compare' take both",
            )
        predictions = read_predictions(self.files.predictions(part))
        self._check_predictions(part, predictions)
        return predictions

    def tag_predictions(self, part: str = "test") -> TagPredictions:
        """Predictions of a tagger for the `test` or `validation` part, one row per segment.

        Raises
        ------
        RunError
            The predictions are missing, damaged, without rows, of labels or of other tags.
        """
        predictions = read_tag_predictions(self.files.predictions(part))
        self._check_predictions(part, predictions)
        return predictions

    def _check_predictions(self, part: str, predictions: Predictions | TagPredictions) -> None:
        if predictions.labels != self.labels:
            raise RunError(
                f"predictions_{part}.csv in {self.folder} has the labels {', '.join(predictions.labels)}",
                valid=f"those of its {RUN_FILE}: {', '.join(self.labels)}",
            )
        if not len(predictions):
            raise RunError(f"predictions_{part}.csv in {self.folder} has no rows")

    def curves(self) -> dict[str, list[float | None]]:
        """Learning curves: column name to one value an epoch (None where not measured); empty without a log."""
        path = self.files.metrics
        if not path.is_file():
            return {}
        curves: dict[str, list[float | None]] = {}
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    for name, cell in row.items():
                        curves.setdefault(name, []).append(float(cell) if cell else None)
        except (ValueError, TypeError, csv.Error) as error:
            raise RunError(f"{path} is damaged ({error})") from error
        return curves


def open_run(folder: Path) -> Run:
    """Open one run folder.

    Raises
    ------
    RunError
        It is no run folder, damaged, from a newer version, or its training did not finish.
    """
    info = read_description(folder)
    path = folder / RUN_FILE
    if missing := [name for name in _REQUIRED if name not in info]:
        raise RunError(f"{path} is damaged: it lacks {', '.join(missing)}", next_step=_TRAIN_AGAIN)
    for name, (is_valid, valid) in _CHECKS.items():
        if name in info and not is_valid(info[name]):
            value = repr(info[name])
            if len(value) > _N_SHOWN:
                value = f"{value[: _N_SHOWN - 3]}..."
            raise RunError(f"{path} is damaged: it says {name}={value}", valid=valid, next_step=_TRAIN_AGAIN)

    if info["status"] != _FINISHED:
        raise RunError(
            f"the training in {folder} did not finish (status: {info['status']})",
            next_step="Resume it with 'musicgenre train --resume', then try again",
        )
    return Run(folder=folder, info=info)


def open_runs(folder: Path) -> tuple[Run, ...]:
    """Open a run folder or a group of them (seeds, folds); the runs come sorted by seed and fold.

    Raises
    ------
    RunError
        As `open_run`, or the runs of a group do not belong together.
    """
    if is_study(folder):
        raise RunError(
            f"{folder} holds a study of several recipes",
            valid="a run, or a group of seeds and folds of one recipe",
            next_step="'musicgenre evaluate' takes a study; for anything else give the folder of one variant",
        )
    if (folder / SEARCH_FILE).is_file():
        winners = sorted(path.name for path in folder.glob("winner-*") if path.is_dir())
        raise RunError(
            f"{folder} holds a search",
            valid="a run, or a group of seeds and folds of one recipe",
            next_step="'musicgenre evaluate' and 'musicgenre compare' take a search; for anything else give "
            + (f"{folder / winners[-1]}, its winner" if winners else "the folder of a run"),
        )
    if not (folder / GROUP_FILE).is_file():
        return (open_run(folder),)

    runs: list[Run] = []
    for child in _children(folder, _read(folder / GROUP_FILE), GROUP_FILE):
        runs += open_runs(child)  # a child may be a group itself
    for run in runs[1:]:
        if (run.recipe, run.labels, run.protocol) != (runs[0].recipe, runs[0].labels, runs[0].protocol):
            raise RunError(
                f"{run.folder} and {runs[0].folder} differ in recipe, labels or protocol",
                valid="runs of one group share all three",
            )
    # a run without folds comes before fold 0
    return tuple(sorted(runs, key=lambda run: (run.seed, -1 if run.fold is None else run.fold)))


def names_of_runs(folders: Sequence[str | Path]) -> list[str]:
    """Name folders of runs as they are called, with as many of their parents as it takes to tell them apart.

    What lies in a search bears its name too: the winners of all searches are called alike.
    """
    paths = [Path(folder).resolve() for folder in folders]
    names = []
    for path in paths:
        n_parts = 1
        for depth, place in enumerate(path.parents[:_DEEPEST_IN_A_SEARCH], start=2):
            if (place / SEARCH_FILE).is_file():
                n_parts = depth
        names.append("/".join(path.parts[-n_parts:]))

    n_parts = 1
    while len(set(names)) < len(set(paths)):
        n_parts += 1
        names = ["/".join(path.parts[-n_parts:]) for path in paths]
    return [printable(name) for name in names]


def holds_runs(folder: Path) -> bool:
    """Whether the folder holds a run, a group, a study or a search."""
    return any((folder / name).is_file() for name in (RUN_FILE, GROUP_FILE, STUDY_FILE, SEARCH_FILE))


def is_study(folder: Path) -> bool:
    """Whether the folder holds a study."""
    return (folder / STUDY_FILE).is_file()


def open_study(folder: Path) -> tuple[str, list[Path]]:
    """Read which recipe a study is of, and the folders of its variants, the first of which is held against all others.

    Raises
    ------
    RunError
        The folder holds no study, or its `study.json` is damaged or from a newer version.
    """
    if not is_study(folder):
        raise RunError(f"{folder} holds no study: it has no {STUDY_FILE}")
    content = _read(folder / STUDY_FILE)
    return str(content.get("recipe", folder.name)), _children(folder, content, STUDY_FILE)


def read_description(folder: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises
    ------
    RunError
        If it is missing, damaged or from a newer version.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        near = "" if folder.exists() else did_you_mean_path(folder)
        inside = sorted(printable(found) for found in folder.glob("*") if holds_runs(found))
        raise RunError(
            f"{folder} is no run folder: it has no {RUN_FILE}",
            valid=f"runs, as those in it: {shortened(inside, 4)}" if inside else "",
            next_step=f"{near}Give the folder that 'musicgenre train' printed",
        )
    return _read(path)


def continuations_of(folder: Path, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries of `continued` in a `run.json`, oldest first; see `musicgenre.training.continuing`.

    Raises
    ------
    RunError
        They are damaged.
    """
    entries = info.get("continued", [])
    if not _are_continuations(entries):
        raise RunError(
            f"{folder / RUN_FILE} is damaged: it says continued={short_repr(entries)}", next_step=_TRAIN_AGAIN
        )
    return [dict(entry) for entry in entries]


def write_group(folder: Path, children: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write `group.json`, which lists the runs of several seeds and folds."""
    content = {"format_version": FORMAT_VERSION, **facts, "children": list(children)}
    write_text_atomic(folder / GROUP_FILE, pretty_json(content, indent=1))


def write_study(folder: Path, variants: Sequence[str], recipe: str) -> None:
    """Write `study.json`, which lists runs of different recipes that belong together."""
    content = {"format_version": FORMAT_VERSION, "recipe": recipe, "children": list(variants)}
    write_text_atomic(folder / STUDY_FILE, pretty_json(content, indent=1))


def files_of_runs(folder: Path) -> list[Path]:
    """List the files in a folder that runs consist of, those of groups and studies too; reports are none of them."""
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if _is_of_a_run(path) and path.is_file():
            found.append(path)
    return found


def new_folder(wanted: Path) -> Path:
    """Make `wanted`, or the first of `wanted-2`, `wanted-3` ... that does not exist; nobody else gets the same."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    candidate, number = wanted, 1
    while True:
        try:
            candidate.mkdir()
        except FileExistsError:
            number += 1
            candidate = wanted.with_name(f"{wanted.name}-{number}")
        else:
            return candidate


@contextmanager
def output_folder(output: Path | None, wanted: Path) -> Iterator[Path]:
    """Yield the folder that a command writes runs into; one that was made here goes again if nothing was.

    Parameters
    ----------
    output : Path or None
        The folder that was asked for; it need not exist.
    wanted : Path
        What to call a new one otherwise, with a number behind it where that exists.

    Raises
    ------
    UsageError
        If a new one cannot be made.
    """
    is_new = output is None or not output.exists()
    with writing_result(output or wanted):
        folder = output or new_folder(wanted)
    try:
        yield folder
    finally:
        if is_new:
            with suppress(OSError):  # it holds something, or never came to be
                folder.rmdir()


def check_output(folder: Path, resume: bool | None) -> None:
    """Refuse to write over anything that is not to be resumed; `None` where nothing can be.

    Raises
    ------
    UsageError
        It is a file, or a folder that is not empty; to be resumed, one that holds something else than runs.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", next_step="Give another --output")

    # an empty folder may have been made for the run
    if not folder.is_dir() or all(path.name == LOCK_NAME for path in folder.iterdir()):
        return
    if not resume:
        next_step = "Give another --output"
        if resume is not None:
            next_step = "Go on with what is in it by --resume, or give another --output"
        raise UsageError(f"the folder {folder} is not empty", next_step=next_step)

    # What is gone on with is a run, or what a kill left of one before it had its description.
    if any((folder / name).is_file() for name in (RUN_FILE, GROUP_FILE, STUDY_FILE)):
        return
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or _is_of_a_run(path) or not path.is_file():
            continue
        # notes and reports beside a run are welcome
        within = path.relative_to(folder).parents[:-1]
        if not any((folder / parent / RUN_FILE).is_file() for parent in within):
            raise UsageError(
                f"the folder {folder} holds no run, but {printable(path.relative_to(folder))}",
                valid="The folder of an unfinished training",
                next_step="Give the --output that is to be gone on with, or a new one without --resume",
            )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"musicgenre": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an extra that is not installed decided nothing
    return found


def timestamp() -> str:
    """The time as run folders note it, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(path: Path) -> dict[str, Any]:
    return read_versioned_json(path, FORMAT_VERSION, kind="run", error=RunError, remedy=_TRAIN_AGAIN)


def _children(folder: Path, content: Mapping[str, Any], name: str) -> list[Path]:
    """Folders that a `group.json` or `study.json` lists; all lie inside `folder`, each once."""
    children = content.get("children")
    if not isinstance(children, list) or not children:
        raise RunError(f"{folder / name} is damaged: it lists no children", next_step="Train these runs again")

    # realpath and not resolve(), which raises where links lead in a circle
    whole = os.path.realpath(folder)
    paths: dict[str, Path] = {}
    for child in children:
        if not isinstance(child, str) or "\0" in child:
            raise RunError(f"{folder / name} is damaged: {child!r} is no folder", next_step="Train these runs again")

        place = os.path.realpath(folder / child)
        reason = ""
        if place == whole:
            reason = "which is the folder itself"  # it would be read without end
        elif place in paths:
            reason = "which it names twice"
        elif not Path(place).is_relative_to(whole):
            reason = "which lies outside the folder"
        if reason:
            raise RunError(f"{folder / name} names {folder / child}, {reason}", next_step="Train these runs again")
        paths[place] = folder / child
    return list(paths.values())


def _is_of_a_run(path: Path) -> bool:
    """Whether a file in a run folder is called as one that a run consists of."""
    return path.name in _RUN_FILES or path.match("predictions_*.csv") or path.parent.name == "logs"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value)


def _names_a_file(value: object) -> bool:
    """Whether an exported file may be called so: it must not lead out of the run folder."""
    return isinstance(value, str) and _is_name(value) and not value.startswith(".") and not {"/", "\\"} & set(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0  # True is an int to Python


def _is_count_or_none(value: object) -> bool:
    return value is None or _is_count(value)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_name, value))


def _are_labels(value: object) -> bool:
    return isinstance(value, list) and _are_names(value) and len(set(value)) == len(value) > 0


def _are_skips(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(skip, dict) and isinstance(skip.get("track_id"), str) for skip in value
    )


def _are_continuations(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict)
        and _is_count(entry.get("from_epoch"))
        and _is_count(entry.get("to_epoch"))
        and isinstance(entry.get("started"), str)
        and isinstance(entry.get("settings"), dict)
        and all(isinstance(change, list) and len(change) == 2 for change in entry["settings"].values())
        for entry in value
    )


def _is_ensemble(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("how"), str):
        return False
    members, weights = value.get("members"), value.get("weights", [])
    return (
        isinstance(members, list)
        and bool(members)
        and all(isinstance(member, dict) and _is_name(member.get("folder")) for member in members)
        and isinstance(weights, list)
        and all(type(weight) in (int, float) for weight in weights)
    )


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "recipe": (_names_a_file, "a name without slashes and without a dot in front"),
    "labels": (_are_labels, "a list of different names"),
    "seed": (_is_count, "a whole number from 0 on"),
    "protocol": (_is_name, "a name"),
    "status": (_is_name, "a word"),
    "fold": (_is_count_or_none, "a whole number from 0 on, or null"),
    "systems": (lambda value: value is None or _are_names(value), "a list of row codes"),
    "epochs": (_is_count, "a whole number from 0 on"),
    "best_epoch": (_is_count_or_none, "a whole number from 0 on, or null"),
    "parameters": (_is_count_or_none, "a whole number from 0 on, or null"),
    "task": (lambda value: value in ("single_label", "multi_label"), "single_label or multi_label"),
    "skipped": (_are_skips, "a list of tracks with their track_id"),
    "continued": (_are_continuations, "a list of continuations, each with from_epoch, to_epoch, started and settings"),
    "ensemble": (_is_ensemble, "how, members with their folders, and numbers for weights"),
}
"""What a key of `run.json` must hold, and the words for it."""
