"""From a path or file object to an input that is safe to decode."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from musicgenre._text import did_you_mean_path, printable
from musicgenre.audio.sound import Source
from musicgenre.errors import AudioError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEAD_BYTES = 4096
ID3_HEADER_BYTES = 10
_ID3_FOOTER = 0x10
_HOUR_S = 3_600.0
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Input:
    """One file on disk or one seekable file object, checked and with its first bytes read.

    Attributes
    ----------
    name : str
        Printable name.
    path : str or None
        The file's path; None for a file object.
    stream : BinaryIO or None
        The file object; None for a path.
    size : int
        Length in bytes.
    start : int
        Bytes of ID3 tags in front of the sound, whatever its format.
    head : bytes
        The first `HEAD_BYTES` behind them.
    alive : callable
        Called between the steps of a long task, so that who waits knows that it goes on.
    max_duration_s : float
        Seconds of sound that may be in it.

    Raises
    ------
    AudioError
        When it is missing, no regular file, unreadable, empty, or no seekable file object in binary mode.
    """

    def __init__(self, source: Source) -> None:
        self.path: str | None = None
        self.stream: BinaryIO | None = None
        if isinstance(source, (str, os.PathLike)):
            self._take_path(os.fspath(source))
        else:
            self._take_stream(source)

        self.alive: Callable[[], None] = _nobody_waits
        self.max_duration_s = inf
        self.start = 0
        self.head = self.read_at(0, HEAD_BYTES)
        while (n_bytes := id3_bytes(self.head)) and self.start + n_bytes < self.size:
            self.start += n_bytes
            self.head = self.read_at(self.start, HEAD_BYTES)
        if self.size == 0:
            raise AudioError(f"{self.name} is empty (0 bytes)", next_step="Copy or download it again, or leave it out")

    def _take_path(self, path: str) -> None:
        """Refuse what is no regular file, before anything could block on it."""
        self.path = path
        self.name = printable(path)
        if not path:  # would be taken for the current folder
            raise AudioError("the name of the track is empty", next_step="Check the name")
        try:
            status = Path(path).stat()
        except ValueError as error:  # a NUL in the name
            raise AudioError(f"{self.name} is not a possible file name", next_step="Check the name") from error
        except OSError as error:
            raise _unreadable(self.name, error) from error

        if stat.S_ISDIR(status.st_mode):
            if not os.access(path, os.R_OK | os.X_OK):
                raise _unreadable(self.name, PermissionError(errno.EACCES, "folder"))
            raise AudioError(
                f"{self.name} is a folder",
                valid="A sound file",
                next_step="Name a file in it, or list it with find_audio_files",
            )
        for is_kind, kind in _KINDS:
            if is_kind(status.st_mode):
                raise AudioError(
                    f"{self.name} is {kind}", valid="A regular file", next_step="Save the sound to a file first"
                )

        self._state = _state_of(status)
        self.size = status.st_size

    def _take_stream(self, source: BinaryIO) -> None:
        """Check a file object and remember where its owner left it."""
        name = getattr(source, "name", None)
        self.name = printable(name) if isinstance(name, str) and name else "<file object>"
        if not hasattr(source, "read") or isinstance(source, io.TextIOBase):
            raise AudioError(
                f"a {type(source).__name__} is not a source of sound",
                valid="A path or a file object opened in binary mode",
                next_step="For samples in memory call from_array",
            )

        try:
            self._start = source.tell()
            source.seek(0, os.SEEK_END)
            self.size = source.tell()
        except (OSError, AttributeError, ValueError) as error:  # ValueError: it is closed
            if getattr(source, "closed", False):
                raise AudioError(f"{self.name} is closed", next_step="Open it again") from error
            raise AudioError(
                f"{self.name} cannot seek",
                valid="A path or a seekable file object",
                next_step="Wrap it: io.BytesIO(source.read())",
            ) from error
        self.stream = source

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Read some bytes without disturbing a decoder that reads the same source."""
        try:
            if self.stream is None:
                with Path(self.path or "").open("rb") as handle:
                    handle.seek(offset)
                    return handle.read(n_bytes)

            before = self.stream.tell()
            self.stream.seek(offset)
            parts: list[bytes] = []
            # Unbuffered file objects may give less than they are asked for, so read on.
            while n_bytes > 0 and (part := self.stream.read(n_bytes)):
                if not isinstance(part, bytes):
                    raise AudioError(
                        f"{self.name} gives {type(part).__name__}, not bytes",
                        next_step="Open it in binary mode: open(path, 'rb')",
                    )
                parts.append(part)
                n_bytes -= len(part)
            self.stream.seek(before)
            return b"".join(parts)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def view(self, head: bytes = b"", n_bytes: int | None = None) -> BinaryIO:
        """Open it as a file object that begins behind its tags.

        Parameters
        ----------
        head : bytes
            What its first bytes are to be.
        n_bytes : int, optional
            Where it is to end; by default where the file does.
        """
        n_bytes = self.size - self.start if n_bytes is None else n_bytes
        own = None if self.path is None else Path(self.path).open("rb")  # noqa: SIM115 - closed with the view
        return cast(
            "BinaryIO", _View(own or cast("BinaryIO", self.stream), own is not None, self.start, n_bytes, head)
        )

    def check_duration(self, found_s: float, *, is_all: bool = False) -> None:
        """Refuse a sound of more seconds than it may have.

        Parameters
        ----------
        found_s : float
            Seconds that were found in it so far.
        is_all : bool
            Whether that is all of it.

        Raises
        ------
        AudioError
            When they are too many.
        """
        limit_s = self.max_duration_s
        if found_s <= limit_s:
            return
        length = _duration_text(found_s) if is_all else f"more than {_duration_text(limit_s)}"
        raise AudioError(
            f"{self.name} is {length} long",
            valid=f"Up to {limit_s:.15g} s",
            next_step="Allow more with --max-duration-s (max_duration_s in Python), or cut it",
        )

    def changed(self) -> bool:
        """Tell whether the file is another one now than it was at the start."""
        if self.path is None:
            return False
        try:
            return _state_of(Path(self.path).stat()) != self._state
        except OSError:
            return True

    def restore(self) -> None:
        """Put a file object back to where its owner left it."""
        if self.stream is not None and not getattr(self.stream, "closed", False):
            self.stream.seek(self._start)


class _View(io.RawIOBase):
    """A file without the tags in front of it; jumps that a damaged header asks for fail without a traceback."""

    def __init__(self, file: BinaryIO, is_own: bool, start: int, n_bytes: int, head: bytes) -> None:
        self._file, self._is_own = file, is_own
        self._start, self._size = start, n_bytes
        self._head = head
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}.get(whence)
        if base is None or base + offset < 0:
            return -1
        self._at = base + offset
        return self._at

    def read(self, n_bytes: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        n_bytes = left if n_bytes < 0 else min(n_bytes, left)
        if self._at < len(self._head):
            data = self._head[self._at : self._at + n_bytes]
        else:
            self._file.seek(self._start + self._at)
            data = self._file.read(n_bytes)
        self._at += len(data)
        return data

    def readinto(self, buffer: Buffer) -> int:
        target = memoryview(buffer).cast("B")
        n_done = 0
        while n_done < len(target) and (data := self.read(len(target) - n_done)):
            target[n_done : n_done + len(data)] = data
            n_done += len(data)
        return n_done

    def close(self) -> None:
        if self._is_own:
            self._file.close()
        super().close()


def id3_bytes(head: bytes) -> int:
    """Length of the ID3v2 tag that begins here; 0 where none does."""
    if not head.startswith(b"ID3") or len(head) < ID3_HEADER_BYTES:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    footer = ID3_HEADER_BYTES if head[5] & _ID3_FOOTER else 0
    return size + ID3_HEADER_BYTES + footer


def _nobody_waits() -> None:
    """Stand in for a sign of life where nobody waits for one."""


def _duration_text(seconds: float) -> str:
    """Write a length for a person: hours where there are some."""
    return f"{seconds / _HOUR_S:.2f} hours" if seconds >= _HOUR_S else f"{seconds:.2f} s"


def _state_of(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written to or replaced."""
    return (status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


def _unreadable(name: str, error: OSError) -> AudioError:
    """Put what the operating system says into words."""
    if isinstance(error, FileNotFoundError):
        return AudioError(
            f"{name} does not exist", next_step=f"{did_you_mean_path(name)}Check the name and the folder"
        )
    if isinstance(error, PermissionError):
        return AudioError(
            f"no permission to read {name}", next_step="Give yourself read permission, or run as its owner"
        )
    if error.errno == errno.ELOOP:
        return AudioError(f"{name} is a symbolic link that leads back to itself", next_step="Remove or mend the link")
    reason = error.strerror or str(error)
    return AudioError(f"{name} cannot be read: {reason}", next_step="Check the name and the disk")
