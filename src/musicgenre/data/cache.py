"""Plumbing of the feature cache: rows found by what they were computed from, and content hashes remembered.

An entry's name is the hash of everything that decides its values, so an entry is never wrong and never changed. The
folder may be deleted at any time: only time is lost. An entry has checksums, and one that does not agree with them is
as good as none.

    MCR1 | bytes of the starts, uint32 | their CRC-32 | starts, .npy | CRC-32 of the rows | rows, .npy

Entries of earlier versions begin with the starts and have no checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import cache_folder, replacing
from musicgenre._npz import read_npy_header
from musicgenre.data.rows import Features

# Part of every key: raise it when decoding or cutting changes the values of unchanged settings.
CACHE_VERSION = 1
TEMPORARY = ("[0-9a-f][0-9a-f]/.*.rows.*.tmp",)
_MAGIC = b"MCR1"
_HEAD = struct.Struct("<4sII")
_CHECKSUM = struct.Struct("<I")
_OLD_MAGIC = b"\x93NUM"  # of a .npy file
_BUSY_S = 10.0  # how long to wait for another process that is writing the hashes
_SETTLED_S = 2.0  # a file younger than this may change again within its time stamp's precision


def default_cache() -> Path:
    """Folder that all stores share: `features` in the cache folder."""
    return cache_folder() / "features"


def entry_key(content_sha256: str, settings: Mapping[str, Any]) -> str:
    """Name the rows made from one file's content under `settings` (plain JSON values)."""
    text = json.dumps([CACHE_VERSION, content_sha256, settings], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


# What is missing, cut short or changed raises one of these.
_DAMAGED = (FileNotFoundError, ValueError, EOFError, struct.error)


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
        starts, values = _npy(starts_s), _npy(rows)
        head = _HEAD.pack(_MAGIC, len(starts), zlib.crc32(starts))
        with replacing(self.path_of(key), tidy=False, durable=False) as temporary:
            temporary.write_bytes(b"".join((head, starts, _CHECKSUM.pack(zlib.crc32(values)), values)))

    def read(self, key: str) -> tuple[NDArray[np.float64], Features] | None:
        """Take an entry out; `None` if it is not there or damaged."""
        try:
            with self.path_of(key).open("rb") as stream:
                starts_s, is_checked = _read_starts(stream)
                if not is_checked:
                    return starts_s, _old_array(stream)
                expected = _CHECKSUM.unpack(stream.read(_CHECKSUM.size))[0]
                return starts_s, _array(stream.read(), expected)
        except _DAMAGED:
            return None

    def read_starts(self, key: str) -> NDArray[np.float64] | None:
        """Take only the starts out; `None` as in `read`."""
        try:
            with self.path_of(key).open("rb") as stream:
                return _read_starts(stream)[0]
        except _DAMAGED:
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


def _npy(values: NDArray[Any]) -> bytes:
    """Write an array as the content of a `.npy` file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def _array(content: bytes, checksum: int) -> NDArray[Any]:
    """Read the content of a `.npy` file that has this CRC-32; raises ValueError for another one."""
    if zlib.crc32(content) != checksum:
        raise ValueError("its checksum is another one")
    return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))


def _read_starts(stream: IO[bytes]) -> tuple[NDArray[np.float64], bool]:
    """Read the starts, and say whether the entry has checksums; the stream stands behind them then."""
    head = stream.read(_HEAD.size)
    if head.startswith(_OLD_MAGIC):
        stream.seek(0)
        return _old_array(stream), False

    magic, n_bytes, checksum = _HEAD.unpack(head)
    if magic != _MAGIC or n_bytes > _size_of(stream):
        raise ValueError("it is no entry")
    return _array(stream.read(n_bytes), checksum), True


def _old_array(stream: IO[bytes]) -> NDArray[Any]:
    """Read an array of an entry without checksums, if the file can hold it."""
    start = stream.tell()
    header = read_npy_header(stream)
    if stream.tell() + header.dtype.itemsize * math.prod(header.shape) > _size_of(stream):
        raise ValueError("it is cut off")
    stream.seek(start)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _size_of(stream: IO[bytes]) -> int:
    """Size of an open file, in bytes."""
    return os.fstat(stream.fileno()).st_size


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
