"""What both decoders have in common, and the one on libsndfile: WAV, FLAC, AIFF, AU and a dozen old formats."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

import numpy as np

from musicgenre._text import printable
from musicgenre.audio._formats import true_head, wav_layout
from musicgenre.audio._input import Input
from musicgenre.audio.sound import AudioInfo, Float32
from musicgenre.errors import AudioError, MusicgenreError

# libsndfile misplaces a jump into the last page of an Ogg stream: jump before it (255 packets of 1024) and read on.
_OGG_LAST_PAGE_FRAMES = 255 * 1024
# The most frames that a byte can hold, by the beginning of how they are stored; plain samples need a byte and more.
_FRAMES_A_BYTE = {"GSM": 5, "IMA_ADPCM": 4, "MS_ADPCM": 4, "NMS_ADPCM": 4, "VOX_ADPCM": 4, "G72": 4, "DWVW": 8}
# Those that pack silence into next to nothing: FLAC's largest block in its smallest frame, rounded up.
_PACKED_FRAMES_A_BYTE = 8192
_PACKED_FORMATS = frozenset({"FLAC", "OGG", "MPEG"})
_PROMISED = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+)\s*\(should be (\d+)\)", re.MULTILINE)


class DecodeFailure(Exception):  # noqa: N818 - never leaves the room: it says "try the other decoder"
    """A decoder cannot open the input, or cannot go on."""


class NoSoundError(DecodeFailure):
    """The container is fine, but holds pictures only."""


@contextmanager
def as_decode_failure() -> Iterator[None]:
    """Turn whatever a file makes a library raise into a `DecodeFailure`: the one place that does.

    Libraries raise what they like when bytes make no sense (`ValueError`, `OverflowError`, `struct.error`, errors of
    their own), and a list of them is never complete. Errors of ours and a want of memory pass.
    """
    try:
        yield
    except (DecodeFailure, MusicgenreError, MemoryError):
        raise
    except Exception as error:
        raise DecodeFailure(f"{type(error).__name__}: {error}") from error


@contextmanager
def as_audio_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system raises about one file, read or heard in the block, into an `AudioError` that names it.

    Parameters
    ----------
    path : path
        The file.
    """
    name = printable(os.fspath(path))
    try:
        yield
    except MemoryError as error:
        raise AudioError(f"there is not enough memory to hear {name}", next_step="Hear less at a time") from error
    except OSError as error:
        raise AudioError(f"{name} cannot be read ({error.strerror or error})", next_step="Check the disk") from error


class Reader(Protocol):
    """A decoder at a position in one input.

    `declared_frames` is the length that the file promises (None where it promises none) and `notes` collects
    what the decoder met on its way; `position` is the frame that the next read begins with.
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
    """A `Reader` on libsndfile."""

    def __init__(self, source: Input) -> None:
        import soundfile

        self._source = source
        self._view: BinaryIO | None = None
        self._file = file = soundfile.SoundFile(self._target(source))
        self.declared_frames: int | None = _promised_frames(file.frames, file.extra_info)
        self.notes: list[str] = []
        layout = wav_layout(source)
        if layout is not None and layout.n_behind:
            self.notes.append(f"another file is joined behind it: {layout.n_behind} bytes were left unheard")
        self.position = 0

        # libsndfile goes on to give zeros as long as a header wants it to.
        is_packed = file.format in _PACKED_FORMATS or file.subtype.startswith("ALAC")
        most = source.size * (_PACKED_FRAMES_A_BYTE if is_packed else _frames_a_byte(file.subtype))
        self._frames = min(int(file.frames), most)
        is_known = file.samplerate > 0 and not (is_packed and file.frames > most)
        self.info = AudioInfo(
            source.name,
            file.format.lower(),
            file.subtype.lower(),
            file.samplerate,
            file.channels,
            self._frames / file.samplerate if is_known else None,
        )

    def seek(self, frame: int) -> None:
        """Go to a frame; beyond the end means to the end."""
        start = min(frame, self._frames)
        landing = start
        if self._file.format == "OGG":
            landing = max(0, min(start, self._frames - _OGG_LAST_PAGE_FRAMES))
        if not landing <= self.position <= start:
            self._jump(landing)
        while self.position < start and len(self.read(min(start - self.position, 1 << 16))):
            pass

    def _jump(self, frame: int) -> None:
        """Go to a frame; to the beginning where libsndfile cannot jump, as in GSM and G.72x."""
        import soundfile

        try:
            self._file.seek(frame)
            self.position = frame
        except soundfile.LibsndfileError:
            self.close()
            self._file = soundfile.SoundFile(self._target(self._source))
            self.position = 0

    def read(self, n_frames: int) -> Float32:
        """Give the next frames, shape (n, channels)."""
        n_frames = max(0, min(n_frames, self._frames - self.position))
        block: Float32 = self._file.read(n_frames, dtype="float32", always_2d=True)
        self.position += len(block)
        return block

    def close(self) -> None:
        """Close libsndfile's handle."""
        self._file.close()
        if self._view is not None:
            self._view.close()

    def _target(self, source: Input) -> object:
        """What libsndfile opens: the file, or a view of it where tags stand in front or its header is wrong."""
        layout = wav_layout(source)
        if layout is not None and (layout.head or layout.n_behind):
            self._view = source.view(layout.head, source.size - source.start - layout.n_behind)
            return self._view
        if head := true_head(source):
            self._view = source.view(head, source.size - source.start)
            return self._view
        if source.start or source.stream is not None:
            self._view = source.view()
            return self._view
        path = source.path or ""
        return path if os.name == "nt" else os.fsencode(path)


def _frames_a_byte(subtype: str) -> int:
    """The most frames that a byte of this kind of samples can hold."""
    return next((most for start, most in _FRAMES_A_BYTE.items() if subtype.startswith(start)), 1)


def _promised_frames(frames: int, log: str) -> int | None:
    """Frames that the header promised; libsndfile silently corrects it to what the file can hold."""
    found = _PROMISED.search(log)
    if not found:
        return frames
    promised, present = int(found[1]), int(found[2])
    if present <= 0 or promised <= present or promised >= 0x7FFFF000:  # unknown length: a writer that streamed
        return frames
    return round(frames * promised / present)
