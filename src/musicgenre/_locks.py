"""Locks: one process at a time writes into a folder or a file, and whoever comes second is told who holds it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from musicgenre._files import naming
from musicgenre.errors import DataError

LOCK_NAME = ".lock"
"""File in a locked folder; it stays there."""
_LOCK_BYTE = 1 << 20  # far behind the process number, which others read while the byte is locked
_ASK_AGAIN_S = 0.25


@contextmanager
def folder_lock(folder: Path, doing: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold `folder` for one process; the lock falls with the process, however it ends.

    Parameters
    ----------
    folder : Path
        The folder; it is made where it is not there.
    doing : str
        What wants it, for the message to the other process.
    wait_s : float, optional
        For how long to ask again while another process holds it.

    Raises
    ------
    DataError
        If another process holds it, still after `wait_s`; its number is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _hold(folder / LOCK_NAME, folder, doing, wait_s):
        yield


@contextmanager
def file_lock(path: Path, doing: str) -> Iterator[None]:
    """Hold the file `path`, which need not exist, for one process: by a file beside it that goes when all is done.

    Raises
    ------
    DataError
        If another process holds it; its number is named.
    """
    lock = path.with_name(f".{path.name}{LOCK_NAME}")
    with _hold(lock, path, doing):
        yield

    with suppress(OSError):  # somebody else holds it by now
        lock.unlink()


@contextmanager
def _hold(lock: Path, what: Path, doing: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold `what` by locking the file `lock`, in which the number of this process stands."""
    with lock.open("a+", encoding="utf-8") as stream:
        give_up = time.monotonic() + wait_s
        while not _try_lock(stream):
            if time.monotonic() >= give_up:
                stream.seek(0)
                holder = stream.read(32).strip() or "unknown"
                raise DataError(
                    f"another {doing} (process {holder}) is writing into {what}",
                    next_step="Wait until it is done, or give another place with --output",
                )
            time.sleep(_ASK_AGAIN_S)

        with naming(lock):
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        yield


# The system's own locks, because those end with the process: nobody has to clear up after a kill.
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
