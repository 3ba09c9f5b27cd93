"""Locks: one process at a time writes into a folder or a file; whoever comes second is told who holds it, or waits.

What is locked is a small file, in the folder or beside the file, by the system's own lock (through the package
filelock): it falls with the process, however that ends, so what a killed process leaves blocks nobody. In the file
stands who holds it. The file is deleted while its lock is held, and a lock counts only where its file still stands in
its place: so nobody ever holds a lock that somebody else can take.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from musicgenre._telling import tell
from musicgenre.errors import DataError

LOCK_NAME = ".lock"
"""File in a locked folder; it goes with the lock."""

_ASK_AGAIN_S = 0.1
_TELL_AFTER_S = 1.0  # who waits for less has not noticed
_LONGEST_HOLDER = 300  # characters
# Windows locks bytes, the first of the file: who holds it stands behind that.
_HOLDER_AT = 1

_held: set[int] = set()  # descriptors of this process


@contextmanager
def folder_lock(folder: Path, doing: str, *, wait_s: float = 0.0, known_as: str | None = None) -> Iterator[None]:
    """Hold `folder` for one process; the lock falls with the process, however it ends.

    Parameters
    ----------
    folder : Path
        The folder; it is made where it is not there.
    doing : str
        What wants it, for the message to the other process.
    wait_s : float, optional
        For how long to ask again while another process holds it, `math.inf` for as long as it takes. After a second
        the person is told who is waited for.
    known_as : str, optional
        What the folder stands for, for the message.

    Raises
    ------
    DataError
        If another process holds it, still after `wait_s`: its number, machine and time are named. If the file system
        has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _holding(folder / LOCK_NAME, folder, doing, wait_s, known_as):
        yield


@contextmanager
def file_lock(path: Path, doing: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the file or folder `path`, which need not exist, by a file beside it; the rest is as for `folder_lock`."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are; "." has no name of its own
    whole.parent.mkdir(parents=True, exist_ok=True)
    with _holding(whole.with_name(f".{whole.name}{LOCK_NAME}"), path, doing, wait_s):
        yield


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder for this process if no other has; closing it lets it go.

    Raises
    ------
    OSError
        If the file system has no locks.
    """
    from filelock import lock_descriptor

    if not lock_descriptor(descriptor, blocking=False):
        return False
    _held.add(descriptor)
    return True


def close_locked(descriptor: int) -> None:
    """Close what was given to `try_lock`, locked or not."""
    _held.discard(descriptor)
    os.close(descriptor)


@contextmanager
def _holding(lock: Path, what: Path, doing: str, wait_s: float, known_as: str | None = None) -> Iterator[None]:
    """Hold `what` by locking the file `lock`."""
    name = known_as or what
    started = time.monotonic()
    is_told = False
    while (descriptor := _taken(lock, what)) is None:
        waited_s = time.monotonic() - started
        if waited_s >= wait_s:
            raise DataError(
                f"another {doing} ({_holder(lock)}) is writing into {name}",
                next_step="Wait until it is done, or give another place with --output",
            )
        if waited_s >= _TELL_AFTER_S and not is_told:
            tell(f"waiting for another {doing} ({_holder(lock)}) that is writing into {name}")
            is_told = True
        time.sleep(_ASK_AGAIN_S)

    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file: there it stays, and blocks nobody
            lock.unlink()
        close_locked(descriptor)


def _taken(lock: Path, what: Path) -> int | None:
    """Open and lock the file `lock` and write into it who holds it; None where another process does."""
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            error.filename = os.fspath(what)  # the lock is our affair
            raise

        try:
            is_locked = try_lock(descriptor)
        except OSError as error:
            close_locked(descriptor)
            raise DataError(
                f"{what} cannot be locked: its file system has no working locks ({error.strerror or error})",
                valid="A disk of this machine, or a network share that is mounted with locking",
                next_step="Write to another place; MUSICGENRE_CACHE moves the cache",
            ) from error
        if not is_locked:
            close_locked(descriptor)
            return None
        if _stands_at(descriptor, lock):
            break
        close_locked(descriptor)  # the holder before deleted it after it was opened here: another stands there now

    # A full disk is found out by what is written next.
    with suppress(OSError):
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        text = f"process {os.getpid()} on {platform.node() or 'this machine'} since {since}"
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, _HOLDER_AT, os.SEEK_SET)
        os.write(descriptor, text.encode())
    return descriptor


def _stands_at(descriptor: int, lock: Path) -> bool:
    """Whether the open file is still the one in its place: the holder before may have deleted it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _holder(lock: Path) -> str:
    """Who holds a lock, as its file says."""
    try:
        with lock.open("rb", buffering=0) as stream:
            stream.seek(_HOLDER_AT)
            text = stream.read(_LONGEST_HOLDER).decode("utf-8", "replace")
    except OSError:  # it has gone by now
        text = ""
    return "".join(filter(str.isprintable, text)) or "one that has just begun or ended"


def _let_go_in_child() -> None:
    """Close what this copied process has of its parent's locks, which would else outlive the parent in it."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
