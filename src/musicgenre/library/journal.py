"""The journal: what was written into which file, and how each byte of it is taken back.

A row is committed before its file is replaced and marked done afterwards, so that a kill at any moment leaves a row
that can be settled by looking at the file. Rows do not expire.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from musicgenre._files import data_folder
from musicgenre._version import __version__
from musicgenre.errors import LibraryError
from musicgenre.filetags.splice import Splice

State = Literal["open", "done", "undone"]
Values = Mapping[str, tuple[str, ...]]

_FORMAT = 1
# What a flipped byte in the file ends in: in SQLite, in a name that is no text, in values that are none of ours.
_DAMAGED = (sqlite3.Error, zlib.error, ValueError, TypeError, AttributeError, LookupError)
_BUSY_S = 30.0  # how long another process may hold the file before we give up
_SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('apply', 'undo')),
    started TEXT NOT NULL,
    version TEXT NOT NULL
);
CREATE TABLE change (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id),
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'undone')),
    path BLOB NOT NULL,
    temporary BLOB NOT NULL,
    sound_sha256 TEXT NOT NULL,
    tags_before TEXT NOT NULL,
    tags_after TEXT NOT NULL,
    values_before TEXT NOT NULL,
    values_after TEXT NOT NULL,
    splice BLOB NOT NULL,
    model TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    written TEXT NOT NULL,
    takes_back INTEGER REFERENCES change (id)
);
CREATE TABLE correction (
    sound_sha256 TEXT PRIMARY KEY,
    genres TEXT NOT NULL,
    given TEXT NOT NULL
);
CREATE INDEX change_by_path ON change (path, id);
CREATE INDEX change_by_sound ON change (sound_sha256);
CREATE INDEX change_by_state ON change (state) WHERE state = 'open';
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One file that is, or was, written.

    Attributes
    ----------
    path : str
        The file, absolute.
    sound_sha256 : str
        What identifies its sound.
    tags_before, tags_after : str
        Hex SHA-256 of all its tags, before and after.
    values_before, values_after : mapping of str to tuple of str
        Of the fields that were written.
    splice : Splice
        What turns the new file back into the old one, byte for byte.
    model, model_sha256 : str
        Which model the values came from; empty where a person gave them.
    temporary : str
        Where the new file is written before it takes the old one's place.
    id, run_id : int
        Numbers in the journal; 0 before it is in there.
    state : {"open", "done", "undone"}
        Whether it was finished, and whether it was taken back.
    written : str
        When, in UTC (ISO 8601).
    takes_back : int or None
        The change that this one takes back.
    """

    path: str
    sound_sha256: str
    tags_before: str
    tags_after: str
    values_before: Values
    values_after: Values
    splice: Splice
    model: str
    model_sha256: str
    temporary: str = ""
    id: int = 0
    run_id: int = 0
    state: State = "open"
    written: str = ""
    takes_back: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One call of `apply` or `undo`.

    Attributes
    ----------
    id : int
        Its number.
    kind : {"apply", "undo"}
        What it did.
    started : str
        When, in UTC (ISO 8601).
    n_files, n_undone : int
        Files it wrote, and how many of these were taken back since.
    """

    id: int
    kind: str
    started: str
    n_files: int
    n_undone: int


def journal_path() -> Path:
    """Where the journal lies: in the data folder, apart from every cache."""
    return data_folder() / "library.sqlite"


class Journal:
    """The journal file, open.

    Parameters
    ----------
    path : Path, optional
        The file; made where it is missing.

    Raises
    ------
    LibraryError
        It is damaged, written by a newer version, or cannot be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = journal_path() if path is None else path
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise
        except (*_DAMAGED, OSError) as error:
            raise self._unreadable("opened", error) from error

    def _prepare(self) -> None:
        """Check the file, or make it; each commit must outlast a power cut."""
        database = self._database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        [found] = database.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {' '.join(found.split())}")

        [version] = database.execute("PRAGMA user_version").fetchone()
        if version > _FORMAT:
            raise sqlite3.DatabaseError(f"it has format {version}, written by a newer musicgenre")
        if version == 0:
            with self._committing():
                # Another process may have been quicker while this one waited.
                if database.execute("PRAGMA user_version").fetchone() == (0,):
                    for statement in _SCHEMA.split(";"):
                        database.execute(statement)
                    database.execute(f"PRAGMA user_version = {_FORMAT}")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Journal:
        """Open the journal for a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def begin(self, kind: Literal["apply", "undo"]) -> int:
        """Note down a new run; give its number."""
        with self._committing():
            inserted = self._database.execute(
                "INSERT INTO run (kind, started, version) VALUES (?, ?, ?)", (kind, _now(), __version__)
            )
        return int(inserted.lastrowid or 0)

    def open_changes(self, run_id: int, changes: Iterable[Change]) -> list[int]:
        """Note down what is about to be written; nothing may be written before this returns."""
        numbers = []
        with self._committing():
            for change in changes:
                inserted = self._database.execute(
                    "INSERT INTO change (run_id, state, path, temporary, sound_sha256, tags_before, tags_after, "
                    "values_before, values_after, splice, model, model_sha256, written, takes_back) "
                    "VALUES (?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        run_id,
                        os.fsencode(change.path),
                        os.fsencode(change.temporary),
                        change.sound_sha256,
                        change.tags_before,
                        change.tags_after,
                        json.dumps(change.values_before, ensure_ascii=False),
                        json.dumps(change.values_after, ensure_ascii=False),
                        zlib.compress(change.splice.to_bytes()),
                        change.model,
                        change.model_sha256,
                        _now(),
                        change.takes_back,
                    ),
                )
                numbers.append(int(inserted.lastrowid or 0))
        return numbers

    def settle(self, done: Sequence[int], dropped: Sequence[int] = ()) -> None:
        """Mark changes as done (and what they take back as undone), and forget those that did not happen."""
        with self._committing():
            for number in done:
                self._database.execute("UPDATE change SET state = 'done' WHERE id = ?", (number,))
                # What it takes back does not stand any more; what that had taken back does again, and so on.
                state, taken_back = "undone", self._taken_back(number)
                while taken_back is not None:
                    self._database.execute("UPDATE change SET state = ? WHERE id = ?", (state, taken_back))
                    state = "done" if state == "undone" else "undone"
                    taken_back = self._taken_back(taken_back)
            for number in dropped:
                self._database.execute("DELETE FROM change WHERE id = ?", (number,))

    def unsettled(self) -> list[Change]:
        """Changes that a killed process left open."""
        return self._changes("WHERE state = 'open' ORDER BY id")

    def runs(self) -> list[Run]:
        """Every run that wrote something, the latest first."""
        with self._reading():
            rows = self._database.execute(
                "SELECT run.id, kind, started, COUNT(*), SUM(state = 'undone') FROM run "
                "JOIN change ON change.run_id = run.id GROUP BY run.id ORDER BY run.id DESC"
            )
            return [Run(*row) for row in rows]

    def size_bytes(self) -> int:
        """Bytes of the journal on the disk."""
        files = [self.path.with_name(f"{self.path.name}{end}") for end in ("", "-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def changes(
        self, *, run_id: int | None = None, since: str | None = None, path: str | None = None, state: str | None = None
    ) -> list[Change]:
        """Changes by run, by time (UTC, ISO 8601), by file or by what is in a folder; the latest first."""
        conditions, values = ["1"], list[object]()
        if run_id is not None:
            conditions.append("run_id = ?")
            values.append(run_id)
        if since is not None:
            conditions.append("written >= ?")
            values.append(since)
        if state is not None:
            conditions.append("state = ?")
            values.append(state)
        if path is not None:
            whole = os.fsencode(path)
            folder = whole.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep)
            conditions.append("(path = ? OR substr(path, 1, ?) = ?)")
            values += [whole, len(folder), folder]
        return self._changes(f"WHERE {' AND '.join(conditions)} ORDER BY id DESC", values)

    def ours(self, path: str) -> Values:
        """What we wrote last into a file's fields and nobody took back; empty where we never wrote into it."""
        found = self._changes(
            "WHERE path = ? AND state = 'done' AND takes_back IS NULL ORDER BY id DESC LIMIT 1", [os.fsencode(path)]
        )
        return found[0].values_after if found else {}

    def correct(self, sound_sha256: str, genres: Sequence[str]) -> None:
        """Keep the genres that a person gave a track: they win over every model from now on."""
        with self._committing():
            self._database.execute(
                "INSERT OR REPLACE INTO correction VALUES (?, ?, ?)",
                (sound_sha256, json.dumps(list(genres), ensure_ascii=False), _now()),
            )

    def correction(self, sound_sha256: str) -> tuple[str, ...] | None:
        """Genres that a person gave a track; None where nobody did."""
        with self._reading():
            row = self._database.execute(
                "SELECT genres FROM correction WHERE sound_sha256 = ?", (sound_sha256,)
            ).fetchone()
            return None if row is None else tuple(map(_text, json.loads(row[0])))

    def prune(self, before: str) -> int:
        """Forget what was written before a time (UTC, ISO 8601): it cannot be taken back any more. Tell how many."""
        with self._committing():
            old = "SELECT id FROM change WHERE written < ? AND state != 'open'"
            self._database.execute(f"UPDATE change SET takes_back = NULL WHERE takes_back IN ({old})", (before,))
            deleted = self._database.execute("DELETE FROM change WHERE written < ? AND state != 'open'", (before,))
            self._database.execute("DELETE FROM run WHERE id NOT IN (SELECT run_id FROM change)")
        return deleted.rowcount

    def _taken_back(self, number: int) -> int | None:
        """Which change a change takes back."""
        [found] = self._database.execute("SELECT takes_back FROM change WHERE id = ?", (number,)).fetchone()
        return None if found is None else int(found)

    def _changes(self, where: str, values: Sequence[object] = ()) -> list[Change]:
        with self._reading():
            rows = self._database.execute(
                "SELECT path, sound_sha256, tags_before, tags_after, values_before, values_after, splice, model, "
                f"model_sha256, temporary, id, run_id, state, written, takes_back FROM change {where}",
                values,
            )
            return [_change_from(row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say of a row that cannot be read that the journal is damaged."""
        try:
            yield
        except _DAMAGED as error:
            raise self._unreadable("read", error) from error

    def _unreadable(self, what: str, error: Exception) -> LibraryError:
        return LibraryError(
            f"the journal {self.path} cannot be {what} ({error})",
            next_step="Nothing was written. Move the file away only if you can do without taking changes back",
        )

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """All of a block or nothing; when it ends, it is on the disk."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise LibraryError(
                f"the journal {self.path} cannot be written ({error})",
                next_step="Free some space there, or end the other program that holds it, and try again",
            ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _change_from(row: Sequence[Any]) -> Change:
    """Read a row of changes."""
    before, after = (
        {field: tuple(map(_text, texts)) for field, texts in json.loads(text).items()} for text in row[4:6]
    )
    return Change(
        path=os.fsdecode(row[0]),
        sound_sha256=_text(row[1]),
        tags_before=_text(row[2]),
        tags_after=_text(row[3]),
        values_before=before,
        values_after=after,
        splice=Splice.from_bytes(zlib.decompress(row[6])),
        model=_text(row[7]),
        model_sha256=_text(row[8]),
        temporary=os.fsdecode(row[9]),
        id=row[10],
        run_id=row[11],
        state=row[12],
        written=_text(row[13]),
        takes_back=row[14],
    )


def _text(value: object) -> str:
    """A text, and nothing else."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
