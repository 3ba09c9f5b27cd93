"""Results of many tracks in one folder or prefix: Parquet files of some thousand rows, whole or not there.

The driver alone writes them, as rows come in, so that a track stands in one of them, once. Beside them stands the
record of what they were made with. Tracks that failed stand in files of their own: a resumed run tries them again.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from musicgenre._json import check_version, parsed_json
from musicgenre._known_files import FileState
from musicgenre._locks import folder_lock
from musicgenre._outputs import RESUME_OR_REPLACE
from musicgenre._text import printable, short_repr
from musicgenre._version import __version__
from musicgenre.cluster.claims import claimed
from musicgenre.cluster.storage import Place, is_object
from musicgenre.errors import DataError, UsageError

FORMAT_VERSION = 1
ROWS_A_PARTITION = 1000
RECORD_NAME = "musicgenre-run.json"
"""What the partitions beside it were made with."""

_PARTITION_EVERY_S = 60.0  # at least, while there is anything to write: a kill costs what was not written
_PART = re.compile(r"part-(\d{6,})\.parquet")
_FAILED = re.compile(r"_?failed-(\d{6,})\.parquet")

Row = dict[str, Any]


class Columns(Protocol):
    """How rows become the bytes of a Parquet file."""

    failed_prefix: str
    """How files of failed tracks begin: with an underscore, where they have other columns, readers pass them over."""

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Write rows of tracks that were heard; each has `path`, `size_bytes` and `modified_ns`."""

    def encode_failed(self, rows: Sequence[Row]) -> bytes:
        """Write rows of tracks that failed; each has `path` and `error`."""


class Partitions:
    """The results in a folder or prefix, while one run adds to them.

    Parameters
    ----------
    place : Place
        Where they are.
    columns : Columns
        How they are written.
    check : callable
        Called before anything is written: raises where it may not be any more.

    Attributes
    ----------
    done : set of str
        Paths of the tracks that were heard, as they were named.
    """

    def __init__(self, place: Place, columns: Columns, check: Callable[[], None] = lambda: None) -> None:
        self.place = place
        self._check = check
        self.done: set[str] = set()
        self._columns = columns
        self._rows: dict[bool, list[Row]] = {False: [], True: []}  # by whether they failed
        self._next_number = 0
        self._written_s = time.monotonic()

    def add(self, row: Row) -> None:
        """Put down what became of a track; one that is there already is left as it is."""
        if row["path"] in self.done:
            return
        has_failed = row.get("error") is not None
        if not has_failed:
            self.done.add(row["path"])
        self._rows[has_failed].append(row)

        n_rows = max(map(len, self._rows.values()))
        if n_rows >= ROWS_A_PARTITION or time.monotonic() - self._written_s >= _PARTITION_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        for has_failed, rows in self._rows.items():
            if not rows:
                continue
            self._check()
            prefix = self._columns.failed_prefix if has_failed else "part-"
            encode = self._columns.encode_failed if has_failed else self._columns.encode
            self.place.write(f"{prefix}{self._next_number:06d}.parquet", encode(rows))
            self._next_number += 1
            rows.clear()
        self._written_s = time.monotonic()

    def begin(self, wanted: Collection[str], names: Sequence[str]) -> None:
        """Take in what is there: heard tracks are done, those that failed or changed since are to be heard again."""
        failed_names = [name for name in names if _FAILED.fullmatch(name)]
        part_names = [name for name in names if _PART.fullmatch(name)]
        for name in (*part_names, *failed_names):
            number = int(name.rpartition("-")[2].removesuffix(".parquet"))
            self._next_number = max(self._next_number, number + 1)

        for name in part_names:
            self._take_in(name)

        # Of tracks that this run hears again the new row counts; the others are written anew before the old file goes.
        kept: dict[str, Row] = {}
        for name in failed_names:
            kept.update({row["path"]: row for row in self._read(name).to_pylist() if row["path"] not in wanted})
        for row in kept.values():
            self.add(row)
        self.flush()
        for name in failed_names:
            self.place.remove(name)

    def _take_in(self, name: str) -> None:
        """Know the tracks of one partition; rows of files that changed since go out of it."""
        table = self._read(name)
        paths = table["path"].to_pylist()
        states = zip(table["size_bytes"].to_pylist(), table["modified_ns"].to_pylist(), strict=True)
        is_kept = []
        for path, state in zip(paths, states, strict=True):
            is_kept.append(path not in self.done and not _has_changed(path, FileState(*state)))
        self.done.update(path for path, kept in zip(paths, is_kept, strict=True) if kept)

        if not any(is_kept):
            self.place.remove(name)
        elif not all(is_kept):
            self.place.write(name, parquet_bytes(table.filter(is_kept)))

    def _read(self, name: str) -> Any:
        """Read a partition as a table."""
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(io.BytesIO(self.place.read(name))).read()
            for column in ("path", "size_bytes", "modified_ns"):
                table[column]
            return table
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise DataError(
                f"{self.place.address}/{name} is damaged ({str(error).splitlines()[0]})",
                next_step="Delete that file: its tracks are heard again with --resume",
            ) from error


@contextmanager
def opened_partitions(
    address: str,
    columns: Columns,
    made_with: Mapping[str, Any],
    wanted: Collection[str],
    *,
    command: str,
    resume: bool,
    overwrite: bool,
) -> Iterator[Partitions]:
    """Open a folder or prefix for one run; what was added is written when the block ends, however it does.

    Parameters
    ----------
    address : str
        The folder, or an address of a store.
    columns : Columns
        How rows are written.
    made_with : mapping
        Settings that decide the rows, as plain values.
    wanted : collection of str
        Tracks that the run is about to hear.
    command : str
        Who writes: only what the same command made is added to or replaced.
    resume, overwrite : bool
        Go on with what is there, or replace it. Without both it is refused.

    Raises
    ------
    UsageError
        The place holds results already, or of other settings, or what is none of ours, or takes nothing.
    DataError
        What it holds is damaged; another process writes there.
    """
    place = Place(address)
    whole_record = {"command": command, "settings": dict(made_with)}
    _refuse(place, whole_record, resume=resume, overwrite=overwrite)
    with _alone(place, f"'musicgenre {command} --ray'") as check:
        names = _refuse(place, whole_record, resume=resume, overwrite=overwrite)  # again, now alone
        partitions = Partitions(place, columns, check)
        if overwrite:
            for name in names:
                if name != RECORD_NAME:  # which says whose they are until it is replaced
                    place.remove(name)
            names = []
        if not names:
            text = {"format_version": FORMAT_VERSION, "made_by": f"musicgenre {__version__}", **whole_record}
            place.write(RECORD_NAME, f"{json.dumps(text, indent=1)}\n".encode())
        partitions.begin(wanted, names)
        try:
            yield partitions
        finally:
            partitions.flush()


@contextmanager
def _alone(place: Place, doing: str) -> Iterator[Callable[[], None]]:
    """Hold a place for one command; give what says, before anything is written, whether that still holds."""
    if place.folder is None:
        with claimed(place, doing) as check:
            yield check
    else:
        with folder_lock(place.folder, doing):
            yield lambda: None


def parquet_bytes(table: Any) -> bytes:
    """Write a table as the bytes of a Parquet file."""
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def _refuse(place: Place, record: Mapping[str, Any], *, resume: bool, overwrite: bool) -> list[str]:
    """Refuse a place that this run may not write into; tell the names of our files in it."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", next_step="Give one of them")
    if place.folder is not None and place.folder.is_file():
        raise UsageError(f"{printable(place.address)} is a file", next_step="Give --output the name of a folder")

    names = place.names()
    ours, others = [], []
    for name in names:
        is_ours = name == RECORD_NAME or _PART.fullmatch(name) or _FAILED.fullmatch(name)
        if is_ours:
            ours.append(name)
        elif not name.startswith("."):  # locks, and what is half written
            others.append(name)

    if RECORD_NAME not in ours:
        if ours or others:
            raise UsageError(
                f"{printable(place.address)} is not empty: it holds {printable((ours + others)[0])}",
                valid=f"A folder or prefix that is new, empty, or was made by 'musicgenre {record['command']} --ray'",
                next_step="Give another --output",
            )
        return []

    theirs = _read_record(place)
    if theirs["command"] != record["command"]:
        raise UsageError(
            f"{printable(place.address)} holds partitions of 'musicgenre {theirs['command']}'",
            next_step="Give another --output",
        )
    if overwrite:
        return ours
    if not resume:
        raise UsageError(
            f"{printable(place.address)} holds partitions already",
            valid="Results are never overwritten unasked",
            next_step=RESUME_OR_REPLACE,
        )
    told = _difference(theirs["settings"], json.loads(json.dumps(record["settings"])))
    if told:
        raise UsageError(
            f"{printable(place.address)} holds partitions of another run: {told}",
            valid="Partitions in one place are made alike",
            next_step="Choose the same settings, another --output, or --overwrite",
        )
    return ours


def _read_record(place: Place) -> Mapping[str, Any]:
    """Read what the partitions of a place were made with."""
    address = f"{place.address}/{RECORD_NAME}"
    remedy = "Give another --output"
    try:
        found = parsed_json(place.read(RECORD_NAME))
        if not isinstance(found, dict) or not isinstance(found.get("settings"), dict) or "command" not in found:
            raise ValueError("it says neither command nor settings")
    except (ValueError, OSError) as error:
        raise DataError(f"{printable(address)} is damaged ({error})", next_step=remedy) from error
    return check_version(found, FORMAT_VERSION, address, kind="run record", error=DataError, remedy=remedy)


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Say where settings differ, as `coverage full, not default`."""
    parts = []
    for name in dict.fromkeys((*theirs, *ours)):
        one, other = theirs.get(name), ours.get(name)
        if one != other:
            parts.append(f"{name.replace('_', ' ')} {short_repr(one)}, not {short_repr(other)}")
    return "; ".join(parts)


def _has_changed(path: str, then: FileState) -> bool:
    """Tell whether a file has another size or time than when it was heard; one that is gone, or an object, has not."""
    if is_object(path):
        return False
    try:
        return FileState.of(Path(path)) != then
    except (OSError, ValueError):
        return False
