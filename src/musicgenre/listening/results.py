"""Result files: one whole line a track, so that an interrupted run leaves a valid file and can go on later."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from musicgenre._files import parsed_json, room_advice, sha256_of
from musicgenre.errors import UsageError

Format = Literal["json", "csv"]

# What identifies a heard file when a run is resumed: size and time first, the content when those differ.
_IDENTITY = ("size_bytes", "modified_ns", "sha256")
# With which settings it was heard: lines made otherwise do not count as done.
_SETTINGS = ("coverage", "model_sha256")
_RESUMABLE = (*_IDENTITY, *_SETTINGS)
_FIRST_BYTES: dict[Format, bytes] = {"json": b'{"path"', "csv": b"path,"}
_CSV_COLUMNS = (
    "path",
    "genre",
    "confidence",
    "candidates",
    "style",
    "tags",
    "duration_s",
    "heard_s",
    "warnings",
    "model",
    "error",
)
_TAG_COLUMNS = ("path", "chosen", "tags", "duration_s", "heard_s", "warnings", "model", "error")


def format_line(record: Mapping[str, Any], kind: Format, *, only_ascii: bool = False) -> str:
    """Write one record as one line of JSON or CSV, newline included; ``only_ascii`` escapes the rest in JSON."""
    if kind == "json":
        return json.dumps(_printable(record), ensure_ascii=only_ascii) + "\n"
    extra = [record[name] for name in _RESUMABLE if name in record]
    cells = [_cell(record.get(name)) for name in _columns("chosen" in record)] + extra
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow([_on_one_line(_printable(cell)) for cell in cells])
    return stream.getvalue()


def csv_header(*, resumable: bool, tags: bool = False) -> str:
    """First line of a CSV result; ``tags``: that of a tagger, whose records have ``chosen`` tags and no genre."""
    columns = _columns(tags) + (_RESUMABLE if resumable else ())
    return ",".join(columns) + "\n"


def _columns(tags: bool) -> tuple[str, ...]:
    return _TAG_COLUMNS if tags else _CSV_COLUMNS


class ResultFile:
    """A result file that grows by whole lines and remembers which tracks it holds.

    Parameters
    ----------
    path : Path
        The file.
    kind : {"json", "csv"}
        Its format.
    settings : mapping of str to str
        ``model``, ``coverage`` and ``model_sha256``: only lines made with the same ones count as done.
    resume : bool
        Go on with an existing file. Without it, an existing file is refused.
    overwrite : bool
        Replace an existing file.
    tags : bool
        Whether a tagger's records go into it.

    Raises
    ------
    UsageError
        When the file exists and neither ``resume`` nor ``overwrite`` is given, is not a result of ours, or cannot be
        written.
    """

    def __init__(
        self,
        path: Path,
        kind: Format,
        settings: Mapping[str, str],
        *,
        resume: bool,
        overwrite: bool,
        tags: bool = False,
    ) -> None:
        self._path = path
        self._kind = kind
        self._header = csv_header(resumable=True, tags=tags)
        self._settings = dict(settings)
        self._by_path: dict[str, dict[str, Any]] = {}
        self._by_hash: dict[str, dict[str, Any]] = {}
        self._sizes: set[int] = set()
        exists = _is_there(path)
        if exists and not (resume or overwrite):
            raise UsageError(
                f"{path} exists already",
                valid="A result file is never overwritten unasked",
                next_step="Add --resume to go on with it, or --overwrite to replace it",
            )
        if exists and resume and not overwrite:
            self._read_done()
        self._stream = self._open(fresh=overwrite)
        if kind == "csv" and self._stream.seek(0, os.SEEK_END) == 0:
            self._write(self._header)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> ResultFile:
        """Open the file for a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def done(self, path: str) -> dict[str, Any] | None:
        """Return the earlier record of this track if it is unchanged, else None.

        A file that was moved or touched is recognised by its content; its record is then written again under the
        new name, so that the next resume finds it at once.
        """
        identity = _size_and_time(path)
        if identity is None:
            return None
        known = self._by_path.get(self._as_written(path))
        if known is not None and (known["size_bytes"], known["modified_ns"]) == identity:
            return known
        if identity[0] not in self._sizes:
            return None
        same = self._by_hash.get(_content_hash(path))
        if same is None:
            return None
        moved = {**same, "path": path, "modified_ns": identity[1]}
        self._append(moved)
        return moved

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record with what identifies its file."""
        path = str(record["path"])
        size_and_time = _size_and_time(path)
        size, modified = size_and_time if size_and_time is not None else (0, 0)
        digest = _content_hash(path) if record["error"] is None else ""
        heard_with = {name: self._settings[name] for name in _SETTINGS}
        self._append({**record, "size_bytes": size, "modified_ns": modified, "sha256": digest, **heard_with})

    def _append(self, record: dict[str, Any]) -> None:
        self._write(format_line(record, self._kind))
        self._remember(record)

    def _write(self, line: str) -> None:
        """Write a whole line, or nothing where the disk is full."""
        end = self._stream.seek(0, os.SEEK_END)
        rest = memoryview(line.encode("utf-8"))
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

    def _as_written(self, path: str) -> str:
        """Spell a path as it stands in the file."""
        return str(_printable(path) if self._kind == "json" else _on_one_line(_printable(path)))

    def _remember(self, record: dict[str, Any]) -> None:
        self._by_path[self._as_written(str(record["path"]))] = record
        if record.get("sha256"):
            self._by_hash[str(record["sha256"])] = record
            self._sizes.add(int(record["size_bytes"]))

    def _open(self, *, fresh: bool) -> FileIO:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            stream = self._path.open("ab", buffering=0)  # appends whole lines even where two runs share a file
        except OSError as error:
            raise _unwritable(self._path, error) from error
        if fresh:
            stream.truncate(0)
        return stream

    def _read_done(self) -> None:
        """Take in the finished lines; cut off a last line that an interruption tore."""
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if content and not whole and not content.startswith(_FIRST_BYTES[self._kind]):
            raise _not_ours(self._path, self._kind, "no whole line in it")
        if self._kind == "csv" and whole and whole.split(b"\n")[0] + b"\n" != self._header.encode():
            raise _not_ours(self._path, self._kind, "its columns are those of another kind of model")
        for record in _records(whole.decode("utf-8", "surrogateescape"), self._kind, self._path):
            if not record["error"] and self._made_alike(record):
                self._remember(record)
        if len(whole) < len(content):
            with self._path.open("r+b") as stream:
                stream.truncate(len(whole))

    def _made_alike(self, record: Mapping[str, Any]) -> bool:
        return all(record.get(name) == value for name, value in self._settings.items())


def _records(text: str, kind: Format, path: Path) -> Iterator[dict[str, Any]]:
    try:
        if kind == "json":
            records = [parsed_json(line) for line in text.split("\n") if line.strip()]
        else:
            records = [dict(row) for row in csv.DictReader(io.StringIO(text))]
        for record in records:
            record["size_bytes"] = int(record["size_bytes"])
            record["modified_ns"] = int(record["modified_ns"])
            if not isinstance(record["path"], str) or "error" not in record:
                raise KeyError("path or error")
            yield record
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise _not_ours(path, kind, str(error)) from error


def _not_ours(path: Path, kind: Format, reason: str) -> UsageError:
    return UsageError(
        f"{path} is not a {kind} result that can be resumed ({reason})",
        next_step="Choose another --output, or --overwrite to replace it",
    )


def _is_there(path: Path) -> bool:
    """Tell whether the file exists; what exists and can hold no results is refused."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unwritable(path, error) from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder", next_step="Give --output the name of a file")
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{path} is a device or a pipe", next_step="Leave --output out to have the results on standard output"
        )
    return True


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be written ({error.strerror})", next_step="Choose another --output")


def _size_and_time(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _content_hash(path: str) -> str:
    try:
        return sha256_of(Path(path))
    except OSError:
        return ""


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {score}" for name, score in value.items())
    if isinstance(value, list):
        return "; ".join(str(item) for item in value)
    return "" if value is None else value


def _on_one_line(value: Any) -> Any:
    """Escape line breaks in a name, so that a line of CSV is one track for every reader."""
    return value.replace("\r", "\\r").replace("\n", "\\n") if isinstance(value, str) else value


def _printable(value: Any) -> Any:
    """Make names that are not UTF-8 survive writing: their raw bytes become escapes."""
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "backslashreplace") if _has_surrogates(value) else value
    if isinstance(value, Mapping):
        return {name: _printable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
