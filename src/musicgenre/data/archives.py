"""Unpack archives from elsewhere without trusting them.

Refused: names that lead out of the folder, links and devices, names that Windows or macOS would take for one another,
more files or bytes than agreed, and archives that are damaged. Nothing is left behind by a refusal: an archive is
unpacked into a temporary folder that takes its final name only when all of it is good.
"""

from __future__ import annotations

import bisect
import errno
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from musicgenre._files import SeekableView, replacing_folder
from musicgenre.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_BYTES = 64 * 10**9
MAX_FILES = 400_000

_BLOCK_BYTES = 1 << 20
_MAX_RATIO = 200  # a 30 s WAV of digital silence deflates about 1000 to 1, but not a whole data set
_RATIO_FROM_BYTES = 100 * 10**6
_SHOWN_CHARACTERS = 100

# What the readers of the standard library raise at a damaged archive.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    IndexError,  # a file of a zip archive without a name
    MemoryError,  # LZMA that wants a dictionary of gigabytes
    NotImplementedError,  # a version of zip from the future
    UnicodeDecodeError,
)

# Names that Windows takes for devices, whatever their suffix.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

Progress = Callable[[int, int], None]  # (bytes written, bytes in all)


@dataclass(frozen=True)
class _Member:
    """One file of an archive: where it goes, how large it says it is, and how to open it."""

    target: PurePosixPath
    size_bytes: int
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or tar archive that `unpack` reads."""
    try:
        return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))
    except _DAMAGED:  # compressed, and cut off: `unpack` says so
        return True


def unpack(
    archive: Path | Sequence[Path],
    folder: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    progress: Progress | None = None,
) -> Path:
    """Unpack a zip or tar archive (plain, gzip, bzip2, xz) into a new folder.

    Parameters
    ----------
    archive : Path or sequence of Path
        The archive, or the consecutive pieces of a zip archive, which are read in place, without joining them on disk.
    folder : Path
        Where to; it must not exist, or be empty.
    max_bytes, max_files : int, optional
        The most that it may unpack to.
    progress : callable, optional
        Told (bytes written, bytes in all).

    Returns
    -------
    Path
        `folder`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and not empty", next_step="Choose another folder or remove it")

    # All goes into a folder beside the one that is wanted, which takes its name at the very end.
    pieces = [archive] if isinstance(archive, Path) else list(archive)
    name = pieces[0]
    try:
        with replacing_folder(folder) as temporary, _members(pieces) as members:
            _check(name, members, max_bytes, max_files, sum(piece.stat().st_size for piece in pieces))
            _write_all(name, members, temporary, progress)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise DataError(f"{name} cannot be unpacked into {folder}: {reason}") from error

    return folder


def open_joined(paths: Sequence[Path]) -> io.BufferedReader:
    """Open consecutive pieces of a file as one, without joining them on disk.

    Parameters
    ----------
    paths : sequence of Path
        The pieces, in order.

    Returns
    -------
    io.BufferedReader
        Binary, seekable; closing it closes the pieces.
    """
    return io.BufferedReader(_Pieces(paths))


@contextmanager
def _members(pieces: Sequence[Path]) -> Iterator[list[_Member]]:
    """Open an archive and list its files; what its reader finds damaged becomes one error."""
    archive = pieces[0]
    try:
        with ExitStack() as opened:
            if len(pieces) > 1 or zipfile.is_zipfile(archive):
                joined = open_joined(pieces) if len(pieces) > 1 else archive.open("rb")
                stream = opened.enter_context(joined)
                zipped = opened.enter_context(zipfile.ZipFile(stream))
                yield [_zip_member(archive, zipped, info) for info in zipped.infolist() if not info.is_dir()]
            elif archive.is_file() and tarfile.is_tarfile(archive):
                tarred = opened.enter_context(tarfile.open(archive))
                yield [_tar_member(archive, tarred, info) for info in tarred if not info.isdir()]
            else:
                what = "is no zip or tar archive" if archive.is_file() else "does not exist"
                raise DataError(f"{archive} {what}", valid=".zip, .tar, .tar.gz, .tar.bz2 or .tar.xz")
    except _DAMAGED as error:
        names = " + ".join([str(archive), *(piece.name for piece in pieces[1:])])
        raise DataError(
            f"{names} is damaged or cut off: {error or type(error).__name__}", next_step="Get the file again"
        ) from error


def _zip_member(archive: Path, zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    """One file of a zip archive, unless it is of a kind that is refused."""
    if info.flag_bits & 0x1:
        raise _refused(archive, info.filename, "is encrypted")
    if info.compress_type not in _ZIP_METHODS:
        raise _refused(archive, info.filename, f"is packed by method {info.compress_type}, which is not known here")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _refused(archive, info.filename, "is a link or a device")

    # The name as it stands in the archive: `filename` has its separators changed already.
    target = _safe(archive, info.orig_filename)
    return _Member(target, info.file_size, lambda: zipped.open(info))


def _tar_member(archive: Path, tarred: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    """One file of a tar archive, unless it is of a kind that is refused."""
    if not info.isreg():
        raise _refused(archive, info.name, "is a link or a device")

    def opened() -> IO[bytes]:
        stream = tarred.extractfile(info)
        if stream is None:
            raise _refused(archive, info.name, "is no file")
        return stream

    return _Member(_safe(archive, info.name), info.size, opened)


def _safe(archive: Path, name: str) -> PurePosixPath:
    """Check a member's name on behalf of every operating system."""
    path = PurePosixPath(name)
    bad = (
        "\\" in name
        or ":" in name
        or not name.isprintable()
        or path.is_absolute()
        or ".." in path.parts
        or not path.parts
        or any(part.split(".")[0].lower() in _RESERVED or part != part.rstrip(" .") for part in path.parts)
    )
    if bad:
        raise _refused(archive, name, "is a path that leads elsewhere or means something else on another system")
    return path


def _check(archive: Path, members: list[_Member], max_bytes: int, max_files: int, packed_bytes: int) -> None:
    """Refuse an archive that holds too much, or names that one file system would take for one another."""
    if len(members) > max_files:
        raise DataError(f"{archive} holds {len(members)} files", valid=f"At most {max_files}")

    total = sum(member.size_bytes for member in members)
    if total > max_bytes:
        raise DataError(f"{archive} unpacks to {total / 1e9:.1f} GB", valid=f"At most {max_bytes / 1e9:.1f} GB")

    packed = max(1, packed_bytes)
    if total > _RATIO_FROM_BYTES and total / packed > _MAX_RATIO:
        raise DataError(
            f"{archive} unpacks to {total / packed:.0f} times its size",
            valid=f"At most {_MAX_RATIO} times",
        )

    seen: set[str] = set()
    folders = {str(parent).lower() for member in members for parent in member.target.parents}
    for member in members:
        name = str(member.target).lower()
        if name in seen or name in folders:
            raise _refused(archive, str(member.target), "stands in it twice (or differs by capitals only)")
        seen.add(name)


def _write_all(archive: Path, members: list[_Member], folder: Path, progress: Progress | None) -> None:
    """Write every file, none larger or smaller than it says."""
    total = sum(member.size_bytes for member in members)
    written = 0
    for member in members:
        target = folder / member.target
        target.parent.mkdir(parents=True, exist_ok=True)

        size = 0
        with member.open() as source, target.open("xb") as sink:
            while block := source.read(_BLOCK_BYTES):
                size += len(block)
                if size > member.size_bytes:
                    raise _refused(archive, str(member.target), "is larger than it says")
                sink.write(block)
                if progress:
                    progress(written + size, total)

        if size != member.size_bytes:
            raise _refused(archive, str(member.target), "is shorter than it says: the archive is cut off")
        written += size


def _refused(archive: Path, name: str, why: str) -> DataError:
    """The error for one file of an archive that must not be unpacked."""
    shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[: _SHOWN_CHARACTERS - 3]}..."
    return DataError(
        f"{os.fspath(archive)} was not unpacked: {shown!r} in it {why}", next_step="Get the file from its origin again"
    )


class _Pieces(SeekableView):
    """A read-only, seekable stream over files that follow one another."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._streams = [path.open("rb") for path in paths]
        sizes = [os.fstat(stream.fileno()).st_size for stream in self._streams]
        self._starts = [0, *accumulate(sizes)]
        super().__init__(self._starts[-1])

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer from the piece that holds this place; fewer bytes than asked for at the end of a piece."""
        number = bisect.bisect_right(self._starts, self._place) - 1
        if number >= len(self._streams):
            return 0

        stream = self._streams[number]
        stream.seek(self._place - self._starts[number])
        data = stream.read(min(memoryview(buffer).nbytes, self._starts[number + 1] - self._place))
        memoryview(buffer).cast("B")[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        super().close()
