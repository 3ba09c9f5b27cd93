"""Plumbing for folders that long jobs write: one writer at a time, and a full disk as an error one can read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from musicgenre._files import FULL, naming, place_advice
from musicgenre.errors import DataError

LOCK_NAME = ".lock"
"""File in a locked folder; it stays there."""
_LOCK_BYTE = 1 << 20  # far behind the process number, which others read while the byte is locked
_ASK_AGAIN_S = 0.25


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors of the block into `DataError`; a full disk gets its own words."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(
                f"the disk is full while writing into {error.filename or folder}",
                valid="Nothing half-written was left in place",
                next_step="Free some space and run the same command again: what is finished is kept",
            ) from error
        raise DataError(f"cannot write into {folder} ({error})", next_step=_advice(error)) from error


def _advice(error: OSError) -> str:
    """Say what can be done about an error of the system."""
    return place_advice(error) or "Write into another folder"


@contextmanager
def folder_lock(folder: Path, doing: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold ``folder`` for one process; the lock falls with the process, however it ends.

    Raises
    ------
    DataError
        If another process holds it, still after ``wait_s``; its number is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _held_lock(folder / LOCK_NAME, folder, doing, wait_s):
        yield


@contextmanager
def file_lock(path: Path, doing: str) -> Iterator[None]:
    """Hold the file ``path``, which need not exist, for one process: by a file beside it that goes when all is done.

    Raises
    ------
    DataError
        If another process holds it; its number is named.
    """
    lock = path.with_name(f".{path.name}{LOCK_NAME}")
    with _held_lock(lock, path, doing):
        yield
    with suppress(OSError):  # somebody else holds it by now
        lock.unlink()


@contextmanager
def _held_lock(lock: Path, what: Path, doing: str, wait_s: float = 0.0) -> Iterator[None]:
    with lock.open("a+", encoding="utf-8") as stream:
        give_up = time.monotonic() + wait_s
        while not _try_lock(stream):
            if time.monotonic() >= give_up:
                raise _held(stream, what, doing)
            time.sleep(_ASK_AGAIN_S)
        with naming(lock):
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        yield


def _held(stream: IO[str], what: Path, doing: str) -> DataError:
    stream.seek(0)
    holder = stream.read(32).strip() or "unknown"
    return DataError(
        f"another {doing} (process {holder}) is writing into {what}",
        next_step="Wait until it is done, or give another place with --output",
    )


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
