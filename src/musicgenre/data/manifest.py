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

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from musicgenre._files import write_text_atomic
from musicgenre.data import _csv
from musicgenre.data._csv import CellProblem, Row
from musicgenre.data._manifest_rows import RowReader, check_writable, holds_tags, to_cells
from musicgenre.data._track import CORE_COLUMNS, PARTS, Track
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
