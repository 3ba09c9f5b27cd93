"""Plumbing for files: atomic writes, checksums and the folders we keep things in."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from musicgenre.errors import DataError, MusicgenreError, UsageError

_READ_BYTES = 1 << 20  # at a time, while hashing
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Numbers of the errors of a full disk."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` only if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)

    try:
        with naming(path):
            yield temporary
        if os.name == "posix":  # mkstemp makes it private: give it the mode that a plain `open` would have given
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    """Delete the temporary files of a killed process: what `replacing` made for names of these patterns."""
    limit = time.time() - older_than_s
    for pattern in patterns:
        for path in folder.glob(pattern):
            try:
                if path.stat().st_mtime <= limit:
                    path.unlink()
            except OSError:
                continue  # another process was quicker, or holds it open: not ours to worry about


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either the old or the new content, never a part."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())  # a crash after the renaming would otherwise leave an empty file


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 `text` with plain newlines, atomically."""
    write_bytes_atomic(path, text.encode("utf-8"))


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
    except OSError as error:
        raise kind(
            f"{path} cannot be written ({error.strerror or error})", next_step=room_advice(error) or otherwise
        ) from error


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


def _digest(path: Path, algorithm: str) -> str:
    """Hash a file a piece at a time, however large it is."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
