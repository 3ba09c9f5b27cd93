"""Plumbing for folders that long jobs write: one writer at a time, and a full disk as an error one can read."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from musicgenre.errors import DataError

_LOCK_NAME = ".lock"
_LOCK_BYTE = 1 << 20  # far behind the process number, which others read while the byte is locked
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors of the block into `DataError`; a full disk gets its own words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DataError(
                f"the disk is full while writing into {error.filename or folder}",
                valid="Nothing half-written was left in place",
                next_step="Free some space and run the same command again: what is finished is kept",
            ) from error
        raise DataError(f"cannot write into {folder} ({error})", next_step="Check the folder's permissions") from error


@contextmanager
def folder_lock(folder: Path, doing: str) -> Iterator[None]:
    """Hold ``folder`` for one process; the lock falls with the process, however it ends.

    Raises
    ------
    DataError
        If another process holds it; its number is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("a+", encoding="utf-8") as stream:
        if not _try_lock(stream):
            stream.seek(0)
            holder = stream.read(32).strip() or "unknown"
            raise DataError(
                f"another {doing} (process {holder}) is writing into {folder}",
                next_step="Wait until it is done, or give another folder with --output",
            )
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def remove_stale(folder: Path, older_than_s: float) -> None:
    """Delete the temporary files that a killed process left behind."""
    limit = time.time() - older_than_s
    for path in folder.rglob(".*.tmp"):
        try:
            if path.stat().st_mtime <= limit:
                path.unlink()
        except OSError:
            continue  # another process was quicker, or holds it open: not ours to worry about


if sys.platform == "win32":
    import msvcrt

    def _try_lock(stream: IO[str]) -> bool:
        stream.seek(_LOCK_BYTE)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(stream: IO[str]) -> bool:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
