"""The manifest: one CSV that lists tracks, their labels and what each step added to them.

A manifest opens in any spreadsheet and round-trips exactly. The columns below have a meaning; every other column
(features, md5, artist names ...) is kept as the text it was.

=========== ==================================================================================================
path        the file, relative to the manifest's folder, with forward slashes (absolute paths are read too)
track_id    unique name of the row; when the column is absent, the path without its suffix
label       the genre
labels      all genres or tags of a track that has several, separated by ``;`` (empty: just ``label``)
split       ``train``, ``validation``, ``test`` or empty (not used)
fold        number of the fold that tests this track, from 0, or empty
group       what must not be torn apart by a split, usually the artist (empty: a group of its own)
augmented   ``true`` for a row that offline augmentation made
source_id   the track an augmented row was made from
=========== ==================================================================================================

A manifest of tags leaves ``label`` empty on every row; a row may then have no tag at all. What else tagging reads from
a manifest (values that are unknown, soft targets) stands in :mod:`musicgenre.data.targets`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musicgenre._files import write_text_atomic
from musicgenre.data import _csv
from musicgenre.data._csv import CellProblem, Row
from musicgenre.errors import DataError

__all__ = [
    "CORE_COLUMNS",
    "PARTS",
    "Manifest",
    "Track",
    "parse_tracks",
    "read_manifest",
    "require_classes",
    "write_manifest",
]


@dataclass(frozen=True)
class Manifest:
    """An ordered list of tracks.

    Parameters
    ----------
    path : Path or None
        Where it was read from.
    tracks : tuple of Track
        The rows, in the file's order.
    """

    path: Path | None
    tracks: tuple[Track, ...]

    def __len__(self) -> int:
        return len(self.tracks)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({label for track in self.tracks for label in track.labels}))

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the columns beyond the core ones, in order of first appearance."""
        return tuple(dict.fromkeys(name for track in self.tracks for name in track.columns))

    def counts(self) -> dict[str, int]:
        """Count the tracks of each label, in the order of ``labels``."""
        counts = dict.fromkeys(self.labels, 0)
        for track in self.tracks:
            for label in track.labels:
                counts[label] += 1
        return counts

    def part(self, split: str) -> Manifest:
        """Keep the tracks of one part (``train``, ``validation`` or ``test``)."""
        if split not in PARTS:
            raise DataError(f"{split!r} is no part of a split", valid=f"Parts are {', '.join(PARTS)}")
        return self.with_tracks(track for track in self.tracks if track.split == split)

    def with_tracks(self, tracks: Iterable[Track]) -> Manifest:
        """Return a manifest of other tracks that still knows where it came from."""
        return Manifest(self.path, tuple(tracks))

    def with_labels(self, labels: Sequence[str]) -> Manifest:
        """Keep the tracks whose ``label`` is one of ``labels``; an unknown one is an error."""
        known = {track.label for track in self.tracks}
        if unknown := [label for label in labels if label not in known]:
            raise DataError(
                f"no track has the label {', '.join(map(repr, unknown))}",
                valid=f"Labels are {', '.join(sorted(known))}",
                next_step="Choose some of these (--labels A,B; in a training --set data.labels=[A,B])",
            )
        return self.with_tracks(track for track in self.tracks if track.label in set(labels))

    def missing_files(self) -> tuple[Track, ...]:
        """List the tracks whose file is not there."""
        return tuple(track for track in self.tracks if not track.path.is_file())


def read_manifest(path: Path | str, *, labels: Sequence[str] | None = None, check_files: bool = False) -> Manifest:
    """Read and check a manifest; one error names every bad cell by line and column.

    Parameters
    ----------
    path : Path or str
        The CSV file: UTF-8 (with or without a byte order mark), separated by commas, semicolons or tabs.
    labels : sequence of str, optional
        The only labels allowed.
    check_files : bool, optional
        Whether an absent file is an error.

    Returns
    -------
    Manifest
        At least one track, with absolute paths.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links and change relative paths
    header, rows, problems = _csv.read_rows(path)
    _require_columns(path, header)
    return Manifest(path, parse_tracks(path, rows, problems, labels=labels, check_files=check_files))


def parse_tracks(
    path: Path,
    rows: Sequence[Row],
    problems: Sequence[CellProblem] = (),
    *,
    labels: Sequence[str] | None = None,
    check_files: bool = False,
) -> tuple[Track, ...]:
    """Turn the rows of a CSV into tracks; one error names every bad cell.

    Parameters
    ----------
    path : Path
        The CSV, for messages; paths in it are relative to its folder.
    rows : sequence of Row
        Its rows, with the columns of a manifest.
    problems : sequence of CellProblem, optional
        What is known to be wrong already.
    labels, check_files
        As in `read_manifest`.

    Returns
    -------
    tuple of Track
        One at least, with unique ids.
    """
    problems = list(problems)
    if not rows and not problems:
        raise DataError(f"{path} lists no tracks", next_step="Make a manifest with: musicgenre data index FOLDER")
    of_tags = holds_tags(rows)
    tracks: list[Track] = []
    first_lines: dict[str, int] = {}
    for row in rows:
        reader = RowReader(row, path.parent, labels, check_files, of_tags=of_tags)
        track = reader.track()
        if track.track_id in first_lines:
            valid = f"track ids are unique; this one stands on line {first_lines[track.track_id]} already"
            reader.report("track_id" if "track_id" in row.cells else "path", valid)
        first_lines.setdefault(track.track_id, row.line)
        tracks.append(track)
        problems.extend(reader.problems)
    _csv.raise_problems(path, problems)
    return tuple(tracks)


def write_manifest(manifest: Manifest, path: Path | str) -> Path:
    """Write a manifest atomically, with paths relative to its new place.

    Cells are written as they are: a text that begins with ``=``, ``+``, ``-`` or ``@`` may be taken for a formula
    by a spreadsheet, and escaping it would change features and names.

    Returns
    -------
    Path
        The absolute path that was written.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - see read_manifest
    extra = manifest.extra_columns
    rows = [to_cells(track, path.parent, extra) for track in manifest.tracks]
    labelled = any(track.label for track in manifest.tracks)
    seen: set[str] = set()
    for track in manifest.tracks:
        check_writable(track, labelled=labelled)
        if track.track_id in seen:
            raise DataError(f"the track id {track.track_id!r} stands on two rows", valid="Track ids are unique")
        seen.add(track.track_id)
    text = _csv.format_rows([[*CORE_COLUMNS, *extra], *rows])
    try:
        write_text_atomic(path, text)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{error.object[max(error.start - 40, 0) : error.end + 20]!r} cannot be written as UTF-8",
            next_step="Rename the file",
        ) from error
    return path


def require_classes(manifest: Manifest, *, per_class: int = 1) -> None:
    """Raise unless there are two labels at least, each with ``per_class`` tracks or more."""
    counts = manifest.counts()
    if len(counts) < 2:
        raise DataError(
            f"the manifest has one label only: {', '.join(counts) or 'none'}", valid="Two different labels at least"
        )
    if small := {label: count for label, count in counts.items() if count < per_class}:
        named = ", ".join(f"{label} ({count})" for label, count in small.items())
        raise DataError(
            f"too few tracks of {named}",
            valid=f"{per_class} tracks a label at least",
            next_step="Add tracks, or leave the label out with --labels",
        )


def _require_columns(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in ("path",) if name not in header]
    if "label" not in header and "labels" not in header:
        missing.append("label")
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}",
            valid=f"Its columns are {', '.join(header)}; path and label (or labels) are needed",
            next_step="musicgenre data index FILE --path-column NAME --label-column NAME takes other names",
        )


PARTS = ("train", "validation", "test")
CORE_COLUMNS = ("path", "track_id", "label", "labels", "split", "fold", "group", "augmented", "source_id")


@dataclass(frozen=True)
class Track:
    """One row of a manifest.

    Parameters
    ----------
    track_id : str
        Unique name of the row.
    path : Path
        The file, absolute. Rows of a feature table point at the table.
    label : str
        The genre; empty in a manifest of tags.
    labels : tuple of str, optional
        All genres or tags; ``(label,)`` when there is one, empty for a track without any tag.
    split : str, optional
        ``train``, ``validation``, ``test`` or empty.
    fold : int, optional
        The fold that tests this track.
    group : str, optional
        What must not be torn apart (the artist); empty for a group of its own.
    augmented : bool, optional
        Whether offline augmentation made it.
    source_id : str, optional
        ``track_id`` of the original; the track's own when it is an original.
    columns : Mapping of str to str, optional
        All other columns.
    """

    track_id: str
    path: Path
    label: str
    labels: tuple[str, ...] = ()
    split: str = ""
    fold: int | None = None
    group: str = ""
    augmented: bool = False
    source_id: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.labels and self.label:
            object.__setattr__(self, "labels", (self.label,))
        if not self.source_id:
            object.__setattr__(self, "source_id", self.track_id)

    def with_columns(self, **columns: str) -> Track:
        """Return a copy with these further columns set."""
        return dataclasses.replace(self, columns={**self.columns, **columns})


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
