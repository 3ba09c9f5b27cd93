"""What both decoders have in common, and the one on libsndfile: WAV, FLAC, AIFF, AU, MP3 and a dozen old formats."""

from __future__ import annotations

import os
import re
from typing import BinaryIO, Protocol

import numpy as np

from musicgenre.audio._input import Input
from musicgenre.audio.sound import AudioInfo, Float32

# After a jump, MP3 needs some frames before its bit reservoir is right again.
_MP3_PREROLL_FRAMES = 8 * 1152
# libsndfile misplaces a jump into the last page of an Ogg stream: jump before it (255 packets of 1024) and read on.
_OGG_LAST_PAGE_FRAMES = 255 * 1024
_PROMISED = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+)\s*\(should be (\d+)\)", re.MULTILINE)


class DecodeFailure(Exception):  # noqa: N818 - never leaves the room: it says "try the other decoder"
    """A decoder cannot open the input, or cannot go on."""


class NoSoundError(DecodeFailure):
    """The container is fine, but holds pictures only."""


class Reader(Protocol):
    """A decoder at a position in one input.

    ``declared_frames`` is the length that the file promises (None where it promises none) and ``notes`` collects
    what the decoder met on its way; ``position`` is the frame that the next read begins with.
    """

    info: AudioInfo
    declared_frames: int | None
    position: int
    notes: list[str]

    def seek(self, frame: int) -> None:
        """Go to a frame, exactly; the same samples follow as if everything before had been decoded."""
        ...

    def read(self, n_frames: int) -> Float32:
        """Give the next frames, shape (n, channels); none are left when n is 0."""
        ...

    def close(self) -> None:
        """Let go of the input."""
        ...


class EndedReader:
    """Takes the place of a reader that can give no more."""

    def __init__(self, ended: Reader) -> None:
        self.info = ended.info
        self.declared_frames = ended.declared_frames
        self.position = ended.position
        self.notes: list[str] = []

    def seek(self, frame: int) -> None:
        """Stay at the end."""

    def read(self, n_frames: int) -> Float32:
        """Give nothing."""
        return np.zeros((0, self.info.channels), dtype=np.float32)

    def close(self) -> None:
        """Have nothing to close."""


class SoundfileReader:
    """A :class:`~musicgenre.audio._decoder.Reader` on libsndfile."""

    def __init__(self, source: Input) -> None:
        import soundfile

        self._error = soundfile.LibsndfileError
        try:
            self._file = soundfile.SoundFile(_target(source))
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a name that ends in .raw
            raise DecodeFailure(str(error)) from error
        file = self._file
        self.declared_frames: int | None = _promised_frames(file.frames, file.extra_info)
        self.notes: list[str] = []
        self.position = 0
        self._frames = int(file.frames)
        self.info = AudioInfo(
            source.name,
            file.format.lower(),
            "mp3" if file.format == "MP3" else file.subtype.lower(),
            file.samplerate,
            file.channels,
            file.frames / file.samplerate if file.samplerate > 0 else None,
        )

    def seek(self, frame: int) -> None:
        """Go to a frame; beyond the end means to the end."""
        start = min(frame, self._frames)
        landing = self._landing(start)
        if not landing <= self.position <= start:
            try:
                self._file.seek(landing)
            except self._error as error:
                raise DecodeFailure(str(error)) from error
            self.position = landing
        while self.position < start and len(self.read(min(start - self.position, 1 << 16))):
            pass

    def _landing(self, frame: int) -> int:
        if self._file.format == "MP3":
            return max(0, frame - _MP3_PREROLL_FRAMES)
        if self._file.format == "OGG":
            return max(0, min(frame, self._frames - _OGG_LAST_PAGE_FRAMES))
        return frame

    def read(self, n_frames: int) -> Float32:
        """Give the next frames, shape (n, channels)."""
        try:
            block: Float32 = self._file.read(n_frames, dtype="float32", always_2d=True)
        except self._error as error:
            raise DecodeFailure(str(error)) from error
        self.position += len(block)
        return block

    def close(self) -> None:
        """Close libsndfile's handle."""
        self._file.close()


class _CalmFile:
    """A file object for libsndfile: a jump that a damaged header asks for fails without a traceback."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read
        self.tell = stream.tell
        self._seek = stream.seek

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -1


def _target(source: Input) -> object:
    if source.stream is not None:
        source.stream.seek(0)
        return _CalmFile(source.stream)
    path = source.path or ""
    return path if os.name == "nt" else os.fsencode(path)


def _promised_frames(frames: int, log: str) -> int | None:
    """Frames that the header promised; libsndfile silently corrects it to what the file can hold."""
    found = _PROMISED.search(log)
    if not found:
        return frames
    promised, present = int(found[1]), int(found[2])
    if present <= 0 or promised <= present or promised >= 0x7FFFF000:  # unknown length: a writer that streamed
        return frames
    return round(frames * promised / present)
