"""Memory of what was heard, by the sound alone: a file that was moved, renamed or tagged is not heard again.

A cache: it may be deleted at any time, and a damaged one is made anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from musicgenre._files import cache_folder, sha256_of
from musicgenre.errors import LibraryError
from musicgenre.filetags.music_file import FileTags, read_tags

_BUSY_S = 30.0
_FORMAT = 1
_SCHEMA = """
CREATE TABLE file (path BLOB PRIMARY KEY, state TEXT NOT NULL, tags TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE heard (sound_sha256 TEXT, settings TEXT, record TEXT NOT NULL, PRIMARY KEY (sound_sha256, settings))
WITHOUT ROWID;
"""


class HeardMemory:
    """What is known of files and of their sound.

    Parameters
    ----------
    path : Path, optional
        The file; by default in the cache folder.

    Raises
    ------
    LibraryError
        It cannot be opened, though it is not damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_folder() / "heard.sqlite" if path is None else path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._opened()
        except sqlite3.OperationalError as error:  # another process holds it, or nothing can be written there
            raise LibraryError(
                f"{self.path} cannot be opened ({error})",
                next_step="End the other program that holds it, or choose another place with MUSICGENRE_CACHE",
            ) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            # Damaged, and nothing is in it that could not be found out again.
            for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
                self.path.with_name(name).unlink(missing_ok=True)
            self._database = self._opened()

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            [version] = database.execute("PRAGMA user_version").fetchone()
            if version != _FORMAT:
                database.executescript(
                    "BEGIN IMMEDIATE; DROP TABLE IF EXISTS file; DROP TABLE IF EXISTS heard;"
                    f"{_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;"
                )
            database.execute("SELECT COUNT(*) FROM (SELECT 1 FROM file LIMIT 1)")
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> HeardMemory:
        """Open the memory for a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def look(self, path: str) -> FileTags:
        """What a file's tags say, and what identifies its sound; read only where the file is new or has changed.

        Of a file whose tags cannot be written, the whole content identifies it, and its container is empty.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        state = _state_of(path)
        name = os.fsencode(os.path.abspath(path))  # noqa: PTH100
        with suppress(sqlite3.Error, ValueError, TypeError, KeyError):
            row = self._database.execute(
                "SELECT tags FROM file WHERE path = ? AND state = ?", (name, state)
            ).fetchone()
            if row is not None:
                return _tags_from(row[0])

        try:
            tags = read_tags(Path(path))
        except LibraryError:
            tags = FileTags("", None, (), (), (), "", "", "", "", "", sha256_of(Path(path)))
        with suppress(sqlite3.Error):
            self._database.execute(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?)", (name, state, json.dumps(dataclasses.asdict(tags)))
            )
        return tags

    def heard(self, sound_sha256: str, settings: str) -> dict[str, Any] | None:
        """What was heard of a sound with these settings; None if it was not heard yet."""
        with suppress(sqlite3.Error, ValueError):
            row = self._database.execute(
                "SELECT record FROM heard WHERE sound_sha256 = ? AND settings = ?", (sound_sha256, settings)
            ).fetchone()
            if row is not None:
                record = json.loads(row[0])
                return record if isinstance(record, dict) else None
        return None

    def remember(self, sound_sha256: str, settings: str, record: Mapping[str, Any]) -> None:
        """Keep what was heard of a sound."""
        with suppress(sqlite3.Error):
            self._database.execute(
                "INSERT OR REPLACE INTO heard VALUES (?, ?, ?)", (sound_sha256, settings, json.dumps(record))
            )


def _state_of(path: str) -> str:
    """What tells without reading a file whether it changed; the time of its inode gives away what kept its times."""
    found = Path(path).stat()
    changed_ns = found.st_ctime_ns if os.name == "posix" else 0
    return f"{found.st_size}:{found.st_mtime_ns}:{changed_ns}"


def _tags_from(text: str) -> FileTags:
    """Read what was kept of a file."""
    values = json.loads(text)
    for field in ("genres", "moods", "groupings"):
        values[field] = tuple(values[field])
    return FileTags(**values)
