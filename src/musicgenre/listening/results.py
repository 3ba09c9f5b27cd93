"""Result files: one whole line a track, so that an interrupted run leaves a valid file and can go on later."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from musicgenre._files import room_advice, sha256_of, writing_result
from musicgenre._json import parsed_json
from musicgenre._known_files import FileState, KnownFiles
from musicgenre._locks import file_lock
from musicgenre._outputs import RESUME_OR_REPLACE, refuse_overwriting
from musicgenre.errors import UsageError
from musicgenre.listening.answer import Answer
from musicgenre.listening.batch import Result

Format = Literal["json", "csv", "tsv"]
FileFormat = Literal["json", "csv"]  # of files that can be resumed

# With which settings a track was heard: lines made otherwise do not count as done.
_SETTINGS = ("coverage", "model_sha256")
# What identifies a heard file when a run is resumed (size and time first, the content when those differ) comes first.
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
        return json.dumps(_storable(record), ensure_ascii=only_ascii) + "\n"

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
        text = _without_controls(_storable(text))
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
    ) -> None:
        self._path = path
        self._csv_safe = csv_safe
        self._columns: Sequence[str] | None = None  # the usual ones
        self._kind = kind
        self._settings = dict(settings)
        self._known: KnownFiles[dict[str, Any]] = KnownFiles()
        self._failures: set[tuple[str, str, int, int]] = set()  # what failed before, and why: it is said once
        self._open_things = ExitStack()
        header = header_line("csv", resumable=True, tags=tags, wide=wide)

        # What stands in the file is read, and judged again, only when no other process adds to it.
        refuse_overwriting(path, overwrite=resume or overwrite, next_step=RESUME_OR_REPLACE)
        with self._open_things:
            with writing_result(path):
                self._open_things.enter_context(file_lock(path, "'musicgenre classify'"))
            self._open(header, resume=resume, overwrite=overwrite)
            self._open_things = self._open_things.pop_all()

    def _open(self, header: str, *, resume: bool, overwrite: bool) -> None:
        """Take in what the file holds, and open it to add to it."""
        path = self._path
        refuse_overwriting(path, overwrite=resume or overwrite, next_step=RESUME_OR_REPLACE)
        if path.exists() and not overwrite:
            self._read_done(header)

        # What can be refused was refused: from here on the file is ours.
        with writing_result(path):
            # Without a buffer, so that a line that is written is in the file.
            self._stream = self._open_things.enter_context(path.open("ab", buffering=0))
        if overwrite:
            self._stream.truncate(0)
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

        A file that was moved or touched is recognised by its content; its record is then written again under the
        new name, so that the next resume finds it at once.
        """
        known = self._known.find(path, self._as_written(path))
        if known is None:
            return None
        if known.is_unchanged:
            return known.value

        moved = {**known.value, "path": path, "modified_ns": known.state.modified_ns}
        self._append(moved)
        return moved

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record with what identifies its file."""
        path = str(record["path"])
        state, sha256 = FileState(0, 0), ""  # of what is known by its name alone
        try:
            state = FileState.of(path)
            if record["error"] is None:
                sha256 = sha256_of(Path(path))
        except OSError:
            pass  # a file that is gone meanwhile is heard again the next time

        # Failures are tried again by each resume; one that fails as it did before has its line already.
        identity = {"size_bytes": state.size_bytes, "modified_ns": state.modified_ns, "sha256": sha256}
        whole = {**record, **identity, **{name: self._settings[name] for name in _SETTINGS}}
        if record["error"] is not None:
            failure = self._failure_of(whole)
            if failure in self._failures:
                return
            self._failures.add(failure)
        self._append(whole)

    def _append(self, record: dict[str, Any]) -> None:
        self._write(format_line(record, self._kind, csv_safe=self._csv_safe, columns=self._columns))
        self._remember(record)

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

    def _remember(self, record: dict[str, Any]) -> None:
        name = self._as_written(str(record["path"]))
        state = FileState(int(record["size_bytes"]), int(record["modified_ns"]))
        self._known.remember(name, state, str(record.get("sha256") or ""), record)

    def _failure_of(self, record: Mapping[str, Any]) -> tuple[str, str, int, int]:
        """Which file failed, in which state, and why, as it stands in the file."""
        path, error = self._as_written(str(record["path"])), self._as_written(str(record["error"]))
        return path, error, int(record["size_bytes"]), int(record["modified_ns"])

    def _as_written(self, text: str) -> str:
        """Spell a path, or a reason, as it stands in the file; with or without the apostrophe is the same."""
        storable: str = _storable(text)
        if self._kind == "json":
            return storable
        cell = _without_controls(storable)
        return cell.lstrip("'") if _FORMULA.match(cell) else cell

    def _read_done(self, header: str) -> None:
        """Take in the finished lines; cut off a last line that an interruption tore."""
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if content and not whole and not content.startswith(_FIRST_BYTES[self._kind]):
            raise self._not_ours("no whole line in it")
        if self._kind == "csv" and whole:
            first_line = whole.split(b"\n")[0] + b"\n"
            if first_line == header.replace(",reason", "").encode() != header.encode():
                self._columns = _COLUMNS_BEFORE
            elif first_line != header.encode():
                raise self._not_ours("its columns are those of another kind of model")

        text = whole.decode("utf-8", "surrogateescape")
        records: Any = csv.DictReader(io.StringIO(text))
        if self._kind == "json":
            records = (parsed_json(line) for line in text.split("\n") if line.strip())

        # A file that somebody edited, or of another program, may hold anything at all.
        try:
            for record in records:
                if self._csv_safe:  # its row may be written again, under another name
                    for name, cell in record.items():
                        if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell):
                            record[name] = cell.removeprefix("'")
                record["size_bytes"] = int(record["size_bytes"])
                record["modified_ns"] = int(record["modified_ns"])
                if not isinstance(record["path"], str) or "error" not in record:
                    raise KeyError("path or error")

                if record["error"]:  # whose line names no model, but what identifies one
                    if all(record.get(name) == self._settings[name] for name in _SETTINGS):
                        self._failures.add(self._failure_of(record))
                elif all(record.get(name) == value for name, value in self._settings.items()):
                    self._remember(record)
        except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
            raise self._not_ours(str(error)) from error

        if len(whole) < len(content):
            with self._path.open("r+b") as stream:
                stream.truncate(len(whole))

    def _not_ours(self, reason: str) -> UsageError:
        return UsageError(
            f"{self._path} is not a {self._kind} result that can be resumed ({reason})",
            next_step="Choose another --output, or --overwrite to replace it",
        )


def _storable(value: Any) -> Any:
    """Make names that are not UTF-8 survive writing: their raw bytes become escapes."""
    if isinstance(value, str):
        has_raw_bytes = any("\ud800" <= character <= "\udfff" for character in value)
        return os.fsencode(value).decode("utf-8", "backslashreplace") if has_raw_bytes else value
    if isinstance(value, Mapping):
        return {name: _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value


def _wide_text(genre: Mapping[str, Any]) -> str:
    """Write one genre of the wide vocabulary in a cell: its family where it has another, and what its score is."""
    name = genre["name"] if genre["name"] == genre["family"] else f"{genre['family']} > {genre['name']}"
    return f"{name} {genre['score']}{'' if genre['calibrated'] else ' uncalibrated'}"


def _without_controls(text: str) -> str:
    """Escape control characters, so that a line is one track for every reader and no terminal obeys a name."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
