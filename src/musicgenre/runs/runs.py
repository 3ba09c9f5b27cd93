"""Read run folders, alone or in groups of seeds and folds; refuse what is damaged or from a newer version."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from musicgenre._files import parsed_json
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.errors import RunError
from musicgenre.runs.predictions import Predictions, read_predictions
from musicgenre.runs.tag_predictions import TagPredictions, read_tag_predictions
from musicgenre.models.pooling import POOLINGS, Pooling
from collections.abc import Callable, Mapping
from typing import Any

RUN_FORMAT_VERSION = 1
"""Newest run folder this version reads."""

_FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder: what one training left behind.

    Parameters
    ----------
    folder : Path
        The folder.
    info : mapping
        Content of its ``run.json``.
    """

    folder: Path
    info: Mapping[str, Any]

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return str(self.info["recipe"])

    @property
    def systems(self) -> tuple[str, ...]:
        """Row codes of the systems the recipe rebuilds, as ``A5``."""
        return tuple(self.info.get("systems") or ())

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels, in the order of the model's outputs."""
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
    def is_tagging(self) -> bool:
        """Whether it names any number of tags a track."""
        return bool(self.info.get("task") == "multi_label")

    @property
    def curve_name(self) -> str:
        """Seed and fold, as a legend names them."""
        return f"seed {self.seed}" + ("" if self.fold is None else f", fold {self.fold}")

    @property
    def scoring(self) -> Pooling:
        """How the recipe lets the segments of a track score together."""
        how = self.info.get("scoring", "mean")
        if how not in POOLINGS:
            raise RunError(f"{self.folder} scores segments together by {how!r}", valid=f"one of {', '.join(POOLINGS)}")
        return cast("Pooling", how)

    @property
    def parameter_count(self) -> int | None:
        """Number of the model's parameters, where that has a meaning."""
        count = self.info.get("parameters")
        return None if count is None else int(count)

    def manifest(self) -> Manifest | None:
        """Read the manifest with the split this run was trained on, if it is there."""
        path = self.folder / "manifest.csv"
        return read_manifest(path) if path.is_file() else None

    def predictions(self, part: str = "test") -> Predictions:
        """Predictions for the ``test`` or ``validation`` part, one row a segment."""
        if self.is_tagging:
            raise RunError(
                f"{self.folder} names tags (task: multi_label), not one label a track",
                valid="a run with task: single_label; 'musicgenre evaluate' and 'musicgenre compare' take both",
            )
        predictions = read_predictions(self.folder / f"predictions_{part}.csv")
        self._check_predictions(part, predictions.labels, len(predictions))
        return predictions

    def tag_predictions(self, part: str = "test") -> TagPredictions:
        """Predictions of a tagger for the ``test`` or ``validation`` part, one row a segment."""
        predictions = read_tag_predictions(self.folder / f"predictions_{part}.csv")
        self._check_predictions(part, predictions.tags, len(predictions))
        return predictions

    def _check_predictions(self, part: str, labels: tuple[str, ...], n_rows: int) -> None:
        if labels != self.labels:
            raise RunError(
                f"predictions_{part}.csv in {self.folder} has the labels {', '.join(labels)}",
                valid=f"those of its run.json: {', '.join(self.labels)}",
            )
        if not n_rows:
            raise RunError(f"predictions_{part}.csv in {self.folder} has no rows")

    def curves(self) -> dict[str, list[float | None]]:
        """Learning curves: column name to one value an epoch (None where not measured); empty without a log."""
        path = self.folder / "logs" / "metrics.csv"
        if not path.is_file():
            return {}
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
            return {name: [_number(row[name]) for row in rows] for name in (rows[0] if rows else {})}
        except (ValueError, KeyError, csv.Error) as error:
            raise RunError(f"{path} is damaged ({error})") from error


def open_run(folder: Path) -> Run:
    """Open one run folder.

    Raises
    ------
    RunError
        It is no run folder, damaged, from a newer version, or its training did not finish.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise RunError(
            f"{folder} is no run folder: it has no run.json",
            next_step="Give the folder that 'musicgenre train' printed",
        )
    info = read_versioned_json(path, RUN_FORMAT_VERSION)
    check_facts(path, info)
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
        As :func:`open_run`, or the runs of a group do not belong together.
    """
    if (folder / "study.json").is_file():
        raise RunError(
            f"{folder} holds a study of several recipes",
            valid="a run, or a group of seeds and folds of one recipe",
            next_step="'musicgenre evaluate' takes a study; for anything else give the folder of one variant",
        )
    if not (folder / "group.json").is_file():
        return (open_run(folder),)
    content = read_versioned_json(folder / "group.json", RUN_FORMAT_VERSION)
    runs = [run for child in children_of(folder, content, "group.json") for run in open_runs(child)]
    for run in runs[1:]:
        if (run.recipe, run.labels, run.protocol) != (runs[0].recipe, runs[0].labels, runs[0].protocol):
            raise RunError(
                f"{run.folder} and {runs[0].folder} differ in recipe, labels or protocol",
                valid="runs of one group share all three",
            )
    return tuple(sorted(runs, key=lambda run: (run.seed, -1 if run.fold is None else run.fold)))


def read_versioned_json(path: Path, newest: int) -> dict[str, Any]:
    """Read a JSON object with a ``format_version``; refuse versions newer than ``newest``."""
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error})", next_step="Train this run again") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise RunError(f"{path} is damaged: it has no format_version", next_step="Train this run again")
    if version > newest:
        raise RunError(
            f"{path} has format version {version}, written by a newer musicgenre",
            valid=f"up to {newest}",
            next_step="Update with: pip install --upgrade musicgenre",
        )
    return dict(content)


def children_of(folder: Path, content: Mapping[str, Any], name: str) -> list[Path]:
    """Folders that a ``group.json`` or ``study.json`` lists; all lie inside ``folder``, each once."""
    children = content.get("children")
    if not isinstance(children, list) or not children:
        raise RunError(f"{folder / name} is damaged: it lists no children", next_step="Train these runs again")
    whole = os.path.realpath(folder)
    paths: dict[str, Path] = {}
    for child in children:
        if not isinstance(child, str) or "\0" in child:
            raise RunError(f"{folder / name} is damaged: {child!r} is no folder", next_step="Train these runs again")
        place = os.path.realpath(folder / child)
        if place in (whole, *paths) or not Path(place).is_relative_to(whole):
            reason = "which it names twice" if place in paths else "which lies outside the folder"
            reason = "which is the folder itself" if place == whole else reason
            raise RunError(f"{folder / name} names {folder / child}, {reason}", next_step="Train these runs again")
        paths[place] = folder / child
    return list(paths.values())


def _number(cell: str | None) -> float | None:
    return float(cell) if cell else None


_REQUIRED = ("recipe", "labels", "seed", "protocol", "status")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value)


def _names_a_file(value: object) -> bool:
    """Tell whether an exported file may be called so: it must not lead out of the run folder."""
    return isinstance(value, str) and _is_name(value) and not value.startswith(".") and not {"/", "\\"} & set(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_name, value))


def _are_labels(value: object) -> bool:
    return isinstance(value, list) and _are_names(value) and len(set(value)) == len(value) > 0


def _are_skips(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(skip, dict) and isinstance(skip.get("track_id"), str) for skip in value
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


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "recipe": (_names_a_file, "a name without slashes and without a dot in front"),
    "labels": (_are_labels, "a list of different names"),
    "seed": (_is_count, "a whole number from 0 on"),
    "protocol": (_is_name, "a name"),
    "status": (_is_name, "a word"),
    "fold": (_or_none(_is_count), "a whole number from 0 on, or null"),
    "systems": (_or_none(_are_names), "a list of row codes"),
    "parameters": (_or_none(_is_count), "a whole number from 0 on, or null"),
    "task": (lambda value: value in ("single_label", "multi_label"), "single_label or multi_label"),
    "skipped": (_are_skips, "a list of tracks with their track_id"),
    "ensemble": (_or_none(_is_ensemble), "how, members with their folders, and numbers for weights"),
}


def check_facts(path: Path, info: Mapping[str, Any]) -> None:
    """Check the content of ``run.json``.

    Raises
    ------
    RunError
        A key is missing, or holds something else than it should; the message names it.
    """
    if missing := [name for name in _REQUIRED if name not in info]:
        raise RunError(f"{path} is damaged: it lacks {', '.join(missing)}", next_step="Train this run again")
    for name, (is_valid, valid) in _CHECKS.items():
        if name in info and not is_valid(info[name]):
            raise RunError(
                f"{path} is damaged: it says {name}={_shown(info[name])}",
                valid=valid,
                next_step="Train this run again",
            )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
