"""Plumbing of the manifest: one row of the CSV to a track and back, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from musicgenre.data._csv import CellProblem, Row
from musicgenre.data._track import CORE_COLUMNS, PARTS, Track
from musicgenre.errors import DataError

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


def holds_tags(rows: Sequence[Row]) -> bool:
    """Whether the rows list tags: no row names a ``label``, and some row names several ``labels`` or there are none.

    Where the column ``label`` is there but empty throughout, one tag a row is enough.
    """
    if any(row.cells.get("label", "").strip() for row in rows):
        return False
    counts = [len(listed(row.cells.get("labels", ""))) for row in rows]
    return any(counts) and ("label" in rows[0].cells or any(count != 1 for count in counts))


def listed(cell: str) -> tuple[str, ...]:
    """Names in a cell that separates them by ``;``."""
    return tuple(part for piece in cell.split(";") if (part := piece.strip()))


class RowReader:
    """Turns one row into a track and collects what is wrong with it."""

    def __init__(
        self, row: Row, folder: Path, allowed: Sequence[str] | None, check_files: bool, *, of_tags: bool = False
    ) -> None:
        self.row = row
        self.of_tags = of_tags
        self.folder = folder
        self.allowed = allowed
        self.check_files = check_files
        self.problems: list[CellProblem] = []

    def track(self) -> Track:
        path = self._path()
        label, labels = self._labels()
        named = Path(self._cell("path"))
        track_id = self._cell("track_id") or (named.with_suffix("") if named.name else named).as_posix()
        if "track_id" in self.row.cells and not self._cell("track_id"):
            self.report("track_id", "a unique name")
        augmented = self._flag("augmented")
        source_id = self._cell("source_id")
        if augmented and source_id in ("", track_id):
            self.report("source_id", "the track_id of the original, on an augmented row")
        if not augmented and source_id not in ("", track_id):
            self.report("source_id", "empty or the row's own track_id, on a row that is not augmented")
        return Track(
            track_id=track_id,
            path=path,
            label=label,
            labels=labels,
            split=self._split(),
            fold=self._fold(),
            group=self._cell("group"),
            augmented=augmented,
            source_id=source_id or track_id,
            columns={name: value for name, value in self.row.cells.items() if name not in CORE_COLUMNS},
        )

    def report(self, column: str, valid: str) -> None:
        self.problems.append(CellProblem(self.row.line, column, self._cell(column), valid))

    def _cell(self, column: str) -> str:
        return self.row.cells.get(column, "")

    def _path(self) -> Path:
        cell = self._cell("path")
        path = Path(os.path.normpath(self.folder / cell))
        if not cell.strip() or "\0" in cell:
            self.report("path", "the path of a file")
        elif self.check_files and not path.is_file():
            self.report("path", f"a file that exists (looked for {path})")
        return path

    def _labels(self) -> tuple[str, tuple[str, ...]]:
        label = self._cell("label").strip()
        several = listed(self._cell("labels"))
        column = "label" if "label" in self.row.cells else "labels"
        labels = several or ((label,) if label else ())
        if not labels and not self.of_tags:
            self.report(column, "a label")
        elif label and label not in labels:
            self.report("label", f"one of the row's labels ({'; '.join(labels)})")
        elif len(set(labels)) < len(labels):
            self.report("labels", "each label once")
        for unknown in (name for name in labels if self.allowed is not None and name not in self.allowed):
            self.report("labels" if several else column, f"not {unknown!r}: one of {', '.join(self.allowed or ())}")
        return label or (labels[0] if labels and not self.of_tags else ""), labels

    def _split(self) -> str:
        split = self._cell("split").strip()
        if split and split not in PARTS:
            self.report("split", f"{', '.join(PARTS)} or empty")
        return split

    def _fold(self) -> int | None:
        cell = self._cell("fold").strip()
        if cell.isascii() and cell.isdigit() and len(cell) < 7:
            return int(cell)
        if cell:
            self.report("fold", "a whole number from 0 on, or empty")
        return None

    def _flag(self, column: str) -> bool:
        cell = self._cell(column).strip().lower()
        if cell not in _TRUE + _FALSE:
            self.report(column, "true or false")
        return cell in _TRUE


def to_cells(track: Track, folder: Path, extra: Sequence[str]) -> list[str]:
    return [
        _relative(track.path, folder),
        track.track_id,
        track.label,
        "" if track.labels == (track.label,) else ";".join(track.labels),
        track.split,
        "" if track.fold is None else str(track.fold),
        track.group,
        "true" if track.augmented else "false",
        track.source_id,
        *(track.columns.get(name, "") for name in extra),
    ]


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of a Windows machine: there is no relative path
        return path.as_posix()


def check_writable(track: Track, *, labelled: bool) -> None:
    """Refuse what would come back different; ``labelled``: some track of the manifest has a label."""
    if bad := [label for label in track.labels if label != label.strip() or not label.isprintable() or not label]:
        raise DataError(f"{bad[0]!r} cannot be a label", valid="A label is not empty and has no space around it")
    if len(track.labels) > 1 and any(";" in label for label in track.labels):
        raise DataError(f"the labels {track.labels} cannot be listed", valid="A label of several has no ';' in it")
    if labelled and not track.label:
        raise DataError(
            f"the track {track.track_id} has no label, others have one",
            valid="A label on every row, or on none in a manifest of tags",
        )
    if track.label and track.label not in track.labels:
        raise DataError(f"the label {track.label!r} of {track.track_id} is not among its labels {track.labels}")
    if not track.track_id:
        raise DataError(f"the track {track.path} has no track_id", valid="A unique name")
    if clash := [name for name in track.columns if name in CORE_COLUMNS or not name]:
        raise DataError(f"{clash[0]!r} cannot be a further column", valid="A name that no core column has")
