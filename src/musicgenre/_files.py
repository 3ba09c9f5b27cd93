"""Plumbing for files: atomic writes, checksums and the folders we keep things in.

What is written lies beside its place first, under a temporary name. A process holds a lock on that until it has its
final one, so a temporary file without one is what a killed process left, and the next that writes there deletes it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from musicgenre._locks import close_locked, try_lock
from musicgenre.errors import DataError, MusicgenreError, UsageError

_READ_BYTES = 1 << 20  # at a time, while hashing
_MARK = "mg-"  # in the name of what is temporary and held: earlier versions wrote without both
_STALE_S = 24 * 3600.0  # where it cannot be told who holds a file: none is under way for a day
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Numbers of the errors of a full disk."""


@contextmanager
def replacing(path: Path, *, overwrite: bool = True, tidy: bool = True, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` only if the block ends well.

    Without `overwrite` a file that came there meanwhile stays, and FileExistsError says so. What a killed process left
    of `path` is deleted, except without `tidy`, for folders of so many files that they are tidied by `remove_stale`
    once. Without `durable` nobody waits for the disk: for what has a checksum and can be made anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if tidy:
        _remove_stale_of(path)
    with naming(path):
        temporary, descriptor = _temporary_file(path)

    try:
        with naming(path):
            yield temporary
            if durable:
                with temporary.open("rb+") as stream:  # a crash after the renaming would else leave an empty file
                    os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private: give it the mode that a plain `open` gives
        if os.name == "nt":  # which renames no open file
            os.close(descriptor)
            descriptor = -1
        if overwrite:
            temporary.replace(path)
        else:
            _rename_to_free(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        if descriptor >= 0:
            close_locked(descriptor)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, which must be new or empty; it takes its place if the block ends well.

    What a killed process left of it is deleted.
    """
    with temporary_folder(folder) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if os.name == "nt" and folder.is_dir():  # elsewhere an empty folder is replaced, and nobody comes in between
            folder.rmdir()
        temporary.rename(folder)


@contextmanager
def temporary_folder(place: Path) -> Iterator[Path]:
    """Yield a new folder beside `place`, which none but its owner may enter; it goes with the block.

    What killed processes left of the same place is deleted, what living ones hold is not.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale_of(place)
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.{_MARK}", suffix=".tmp", dir=place.parent))
    descriptor = None
    if os.name == "posix":
        descriptor = os.open(temporary, os.O_RDONLY)
        with suppress(OSError):  # no locks here: then it is told by its age
            try_lock(descriptor)

    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if descriptor is not None:
            close_locked(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors name the result: the system names a temporary file, or none at all where a disk takes no more."""
    try:
        yield
    except OSError as error:
        parts = Path(str(error.filename)).parts
        is_temporary = any(part.startswith(f".{path.name}.") for part in parts)
        if is_temporary or (error.filename is None and room_advice(error)):
            error.filename = os.fspath(path)
        raise


def room_advice(error: OSError) -> str:
    """Say what to do where a disk takes no more; empty for any other error."""
    if error.errno in FULL:
        return "Free some space"
    if error.errno == errno.EFBIG:
        return "Lift the limit on the size of files (ulimit -f) or take another disk"
    return ""


def remove_stale(folder: Path, patterns: Sequence[str], *, older_than_s: float = 0.0) -> None:
    """Delete the temporary files of killed processes: what `replacing` made for names of these patterns.

    Files that a living process holds stay. Those of earlier versions, which held none, go when they are older than
    `older_than_s`.
    """
    for pattern in patterns:
        for path in folder.glob(pattern):
            if _MARK in path.name:
                _remove_if_stale(path)
                continue
            with suppress(OSError):  # another process was quicker, or holds it open: not ours to worry about
                if time.time() - path.stat().st_mtime >= older_than_s:
                    path.unlink()


def write_bytes_atomic(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write `data` so that `path` holds either the old or the new content, never a part; as `replacing` does it."""
    with replacing(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        stream.write(data)


def write_text_atomic(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write UTF-8 `text` with plain newlines, atomically."""
    write_bytes_atomic(path, text.encode("utf-8"), overwrite=overwrite)


def place_advice(error: OSError) -> str:
    """Say what to do where nothing can be written, for want of room or of permission; empty for any other error."""
    if error.errno in _REFUSED:
        return "Check the permissions there or choose another place (MUSICGENRE_CACHE for the cache)"
    return room_advice(error)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors of a long job that fills `folder` into `DataError`.

    Raises
    ------
    DataError
        If the folder takes no more, or the block fails in another way that the system names.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(
                f"the disk is full while writing into {error.filename or folder}",
                valid="Nothing half-written was left in place",
                next_step="Free some space and run the same command again: what is finished is kept",
            ) from error
        raise DataError(
            f"cannot write into {folder} ({error})", next_step=place_advice(error) or "Write into another folder"
        ) from error


@contextmanager
def writing_result(
    path: Path, otherwise: str = "Choose another --output", *, kind: type[MusicgenreError] = UsageError
) -> Iterator[None]:
    """Turn the operating system's errors of a block that writes the one result `path` into one of ours.

    Parameters
    ----------
    path : Path
        The file or folder that a person asked for.
    otherwise : str, optional
        The next step where the disk is not what is wrong, without the full stop.
    kind : type of MusicgenreError, optional
        What to raise.

    Raises
    ------
    MusicgenreError
        `kind`, if the system refuses.
    """
    try:
        yield
    except FileExistsError as error:
        raise came_meanwhile(path, otherwise, kind=kind) from error
    except OSError as error:
        raise kind(
            f"{path} cannot be written ({error.strerror or error})", next_step=room_advice(error) or otherwise
        ) from error


def is_file(path: Path) -> bool:
    """Tell whether there is such a file; a name that no file can have, too long for one, names none."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises there


def came_meanwhile(
    path: Path, otherwise: str = "Choose another --output", *, kind: type[MusicgenreError] = UsageError
) -> MusicgenreError:
    """What to raise where a new file is to be written and somebody else was quicker; parameters as above."""
    return kind(
        f"{path} cannot be written: it came there while this command was at work, and was left as it is",
        valid="A file is never overwritten unasked",
        next_step=otherwise,
    )


class SeekableView(io.RawIOBase):
    """What streams share that are put together of pieces: they are read only, and anywhere.

    Parameters
    ----------
    size : int
        Length of the whole, in bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._place = 0  # that is read next

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def tell(self) -> int:
        """The place that is read next, in bytes."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, in bytes."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as a file does it
        self._place = base + offset
        return self._place


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    return _digest(path, "sha256")


def md5_of(path: Path) -> str:
    """Hex MD5 of a file's content (data set indices list these)."""
    return _digest(path, "md5")


def cache_folder() -> Path:
    """Folder for bundles and downloads; `MUSICGENRE_CACHE` overrides the platform's own."""
    override = os.environ.get("MUSICGENRE_CACHE")
    if override:
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_cache_dir("musicgenre", appauthor=False))


def data_folder() -> Path:
    """Folder for what cannot be made again, the journal of changed tags; `MUSICGENRE_DATA` overrides the usual."""
    override = os.environ.get("MUSICGENRE_DATA")
    if override:
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_data_dir("musicgenre", appauthor=False))


def config_folder() -> Path:
    """Folder for the config file and taught heads; `MUSICGENRE_CONFIG` overrides the platform's own."""
    override = os.environ.get("MUSICGENRE_CONFIG")
    if override:
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_config_dir("musicgenre", appauthor=False))


def _rename_to_free(temporary: Path, path: Path) -> None:
    """Rename a file to a name that must be free, at one stroke: of two processes one wins, the other is told."""
    if os.name == "nt":
        temporary.rename(path)  # which replaces nothing there
        return
    try:
        path.hardlink_to(temporary)  # neither does this; the temporary name goes afterwards
    except FileExistsError:
        raise
    except OSError:  # a file system without links: there the name is taken by making a file of it
        path.open("xb").close()
        temporary.replace(path)


def _temporary_file(path: Path) -> tuple[Path, int]:
    """Make the temporary file of `path` and hold it."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.{_MARK}", suffix=".tmp", dir=path.parent)
        if os.name == "nt":  # whose locks keep even ourselves from writing; what is open is not deleted there
            return Path(name), descriptor

        with suppress(OSError):  # no locks here: then it is told by its age
            if not try_lock(descriptor) or not os.fstat(descriptor).st_nlink:
                close_locked(descriptor)  # it was taken for stale before it was locked
                continue
        return Path(name), descriptor


def _remove_stale_of(path: Path) -> None:
    """Delete what killed processes left of one file or folder."""
    ours = re.compile(re.escape(f".{path.name}.{_MARK}") + r"[a-z0-9_]+\.tmp")
    with os.scandir(path.parent) as entries:
        stale = [entry.path for entry in entries if ours.fullmatch(entry.name)]
    for name in stale:
        _remove_if_stale(Path(name))


def _remove_if_stale(path: Path) -> None:
    """Delete a temporary file or folder unless a living process holds it."""
    with suppress(OSError):  # another process was quicker
        if os.name == "nt":
            if time.time() - path.stat().st_mtime >= _STALE_S:
                _remove(path)
            return

        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _is_free(descriptor):
                _remove(path)  # while it is held, so that its owner, if it is a moment old, sees that it went
        finally:
            close_locked(descriptor)


def _is_free(descriptor: int) -> bool:
    """Hold what no living process holds; whatever is older than a day, where the file system has no locks."""
    try:
        return try_lock(descriptor)
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime >= _STALE_S


def _remove(path: Path) -> None:
    """Delete a file, or a folder with all in it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _umask() -> int:
    """What is taken from the modes of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _digest(path: Path, algorithm: str) -> str:
    """Hash a file a piece at a time, however large it is."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
