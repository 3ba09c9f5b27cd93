"""Result files: one whole line a track, so that an interrupted run leaves a valid file and can go on later."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Any, Literal

from musicgenre._files import room_advice, sha256_of, write_bytes_atomic, writing_result
from musicgenre._json import parsed_json
from musicgenre._known_files import FileState, KnownFiles
from musicgenre._locks import file_lock
from musicgenre._outputs import RESUME_OR_REPLACE, refuse_overwriting
from musicgenre.errors import LibraryError, UsageError
from musicgenre.filetags.base import SOUND_KEY
from musicgenre.listening.answer import Answer
from musicgenre.listening.batch import Result

Format = Literal["json", "csv", "tsv"]
FileFormat = Literal["json", "csv"]  # of files that can be resumed

# With which settings a track was heard: lines made otherwise do not count as done.
_SETTINGS = ("coverage", "model_sha256")
# What identifies a heard file when a run is resumed comes first: size and time, and when those differ its sound. The
# column `sha256` holds the key of that; of files whose tags cannot be told from their sound, and in files from before
# there was one, the checksum of all their bytes.
_RESUMABLE = ("size_bytes", "modified_ns", "sha256", *_SETTINGS)
# A file that begins otherwise is somebody else's, and not a result of ours whose first line was torn.
_FIRST_BYTES: dict[FileFormat, bytes] = {"json": b'{"path"', "csv": b"path,"}
_GENRE_COLUMNS = (
    "path",
    "genre",
    "confidence",
    "reason",
    "candidates",
    "style",
    "tags",
    "duration_s",
    "heard_s",
    "warnings",
    "model",
    "error",
)
_WIDE_COLUMNS = (*_GENRE_COLUMNS[:2], "genres", *_GENRE_COLUMNS[2:])
_COLUMNS_BEFORE = tuple(name for name in _GENRE_COLUMNS if name != "reason")  # of files from before there was one
# Control characters, which have no place in a cell. A cell that begins as a formula may have apostrophes in front.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FORMULA = re.compile(r"'*[=+\-@]")
_TAG_COLUMNS = ("path", "chosen", "tags", "duration_s", "heard_s", "warnings", "model", "error")


def record_of(
    result: Result, *, top: int | None, timeline: bool, names_tags: bool, names_wide: bool = False
) -> dict[str, Any]:
    """Plain values of a result; all those of one model have the same keys.

    Parameters
    ----------
    result : Answer or Failure
        What became of a track.
    top : int or None
        Keep only this many tags, and those that were chosen.
    timeline : bool
        Whether to include the heard segments.
    names_tags : bool
        Whether the model is a tagger.
    names_wide : bool
        Whether it names genres of the wide vocabulary.
    """
    if isinstance(result, Answer):
        return result.as_dict(top=top, timeline=timeline)
    record = result.as_dict()
    if names_tags:
        del record["reason"]  # that of a genre
        record["chosen"] = []
    if names_wide:
        record["genres"] = []
    return record


def format_line(
    record: Mapping[str, Any],
    kind: Format,
    *,
    only_ascii: bool = False,
    csv_safe: bool = False,
    columns: Sequence[str] | None = None,
) -> str:
    """Write one record as one line, newline included.

    Tab separated values have the columns of CSV and no quotes, so that `cut` and `awk` can read them. In both, control
    characters are escaped.

    Parameters
    ----------
    record : mapping
        As `record_of` makes it.
    kind : {"json", "csv", "tsv"}
        The format.
    only_ascii : bool
        Escape the other characters, in JSON.
    csv_safe : bool
        Put an apostrophe in front of cells that a spreadsheet would take for a formula, in CSV and TSV.
    columns : sequence of str, optional
        Of CSV and TSV, those that come before what identifies a file; by default those of the header.
    """
    if kind == "json":
        return json.dumps(storable(record), ensure_ascii=only_ascii) + "\n"

    usual: tuple[str, ...] = _TAG_COLUMNS if "chosen" in record else _GENRE_COLUMNS
    if "genres" in record:
        usual = _WIDE_COLUMNS
    cells = [record.get(name) for name in columns or usual]
    cells += [record[name] for name in _RESUMABLE if name in record]

    row = []
    for cell in cells:
        if isinstance(cell, Mapping):
            text = "; ".join(f"{name} {score}" for name, score in cell.items())
        elif isinstance(cell, list):
            text = "; ".join(_wide_text(part) if isinstance(part, Mapping) else str(part) for part in cell)
        else:
            text = "" if cell is None else str(cell)
        text = _without_controls(storable(text))
        row.append(f"'{text}" if csv_safe and _FORMULA.match(text) else text)

    if kind == "tsv":
        return "\t".join(row) + "\n"

    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(row)
    return stream.getvalue()


def header_line(kind: Literal["csv", "tsv"], *, resumable: bool, tags: bool = False, wide: bool = False) -> str:
    """First line of a CSV or TSV result.

    `tags`: that of a tagger, whose records have `chosen` tags and no genre; `wide`: with all `genres` of the wide
    vocabulary.
    """
    columns: tuple[str, ...] = _TAG_COLUMNS if tags else _GENRE_COLUMNS
    if wide:
        columns = _WIDE_COLUMNS
    if resumable:
        columns += _RESUMABLE
    return ("," if kind == "csv" else "\t").join(columns) + "\n"


def storable(value: Any) -> Any:
    """Make names that are not UTF-8 survive writing: their raw bytes become escapes."""
    if isinstance(value, str):
        has_raw_bytes = any("\ud800" <= character <= "\udfff" for character in value)
        return os.fsencode(value).decode("utf-8", "backslashreplace") if has_raw_bytes else value
    if isinstance(value, Mapping):
        return {name: storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value


def key_of_sound(path: Path) -> str:
    """Take what a heard file is recognised by: the key of its sound, or the checksum of all its bytes.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    from musicgenre.filetags.music_file import sound_key

    try:
        return sound_key(path)
    except LibraryError:  # its tags cannot be told from its sound
        return sha256_of(path)


class ResultFile:
    """A result file that grows by whole lines and remembers which tracks it holds.

    Parameters
    ----------
    path : Path
        The file.
    kind : {"json", "csv"}
        Its format.
    settings : mapping of str to str
        `model`, `coverage` and `model_sha256`: only lines made with the same ones count as done.
    resume : bool
        Go on with an existing file. Without it, an existing file is refused.
    overwrite : bool
        Replace an existing file.
    tags : bool
        Whether a tagger's records go into it.
    wide : bool
        Whether records of the wide vocabulary do.
    csv_safe : bool
        As `format_line` takes it; files written with it and without it can be resumed alike.
    folders : sequence of str
        Folders that were searched and hold tracks. Rows of files that are gone from them are left out of the file from
        now on. They go into another one beside it (`NAME.gone`): a file that is brought back is not heard again.

    Attributes
    ----------
    n_left_out : int
        Rows that were left out now.

    Raises
    ------
    UsageError
        When the file exists and neither `resume` nor `overwrite` is given, is not a result of ours, or cannot be
        written.
    """

    def __init__(
        self,
        path: Path,
        kind: FileFormat,
        settings: Mapping[str, str],
        *,
        resume: bool,
        overwrite: bool,
        tags: bool = False,
        wide: bool = False,
        csv_safe: bool = False,
        folders: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._gone_path = path.with_name(f"{path.name}.gone")
        self.n_left_out = 0
        self._csv_safe = csv_safe
        self._columns: Sequence[str] | None = None  # the usual ones
        self._kind = kind
        self._settings = dict(settings)
        self._known: KnownFiles[dict[str, Any]] = KnownFiles(self._key_of_known_sound)
        self._sound_lengths: set[int] = set()  # of those that are known
        self._keys: dict[str, tuple[FileState, str]] = {}  # taken while looking for a file, before it was heard
        self._written: set[str] = set()  # names that have a row in the file
        self._failures: set[tuple[str, str, int, int]] = set()  # what failed before, and why: it is said once
        self._open_things = ExitStack()
        header = header_line("csv", resumable=True, tags=tags, wide=wide)

        # What stands in the file is read, and judged again, only when no other process adds to it.
        refuse_overwriting(path, overwrite=resume or overwrite, next_step=RESUME_OR_REPLACE)
        with self._open_things:
            with writing_result(path):
                self._open_things.enter_context(file_lock(path, "'musicgenre classify'"))
            self._open(header, folders, resume=resume, overwrite=overwrite)
            self._open_things = self._open_things.pop_all()

    def _open(self, header: str, folders: Sequence[str], *, resume: bool, overwrite: bool) -> None:
        """Take in what the file holds, and open it to add to it."""
        path = self._path
        refuse_overwriting(path, overwrite=resume or overwrite, next_step=RESUME_OR_REPLACE)
        if path.exists() and not overwrite:
            if self._gone_path.exists():
                self._read_gone()
            self._read_done(header, folders)

        # What can be refused was refused: from here on the file is ours.
        with writing_result(path):
            # Without a buffer, so that a line that is written is in the file.
            self._stream = self._open_things.enter_context(path.open("ab", buffering=0))
        if overwrite:
            self._stream.truncate(0)
            if self._gone_path.is_file() and self._is_ours(self._gone_path.read_bytes()):
                self._gone_path.unlink()
        if self._kind == "csv" and self._stream.seek(0, os.SEEK_END) == 0:
            self._write(header)

    def close(self) -> None:
        """Close the file and let others write it."""
        self._open_things.close()

    def __enter__(self) -> ResultFile:
        """Open the file for a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def done(self, path: str) -> dict[str, Any] | None:
        """Return the stored record of a track that was classified before, or None.

        A file that was moved, touched or given other tags is recognised by its sound; its record is then written again
        under the new name, so that the next resume finds it at once. So is that of a file that was gone.
        """
        known = self._known.find(path, self._as_written(path))
        if known is None:
            return None
        if known.is_unchanged and known.name in self._written:
            return known.value

        state = known.state
        again = {**known.value, "path": path, "size_bytes": state.size_bytes, "modified_ns": state.modified_ns}
        self._append(again)
        return again

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record with what identifies its file."""
        path = str(record["path"])
        state, key = FileState(0, 0), ""  # of what is known by its name alone
        try:
            state = FileState.of(path)
            if record["error"] is None:
                key = self._key_of(path, state)
        except OSError:
            pass  # a file that is gone meanwhile is heard again the next time

        # Failures are tried again by each resume; one that fails as it did before has its line already.
        identity = {"size_bytes": state.size_bytes, "modified_ns": state.modified_ns, "sha256": key}
        whole = {**record, **identity, **{name: self._settings[name] for name in _SETTINGS}}
        if record["error"] is not None:
            failure = self._failure_of(whole)
            if failure in self._failures:
                return
            self._failures.add(failure)
        self._append(whole)

    def _append(self, record: dict[str, Any]) -> None:
        self._write(format_line(record, self._kind, csv_safe=self._csv_safe, columns=self._columns))
        self._remember(record, is_written=True)

    def _write(self, line: str) -> None:
        """Write a whole line, or nothing where the disk is full."""
        end = self._stream.seek(0, os.SEEK_END)
        rest = memoryview(line.encode("utf-8"))  # without a buffer, the system may take a part of it
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
        except OSError as error:
            self._stream.truncate(end)
            raise UsageError(
                f"no more can be written to {self._path} ({error.strerror})",
                valid="What it holds so far is whole",
                next_step=f"{room_advice(error) or 'Make room'}, then go on with --resume",
            ) from error

    def _remember(self, record: dict[str, Any], *, is_written: bool) -> None:
        """Know a track from now on; `is_written`: there is a row of it in the file."""
        name = self._as_written(str(record["path"]))
        state = FileState(int(record["size_bytes"]), int(record["modified_ns"]))
        key = str(record.get("sha256") or "")
        is_of_sound = key.startswith(SOUND_KEY)
        length = key.removeprefix(SOUND_KEY).partition(":")[0]
        if is_of_sound and length.isdecimal():
            self._sound_lengths.add(int(length))
        self._known.remember(name, state, key, record, of_all_bytes=not is_of_sound)
        if is_written:
            self._written.add(name)

    def _key_of(self, path: str, state: FileState) -> str:
        """Take the key of a file, unless it was taken while looking for it."""
        taken = self._keys.pop(path, None)
        if taken is not None and taken[0] == state:
            return taken[1]
        return key_of_sound(Path(path))

    def _key_of_known_sound(self, path: Path) -> str:
        """Take the key of a file's sound if one of its length is known: all others need not be read."""
        from musicgenre.filetags.music_file import sound_key

        if not self._sound_lengths:
            return ""
        try:
            key = sound_key(path, self._sound_lengths)
        except LibraryError:
            return ""
        if key:
            self._keys[str(path)] = FileState.of(path), key
        return key

    def _failure_of(self, record: Mapping[str, Any]) -> tuple[str, str, int, int]:
        """Which file failed, in which state, and why, as it stands in the file."""
        path, error = self._as_written(str(record["path"])), self._as_written(str(record["error"]))
        return path, error, int(record["size_bytes"]), int(record["modified_ns"])

    def _as_written(self, text: str) -> str:
        """Spell a path, or a reason, as it stands in the file; with or without the apostrophe is the same."""
        spelled: str = storable(text)
        if self._kind == "json":
            return spelled
        cell = _without_controls(spelled)
        return cell.lstrip("'") if _FORMULA.match(cell) else cell

    def _read_done(self, header: str, folders: Sequence[str]) -> None:
        """Take in the finished lines; cut off a last one that was torn, put those of files that are gone aside."""
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if content and not whole and not self._is_ours(content):
            raise self._not_ours(self._path, "no whole line in it")
        if self._kind == "csv" and whole:
            first_line = whole.split(b"\n")[0] + b"\n"
            if first_line == header.replace(",reason", "").encode() != header.encode():
                self._columns = _COLUMNS_BEFORE
            elif first_line != header.encode():
                raise self._not_ours(self._path, "its columns are those of another kind of model")

        kept: dict[int, bytes] = {}
        gone: list[bytes] = []
        latest: dict[str, int] = {}  # row of each track that is known
        n_replaced = 0
        for number, (line, record) in enumerate(self._rows(whole, self._path)):
            is_gone = _is_gone(record["path"], folders)
            is_known = self._take_in(record, is_written=not is_gone)
            if is_gone:
                gone.append(line)
                continue
            kept[number] = line
            if is_known:  # its row of before told of the file as it was
                name = self._as_written(record["path"])
                n_replaced += kept.pop(latest.get(name, -1), None) is not None
                latest[name] = number

        if gone or n_replaced:
            first = whole[: whole.find(b"\n") + 1] if self._kind == "csv" else b""
            if gone:
                self._put_aside(gone, first)
            with writing_result(self._path):
                write_bytes_atomic(self._path, first + b"".join(kept.values()))
        elif len(whole) < len(content):
            with self._path.open("r+b") as stream:
                stream.truncate(len(whole))

    def _read_gone(self) -> None:
        """Know the tracks whose rows were left out before."""
        content = self._gone_path.read_bytes()
        if not self._is_ours(content):
            raise self._not_ours(self._gone_path, "it begins otherwise")
        for _, record in self._rows(content[: content.rfind(b"\n") + 1], self._gone_path):
            if not record["error"]:
                self._take_in(record, is_written=False)

    def _put_aside(self, lines: Sequence[bytes], header: bytes) -> None:
        """Keep rows beside the file, each once; it happens before they leave it, so that a kill loses none."""
        before = self._gone_path.read_bytes() if self._gone_path.exists() else header
        there = set(before.splitlines(keepends=True))
        new = [line for line in lines if line not in there]
        with writing_result(self._gone_path):
            write_bytes_atomic(self._gone_path, before[: before.rfind(b"\n") + 1] + b"".join(new))
        self.n_left_out = len(lines)

    def _rows(self, whole: bytes, path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Read rows: each as it stands in the file, and what it says.

        A file that somebody edited, or of another program, may hold anything at all.
        """
        text = whole.decode("utf-8", "surrogateescape")
        lines = [f"{line}\n" for line in text.split("\n")[:-1] if line.strip()]
        reader = csv.DictReader(lines)
        records: Any = reader if self._kind == "csv" else map(parsed_json, lines)
        n_before = 1  # lines: that of the columns
        try:
            for number, record in enumerate(records):
                if self._csv_safe:  # its row may be written again, under another name
                    for name, cell in record.items():
                        if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell):
                            record[name] = cell.removeprefix("'")
                record["size_bytes"] = int(record["size_bytes"])
                record["modified_ns"] = int(record["modified_ns"])
                if not isinstance(record["path"], str) or "error" not in record:
                    raise KeyError("path or error")

                if self._kind == "csv":
                    row, n_before = "".join(lines[n_before : reader.line_num]), reader.line_num
                else:
                    row = lines[number]
                yield row.encode("utf-8", "surrogateescape"), record
        except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
            raise self._not_ours(path, str(error)) from error

    def _take_in(self, record: dict[str, Any], *, is_written: bool) -> bool:
        """Know what a row says, if it was made with the same settings; tell whether its track is known by it."""
        if record["error"]:  # whose line names no model, but what identifies one
            if is_written and all(record.get(name) == self._settings[name] for name in _SETTINGS):
                self._failures.add(self._failure_of(record))
            return False
        if any(record.get(name) != value for name, value in self._settings.items()):
            return False
        self._remember(record, is_written=is_written)
        return True

    def _is_ours(self, content: bytes) -> bool:
        return content.startswith(_FIRST_BYTES[self._kind])

    def _not_ours(self, path: Path, reason: str) -> UsageError:
        return UsageError(
            f"{path} is not a {self._kind} result that can be resumed ({reason})",
            next_step="Choose another --output, or --overwrite to replace it",
        )


def _is_gone(path: str, folders: Sequence[str]) -> bool:
    """Tell whether a file is gone from a folder that was searched, as far as its written name can tell."""
    if os.sep == "/" and "\\" in path:  # an escape perhaps, and not the name itself
        return False
    pure = PurePath(path)
    if ".." in pure.parts or not any(pure.is_relative_to(folder) for folder in folders):
        return False
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # a disk that fails is no proof
        return False
    return False


def _wide_text(genre: Mapping[str, Any]) -> str:
    """Write one genre of the wide vocabulary in a cell: its family where it has another, and what its score is."""
    name = genre["name"] if genre["name"] == genre["family"] else f"{genre['family']} > {genre['name']}"
    return f"{name} {genre['score']}{'' if genre['calibrated'] else ' uncalibrated'}"


def _without_controls(text: str) -> str:
    """Escape control characters, so that a line is one track for every reader and no terminal obeys a name."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
