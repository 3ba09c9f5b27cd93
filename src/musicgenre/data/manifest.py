"""The manifest: one CSV that lists tracks, their labels and what each step added to them.

A manifest opens in any spreadsheet and round-trips exactly. The columns below have a meaning; every other column
(features, md5, artist names ...) is kept as the text it was.

=========== ==================================================================================================
path        the file, relative to the manifest's folder, with forward slashes (absolute paths are read too)
track_id    unique name of the row; when the column is absent, the path without its suffix
label       the genre
labels      all genres or tags of a track that has several, separated by `;` (empty: just `label`)
split       `train`, `validation`, `test` or empty (not used)
fold        number of the fold that tests this track, from 0, or empty
group       what must not be torn apart by a split, usually the artist (empty: a group of its own)
augmented   `true` for a row that offline augmentation made
source_id   the track an augmented row was made from
=========== ==================================================================================================

A manifest of tags leaves `label` empty on every row; a row may then have no tag at all. What else tagging reads from
a manifest (values that are unknown, soft targets) stands in `musicgenre.data.targets`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musicgenre._files import is_file, write_text_atomic
from musicgenre._text import did_you_mean, name_list
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
    "split_names",
    "write_manifest",
]

PARTS = ("train", "validation", "test")
CORE_COLUMNS = ("path", "track_id", "label", "labels", "split", "fold", "group", "augmented", "source_id")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")
_MOST_FOLD_DIGITS = 6


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
        All genres or tags; `(label,)` when there is one, empty for a track without any tag.
    split : str, optional
        `train`, `validation`, `test` or empty.
    fold : int, optional
        The fold that tests this track.
    group : str, optional
        What must not be torn apart (the artist); empty for a group of its own.
    augmented : bool, optional
        Whether offline augmentation made it.
    source_id : str, optional
        `track_id` of the original; the track's own when it is an original.
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
        labels: set[str] = set()
        for track in self.tracks:
            labels.update(track.labels)
        return tuple(sorted(labels))

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the columns beyond the core ones, in order of first appearance."""
        names: dict[str, None] = {}  # a set that keeps the order
        for track in self.tracks:
            names.update(dict.fromkeys(track.columns))
        return tuple(names)

    def counts(self) -> dict[str, int]:
        """Count the tracks of each label, in the order of `labels`."""
        counts = dict.fromkeys(self.labels, 0)
        for track in self.tracks:
            for label in track.labels:
                counts[label] += 1

        return counts

    def part(self, split: str) -> Manifest:
        """Keep the tracks of one part (`train`, `validation` or `test`)."""
        if split not in PARTS:
            raise DataError(f"{split!r} is no part of a split", valid=f"Parts are {', '.join(PARTS)}")
        return self.with_tracks(track for track in self.tracks if track.split == split)

    def with_tracks(self, tracks: Iterable[Track]) -> Manifest:
        """Return a manifest of other tracks that still knows where it came from."""
        return Manifest(self.path, tuple(tracks))

    def with_labels(self, labels: Sequence[str]) -> Manifest:
        """Keep the tracks whose `label` is one of `labels`; an unknown one is an error."""
        known = {track.label for track in self.tracks}
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise DataError(
                f"no track has the label {', '.join(map(repr, unknown))}",
                valid=f"Labels are {name_list(sorted(known))}",
                next_step=(
                    f"{did_you_mean(unknown[0], known)}Choose some of these (--labels A,B; in a training "
                    "--set data.labels=[A,B])"
                ),
            )

        return self.with_tracks(track for track in self.tracks if track.label in labels)

    def missing_files(self) -> tuple[Track, ...]:
        """List the tracks whose file is not there."""
        return tuple(track for track in self.tracks if not is_file(track.path))


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

    Raises
    ------
    DataError
        If the file cannot be read, has no column `path` or no labels, lists no tracks, or has bad cells.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links and change relative paths
    header, rows, problems = _csv.read_rows(path)

    missing = []
    if "path" not in header:
        missing.append("path")
    if "label" not in header and "labels" not in header:
        missing.append("label")
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}",
            valid=f"Its columns are {', '.join(header)}; path and label (or labels) are needed",
            next_step="musicgenre data index FILE --path-column NAME --label-column NAME takes other names",
        )

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

    of_tags = _holds_tags(rows)
    tracks: list[Track] = []
    first_lines: dict[str, int] = {}
    for row in rows:
        track, bad_cells = _parse_track(row, path.parent, labels, check_files, of_tags=of_tags)
        problems += bad_cells
        tracks.append(track)

        if track.track_id in first_lines:
            column = "track_id" if "track_id" in row.cells else "path"
            valid = f"track ids are unique; this one stands on line {first_lines[track.track_id]} already"
            problems.append(CellProblem(row.line, column, row.cells.get(column, ""), valid))
        first_lines.setdefault(track.track_id, row.line)

    _csv.raise_problems(path, problems)
    return tuple(tracks)


def write_manifest(manifest: Manifest, path: Path | str, *, overwrite: bool = True) -> Path:
    """Write a manifest atomically, with paths relative to its new place.

    A file that is there is replaced; without `overwrite` it stays, and FileExistsError says so.

    Cells are written as they are: a text that begins with `=`, `+`, `-` or `@` may be taken for a formula by a
    spreadsheet, and escaping it would change features and names.

    Returns
    -------
    Path
        The absolute path that was written.

    Raises
    ------
    DataError
        If a track would come back different, or two have the same id.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - see read_manifest
    extra = manifest.extra_columns
    has_labels = any(track.label for track in manifest.tracks)

    rows = [[*CORE_COLUMNS, *extra]]
    track_ids: set[str] = set()
    for track in manifest.tracks:
        _check_writable(track, has_labels=has_labels)
        if track.track_id in track_ids:
            raise DataError(f"the track id {track.track_id!r} stands on two rows", valid="Track ids are unique")
        track_ids.add(track.track_id)
        rows.append(_cells_of(track, path.parent, extra))

    try:
        write_text_atomic(path, _csv.format_rows(rows), overwrite=overwrite)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{error.object[max(error.start - 40, 0) : error.end + 20]!r} cannot be written as UTF-8",
            next_step="Rename the file",
        ) from error
    return path


def require_classes(manifest: Manifest, *, per_class: int = 1) -> None:
    """Raise unless there are two labels at least, each with `per_class` tracks or more.

    Raises
    ------
    DataError
        If there are fewer labels, or fewer tracks of one; it is named.
    """
    counts = manifest.counts()
    if len(counts) < 2:
        raise DataError(
            f"the manifest has one label only: {', '.join(counts) or 'none'}", valid="Two different labels at least"
        )

    small = [f"{label} ({count})" for label, count in counts.items() if count < per_class]
    if small:
        raise DataError(
            f"too few tracks of {', '.join(small)}",
            valid=f"{per_class} tracks a label at least",
            next_step="Add tracks, or leave the label out with --labels",
        )


def split_names(cell: str) -> tuple[str, ...]:
    """Take the names out of a cell that separates them by `;`."""
    names = (piece.strip() for piece in cell.split(";"))
    return tuple(name for name in names if name)


def _holds_tags(rows: Sequence[Row]) -> bool:
    """Whether the rows list tags: no row names a `label`, and some row names several `labels` or there are none.

    Where the column `label` is there but empty throughout, one tag a row is enough.
    """
    counts = []
    for row in rows:
        if row.cells.get("label", "").strip():
            return False
        counts.append(len(split_names(row.cells.get("labels", ""))))

    return any(counts) and ("label" in rows[0].cells or any(count != 1 for count in counts))


def _parse_track(
    row: Row, folder: Path, allowed: Sequence[str] | None, check_files: bool, *, of_tags: bool
) -> tuple[Track, list[CellProblem]]:
    """Turn one row into a track, as far as that goes, and list what is wrong with its cells."""
    problems: list[CellProblem] = []

    def cell_of(column: str) -> str:
        return row.cells.get(column, "")

    def refuse(column: str, valid: str) -> None:
        problems.append(CellProblem(row.line, column, cell_of(column), valid))

    named = cell_of("path")
    path = Path(os.path.normpath(folder / named))
    if "\\" in named and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises at a name that is too long
        slashed = named.replace("\\", "/")  # a list made on Windows
        if os.path.exists(folder / slashed):  # noqa: PTH110
            named, path = slashed, Path(os.path.normpath(folder / slashed))
    if not named.strip() or "\0" in named:
        refuse("path", "the path of a file")
    elif check_files and not is_file(path):
        refuse("path", f"a file that exists (looked for {path})")

    # the genre, and all labels of the row; where only `labels` are named, the first is the genre
    label = cell_of("label").strip()
    several = split_names(cell_of("labels"))
    labels = several
    if label and not several:
        labels = (label,)
    label_column = "label" if "label" in row.cells else "labels"
    if not labels and not of_tags:
        refuse(label_column, "a label")
    elif label and label not in labels:
        refuse("label", f"one of the row's labels ({'; '.join(labels)})")
    elif len(set(labels)) < len(labels):
        refuse("labels", "each label once")
    if not all(name.isprintable() for name in labels):
        refuse("labels" if several else label_column, "a label without control characters")
    if allowed is not None:
        for name in labels:
            if name not in allowed:
                refuse("labels" if several else label_column, f"not {name!r}: one of {', '.join(allowed)}")
    if not label and labels and not of_tags:
        label = labels[0]

    # without a column of ids the path is the name
    track_id = cell_of("track_id")
    if not track_id:
        without_folder = Path(named)
        if without_folder.name:
            without_folder = without_folder.with_suffix("")
        track_id = without_folder.as_posix()
        if "track_id" in row.cells:
            refuse("track_id", "a unique name")

    # where the track comes from: an augmented one from another, all others from themselves
    flag = cell_of("augmented").strip().lower()
    augmented = flag in _TRUE
    if flag not in _TRUE + _FALSE:
        refuse("augmented", "true or false")
    source_id = cell_of("source_id")
    is_own_source = source_id in ("", track_id)
    if augmented and is_own_source:
        refuse("source_id", "the track_id of the original, on an augmented row")
    if not augmented and not is_own_source:
        refuse("source_id", "empty or the row's own track_id, on a row that is not augmented")

    split = cell_of("split").strip()
    if split and split not in PARTS:
        refuse("split", f"{', '.join(PARTS)} or empty")
    fold = None
    digits = cell_of("fold").strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_FOLD_DIGITS:
        fold = int(digits)
    elif digits:
        refuse("fold", "a whole number from 0 on, or empty")

    columns = {name: value for name, value in row.cells.items() if name not in CORE_COLUMNS}
    group = cell_of("group")
    track = Track(track_id, path, label, labels, split, fold, group, augmented, source_id or track_id, columns)
    return track, problems


def _check_writable(track: Track, *, has_labels: bool) -> None:
    """Refuse what would come back different; `has_labels`: some track of the manifest has a label."""
    for label in track.labels:
        if not label or label != label.strip() or not label.isprintable():
            raise DataError(f"{label!r} cannot be a label", valid="A label is not empty and has no space around it")
    if len(track.labels) > 1 and any(";" in label for label in track.labels):
        raise DataError(f"the labels {track.labels} cannot be listed", valid="A label of several has no ';' in it")

    if has_labels and not track.label:
        raise DataError(
            f"the track {track.track_id} has no label, others have one",
            valid="A label on every row, or on none in a manifest of tags",
        )
    if track.label and track.label not in track.labels:
        raise DataError(f"the label {track.label!r} of {track.track_id} is not among its labels {track.labels}")

    if not track.track_id:
        raise DataError(f"the track {track.path} has no track_id", valid="A unique name")
    for name in track.columns:
        if name in CORE_COLUMNS or not name:
            raise DataError(f"{name!r} cannot be a further column", valid="A name that no core column has")


def _cells_of(track: Track, folder: Path, extra: Sequence[str]) -> list[str]:
    """Cells of a row, in the order of the core columns and then of the `extra` ones."""
    try:
        path = Path(os.path.relpath(track.path, folder))
    except ValueError:  # another drive of a Windows machine: there is no relative path
        path = track.path

    # what the reader would add by itself stays out, so that a simple manifest looks simple
    labels = "" if track.labels == (track.label,) else ";".join(track.labels)
    fold = "" if track.fold is None else str(track.fold)
    augmented = "true" if track.augmented else "false"
    core = [path.as_posix(), track.track_id, track.label, labels, track.split, fold, track.group, augmented]
    return [*core, track.source_id, *(track.columns.get(name, "") for name in extra)]
