"""Plumbing of the feature cache: rows found by what they were computed from, and content hashes remembered.

An entry's name is the hash of everything that decides its values, so an entry is never wrong and never changed. The
folder may be deleted at any time: only time is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import cache_folder, replacing
from musicgenre.data.rows import Features, write_npy

# Part of every key: raise it when decoding or cutting changes the values of unchanged settings.
CACHE_VERSION = 1
TEMPORARY = ("[0-9a-f][0-9a-f]/.*.rows.*.tmp",)
_BUSY_S = 10.0  # how long to wait for another process that is writing the hashes
_SETTLED_S = 2.0  # a file younger than this may change again within its time stamp's precision


def default_cache() -> Path:
    """Folder that all stores share: `features` in the cache folder."""
    return cache_folder() / "features"


def entry_key(content_sha256: str, settings: Mapping[str, Any]) -> str:
    """Name the rows made from one file's content under `settings` (plain JSON values)."""
    text = json.dumps([CACHE_VERSION, content_sha256, settings], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class RowCache:
    """Entries in 256 folders: each the starts in s (n,) and the rows (n, *shape) of one track."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, key: str) -> Path:
        """Where the entry is or would be."""
        return self.folder / key[:2] / f"{key[2:]}.rows"

    def __contains__(self, key: str) -> bool:
        return self.path_of(key).is_file()

    def write(self, key: str, starts_s: NDArray[np.float64], rows: Features) -> None:
        """Put an entry in place, whole or not at all."""
        with replacing(self.path_of(key)) as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array(stream, starts_s, allow_pickle=False)
            write_npy(stream, [rows], rows.shape, rows.dtype)

    def read(self, key: str) -> tuple[NDArray[np.float64], Features] | None:
        """Take an entry out; `None` if it is not there or damaged."""
        try:
            with self.path_of(key).open("rb") as stream:
                starts_s = np.lib.format.read_array(stream, allow_pickle=False)
                rows = np.lib.format.read_array(stream, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        return starts_s, rows

    def read_starts(self, key: str) -> NDArray[np.float64] | None:
        """Take only the starts out; `None` as in `read`."""
        try:
            with self.path_of(key).open("rb") as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        except (FileNotFoundError, ValueError, EOFError):
            return None


@dataclass(frozen=True, slots=True)
class Signature:
    """What a file's content is remembered by: its size and times of change."""

    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Signature:
        """Take the signature of `path`; raises OSError."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class ContentHashes:
    """SHA-256 of files seen before, so that unchanged files need not be read to be recognised.

    A lost or damaged memory costs time only, so its errors are passed over.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "content.sqlite"
        try:
            self._connection = _memory(path)
        except sqlite3.OperationalError:  # another process is busy with it, or it cannot be opened
            self._connection = _memory(":memory:")
        except sqlite3.DatabaseError:  # damaged
            path.unlink(missing_ok=True)
            self._connection = _memory(path)

    def known(self, path: Path) -> str | None:
        """Recall the hash of `path` if it is unchanged since it was taken."""
        try:
            now = Signature.of(path)
            row = self._connection.execute(
                "SELECT size, modified_ns, changed_ns, sha256 FROM content WHERE path = ?", (str(path),)
            ).fetchone()
        except (OSError, sqlite3.Error):
            return None

        if row is None or Signature(*row[:3]) != now:
            return None
        return str(row[3])

    def remember(self, path: Path, signature: Signature, sha256: str) -> None:
        """Keep the hash that was taken of `path` when it had this signature."""
        newest_s = max(signature.modified_ns, signature.changed_ns) / 1e9
        if newest_s > time.time() - _SETTLED_S:
            return

        with contextlib.suppress(sqlite3.Error):
            self._connection.execute(
                "INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?)",
                (str(path), signature.size, signature.modified_ns, signature.changed_ns, sha256),
            )

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()


def _memory(path: Path | str) -> sqlite3.Connection:
    """Open the table of hashes, made where it is not there."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")  # it may be lost, so nobody need wait for the disk
        connection.execute(
            "CREATE TABLE IF NOT EXISTS content"
            " (path TEXT PRIMARY KEY, size INTEGER, modified_ns INTEGER, changed_ns INTEGER, sha256 TEXT)"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection
