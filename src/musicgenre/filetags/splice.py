"""What changes in the bytes of a file, how that is taken back, and the one writer that replaces a music file."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import stat
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where a file that is open cannot be replaced anyway
    fcntl = None  # type: ignore[assignment]

from musicgenre._files import FULL, SeekableView
from musicgenre._text import printable
from musicgenre.errors import LibraryError

_COPIED_BYTES = 1 << 20  # at a time
_F_SETSIG = 10  # of Linux, which Python has no name for
_HEADER = struct.Struct("<QII")  # of a stored edit: offset, bytes before, bytes after
_ADVICE = {
    errno.EACCES: "Check the permissions of the file and its folder",
    errno.EPERM: "Check who owns the file, and whether it is locked against changes",
    errno.EROFS: "The disk is mounted read-only: mount it writable",
    errno.EBUSY: "Close the program that uses it and try again",
    errno.ETXTBSY: "Close the program that uses it and try again",
    errno.EXDEV: "The network share refuses renaming: copy the file to a local disk first",
    errno.ENOENT: "Was it moved? Make the plan again",
    errno.ENAMETOOLONG: "Give it a shorter name",
    errno.ELOOP: "The link leads back to itself: mend it",
}
TEMPORARY_PREFIX = ".musicgenre-"
"""What the name of a half-written file begins with; short, so that it fits beside a name of 255 bytes."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One replaced stretch of a file.

    Attributes
    ----------
    offset : int
        Where it begins in the file before, in bytes.
    old : bytes
        What stands there; empty: something is inserted.
    new : bytes
        What stands there afterwards; empty: something is removed.
    """

    offset: int
    old: bytes
    new: bytes


@dataclass(frozen=True, slots=True)
class Splice:
    """All that changes in a file: edits in order that do not overlap. Without any, nothing changes.

    Raises
    ------
    ValueError
        Edits that are out of order, or overlap.
    """

    edits: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        end = 0
        for edit in self.edits:
            if edit.offset < end:
                raise ValueError(f"an edit at byte {edit.offset} overlaps one that ends at byte {end}")
            end = edit.offset + len(edit.old)

    @classmethod
    def of(cls, edits: Iterable[Edit]) -> Splice:
        """Put edits in order and leave out those that change nothing."""
        real = (edit for edit in edits if edit.old != edit.new)
        return cls(tuple(sorted(real, key=lambda edit: (edit.offset, len(edit.old)))))

    def inverse(self) -> Splice:
        """The splice that turns the new file back into the old one, byte for byte."""
        shift, back = 0, []
        for edit in self.edits:
            back.append(Edit(edit.offset + shift, edit.new, edit.old))
            shift += len(edit.new) - len(edit.old)
        return Splice(tuple(back))

    def to_bytes(self) -> bytes:
        """How the journal keeps it: what did not change, a picture say, is not in it."""
        pieces = []
        for edit in self.edits:
            pieces += [_HEADER.pack(edit.offset, len(edit.old), len(edit.new)), edit.old, edit.new]
        return b"".join(pieces)

    @classmethod
    def from_bytes(cls, stored: bytes) -> Splice:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            The bytes are cut off.
        """
        edits, place = [], 0
        while place < len(stored):
            if place + _HEADER.size > len(stored):
                raise ValueError("a stored splice is cut off")
            offset, n_old, n_new = _HEADER.unpack_from(stored, place)
            place += _HEADER.size
            if place + n_old + n_new > len(stored):
                raise ValueError("a stored splice is cut off")
            edits.append(Edit(offset, stored[place : place + n_old], stored[place + n_old : place + n_old + n_new]))
            place += n_old + n_new
        return cls(tuple(edits))


class SplicedView(SeekableView):
    """A file as it will be with a splice, readable without being written.

    Parameters
    ----------
    stream : binary file
        The file as it is.
    splice : Splice
        What changes.

    Raises
    ------
    LibraryError
        What stands at an edit is not what the splice expects: the file changed since it was made.
    """

    def __init__(self, stream: BinaryIO, splice: Splice) -> None:
        super().__init__(0)  # grows with the pieces
        self._stream = stream
        self._starts: list[int] = []  # of the pieces, in the new file
        self._pieces: list[tuple[int, bytes | None, int]] = []  # where in the old file, or which bytes; length

        stream.seek(0, os.SEEK_END)
        size = stream.tell()
        place = 0
        for edit in splice.edits:
            stream.seek(edit.offset)
            if stream.read(len(edit.old)) != edit.old or edit.offset > size:
                raise LibraryError(
                    f"the bytes at {edit.offset} are not those that were to be replaced",
                    next_step="The file was changed meanwhile: make the plan again",
                )
            self._add(place, None, edit.offset - place)
            self._add(0, edit.new, len(edit.new))
            place = edit.offset + len(edit.old)
        self._add(place, None, size - place)

    def _add(self, offset: int, content: bytes | None, length: int) -> None:
        if length:
            self._starts.append(self._size)
            self._pieces.append((offset, content, length))
            self._size += length

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer`, as far as there is something to read; tell how many bytes."""
        view = memoryview(buffer)
        filled = 0
        while filled < len(view) and self._place < self._size:
            number = bisect_right(self._starts, self._place) - 1
            offset, content, length = self._pieces[number]
            inside = self._place - self._starts[number]
            n = min(length - inside, len(view) - filled)
            if content is None:
                self._stream.seek(offset + inside)
                piece = self._stream.read(n)
                if len(piece) < n:
                    raise OSError(errno.EIO, "the file became shorter while it was read")
            else:
                piece = content[inside : inside + n]
            view[filled : filled + n] = piece
            filled += n
            self._place += n
        return filled


def temporary_beside(path: Path) -> Path:
    """Choose a name for a new file in the folder of `path`; nothing is made yet."""
    return Path(os.path.realpath(path)).parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp"


def is_open_for_writing(path: Path) -> bool:
    """Tell whether some program has a file open to write to it, where the system tells (Linux, whose owner asks).

    A new file in its place would be none of what that program writes from then on.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    with path.open("rb") as stream:
        try:
            # A lease for reading is granted only where nobody writes. Should somebody begin just then, the system
            # tells us by a signal: by one that ends no process.
            fcntl.fcntl(stream, _F_SETSIG, signal.SIGURG)
            fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return True
        except OSError:  # no leases here
            return False
        fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def check_replaceable(path: Path, *, break_links: bool = False) -> os.stat_result:
    """Look whether `replace_spliced` would take a file; tell its state.

    Raises
    ------
    LibraryError
        It is no regular file, read-only, being written by another program, or has several names (hard links) and
        `break_links` is not given.
    """
    with _telling(path):
        found = os.stat(os.path.realpath(path))  # noqa: PTH116  Path.stat would follow the link once more
    if not stat.S_ISREG(found.st_mode):
        raise LibraryError(f"{printable(path)} is not a regular file", valid="A music file")
    if not found.st_mode & 0o222:
        raise LibraryError(
            f"{printable(path)} is read-only", next_step="Make it writable (chmod u+w) if it is to be changed"
        )
    if found.st_nlink > 1 and not break_links:
        raise LibraryError(
            f"{printable(path)} has {found.st_nlink} names (hard links): the others would keep the old tags",
            next_step="Add --break-links to give this name a file of its own",
        )
    with _telling(path):
        is_written = is_open_for_writing(path)
    if is_written:
        raise LibraryError(
            f"{printable(path)} is open in another program that writes to it",
            next_step="Close the program that uses it and try again",
        )
    return found


def replace_spliced(
    path: Path,
    splice: Splice,
    temporary: Path,
    *,
    verify: Callable[[Path], None],
    keep_times: bool = True,
    break_links: bool = False,
) -> None:
    """Replace a music file by the same file with a splice: whoever looks sees the old one or the new one, whole.

    The new file is written beside the old one, flushed, read back and checked, given the old one's mode, owner, times
    and extended attributes, and renamed over it. Of a symbolic link the target is replaced, the link stays.

    Parameters
    ----------
    path : Path
        The file.
    splice : Splice
        What changes in it.
    temporary : Path
        Where the new file is written; from `temporary_beside`, noted down by whoever must clear up after a kill.
    verify : callable
        Looks at the new file before it takes the old one's place; what it raises leaves the old one there.
    keep_times : bool
        Whether the new file has the old one's times of access and change.
    break_links : bool
        Whether a file of several names may be replaced under this one alone.

    Raises
    ------
    LibraryError
        The file cannot be replaced, changed meanwhile, or the system refused. It is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        before = check_replaceable(path, break_links=break_links)
        with _telling(path), target.open("rb") as old, temporary.open("xb") as new:
            shutil.copyfileobj(SplicedView(old, splice), new, _COPIED_BYTES)
            new.flush()
            os.fsync(new.fileno())
        with _telling(path):
            _take_over(target, temporary, before, keep_times)
        verify(temporary)

        with _telling(path):
            now = target.stat()
            if _state(now) != _state(before):
                raise LibraryError(
                    f"{printable(path)} was changed while it was copied", next_step="Make the plan again for this file"
                )
            temporary.replace(target)
            flush_folder(target.parent)
    finally:
        with suppress(OSError):  # it is not there, or the disk takes no changes at all
            temporary.unlink()


def flush_folder(folder: Path) -> None:
    """Make a renaming in a folder last, where the system lets one do so."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network shares that cannot
            raise
    finally:
        os.close(handle)


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    """What tells that a file was changed or exchanged."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _take_over(target: Path, temporary: Path, before: os.stat_result, keep_times: bool) -> None:
    """Give the new file the owner, mode, extended attributes and times of the old one."""
    if os.name == "posix":
        made = temporary.stat()
        if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
            os.chown(temporary, before.st_uid, before.st_gid)  # first: it takes away set-user bits
    made_at = temporary.stat()
    shutil.copystat(target, temporary)
    if not keep_times:
        os.utime(temporary, ns=(made_at.st_atime_ns, made_at.st_mtime_ns))


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn what the system says into one line that names the file; nothing was changed then."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Look at the disk and try again")
        if error.errno in FULL:
            advice = "The disk is full: free as much as the file's own size and try again"
        raise LibraryError(
            f"{printable(path)} was not changed ({error.strerror or error})", next_step=advice
        ) from error
