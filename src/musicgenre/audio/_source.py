"""From a path or file object to an input that is safe to decode."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from musicgenre._text import did_you_mean_path
from musicgenre.audio.names import printable
from musicgenre.audio.sound import Source
from musicgenre.errors import AudioError

HEAD_BYTES = 4096
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
    head : bytes
        The first bytes.
    """

    def __init__(self, source: Source) -> None:
        self.path: str | None = None
        self.stream: BinaryIO | None = None
        if isinstance(source, (str, os.PathLike)):
            self.path = os.fspath(source)
            self.name = printable(self.path)
            self._state = _check(self.path, self.name)
            self.size = self._state[0]
            self.head = self.read_at(0, HEAD_BYTES)
        else:
            self._take(source)
        if self.size == 0:
            raise AudioError(f"{self.name} is empty (0 bytes)", next_step="Copy or download it again, or leave it out")

    def _take(self, source: BinaryIO) -> None:
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
        self._state = (self.size,)
        self.head = self.read_at(0, HEAD_BYTES)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Read some bytes without disturbing a decoder that reads the same source."""
        try:
            if self.stream is not None:
                before = self.stream.tell()
                self.stream.seek(offset)
                data = _read_all(self.stream, n_bytes, self.name)
                self.stream.seek(before)
                return data
            with Path(self.path or "").open("rb") as handle:
                handle.seek(offset)
                return handle.read(n_bytes)
        except OSError as error:
            raise _unreadable(self.name, error) from error

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


def _read_all(stream: BinaryIO, n_bytes: int, name: str) -> bytes:
    """Read on where a file object gives less than it was asked for, as unbuffered ones may."""
    parts: list[bytes] = []
    while n_bytes > 0 and (part := stream.read(n_bytes)):
        if not isinstance(part, bytes):
            raise AudioError(
                f"{name} gives {type(part).__name__}, not bytes", next_step="Open it in binary mode: open(path, 'rb')"
            )
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _check(path: str, name: str) -> tuple[int, ...]:
    """Refuse what is no regular, readable file, before anything could block on it."""
    if not path:  # would be taken for the current folder
        raise AudioError("the name of the track is empty", next_step="Check the name")
    try:
        status = Path(path).stat()
    except ValueError as error:  # a NUL in the name
        raise AudioError(f"{name} is not a possible file name", next_step="Check the name") from error
    except OSError as error:
        raise _unreadable(name, error) from error
    if stat.S_ISDIR(status.st_mode):
        if not os.access(path, os.R_OK | os.X_OK):
            raise _unreadable(name, PermissionError(errno.EACCES, "folder"))
        raise AudioError(
            f"{name} is a folder",
            valid="A sound file",
            next_step="Name a file in it, or list it with find_audio_files",
        )
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise AudioError(f"{name} is {kind}", valid="A regular file", next_step="Save the sound to a file first")
    return _state_of(status)


def _state_of(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


def _unreadable(name: str, error: OSError) -> AudioError:
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


_ID3_HEADER_BYTES = 10
_ASF = bytes.fromhex("3026b2758e66cf11")
_SNIFFED_KINDS = {
    b"RIFF": "WAV",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3": "MP3",
    b"FORM": "AIFF",
    b".snd": "AU",
    b"wvpk": "WavPack",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    _ASF: "WMA",
}
_LIBSNDFILE_STARTS = (
    *(b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"dns.", b"fLaC", b"caff"),
    *(b"NIST_1A", b"Creative Voice", b"PVF1", b" paf", b"fap ", b"2BIT", b"\x64\xa3"),
)
_OGG_TAIL_BYTES = 1 << 16
_OGG_END_OF_STREAM = 0x04
_HAS_FRAMES, _HAS_BYTES = 0x1, 0x2
# More than this between the length in the header and the file's: cut off, or something is glued to it.
_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Mp3Header:
    """The length that an MP3 file promises: MPEG frames, and bytes where it tells them."""

    frames: int
    n_bytes: int | None
    sound_start: int


def suits_libsndfile(source: Input) -> bool:
    """Tell whether libsndfile reads this input, and reads it at least as well and as fast as PyAV.

    What it does not know by its first bytes is kept from it: it would take any file called .mp3 for one, and its
    MP3 decoder complains to the terminal, which nothing can turn off.
    """
    head = source.head
    if head.startswith(b"OggS"):
        return b"OpusHead" not in head[:64] and b"\x01vorbis" not in head[:64]
    if _starts_as_mpeg(head):
        return _is_sound_mp3(source)
    return head.startswith(_LIBSNDFILE_STARTS)


def known_kind(head: bytes) -> str | None:
    """Name the format that the first bytes announce, for messages."""
    if head[4:8] == b"ftyp":
        return "MP4 or M4A"
    return next((kind for start, kind in _SNIFFED_KINDS.items() if head.startswith(start)), None)


def ogg_ends_early(source: Input) -> bool:
    """Tell whether an Ogg file lacks the page that closes its stream."""
    if not source.head.startswith(b"OggS"):
        return False
    tail = source.read_at(max(0, source.size - _OGG_TAIL_BYTES), _OGG_TAIL_BYTES)
    page = tail.rfind(b"OggS")
    return page < 0 or len(tail) < page + 6 or not tail[page + 5] & _OGG_END_OF_STREAM


def mp3_header(source: Input) -> Mp3Header | None:
    """Read the Xing, Info or VBRI header in the first frame; None where there is none."""
    start = _id3_bytes(source.head)
    head = source.head if start == 0 else source.read_at(start, len(source.head) or 1)
    sync = next((i for i in range(len(head) - 1) if head[i] == 0xFF and head[i + 1] & 0xE0 == 0xE0), -1)
    if sync < 0:
        return None
    frame = head[sync : sync + 256]
    for mark in (b"Xing", b"Info"):
        at = frame.find(mark)
        if at >= 0:
            flags = _number(frame, at + 4)
            if not flags & _HAS_FRAMES:
                return None
            n_bytes = _number(frame, at + 12) if flags & _HAS_BYTES else None
            return Mp3Header(_number(frame, at + 8), n_bytes, start + sync)
    at = frame.find(b"VBRI")
    return Mp3Header(_number(frame, at + 14), _number(frame, at + 10), start + sync) if at >= 0 else None


def _starts_as_mpeg(head: bytes) -> bool:
    return head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def _is_sound_mp3(source: Input) -> bool:
    """Tell whether libsndfile is safe: without a header it guesses the length, and it shouts about damage."""
    header = mp3_header(source)
    if header is None:
        return False
    present = source.size - header.sound_start
    return header.n_bytes is None or abs(header.n_bytes - present) <= _SIZE_TOLERANCE * present


def _id3_bytes(head: bytes) -> int:
    if not head.startswith(b"ID3") or len(head) < _ID3_HEADER_BYTES:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return size + _ID3_HEADER_BYTES


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
