"""What both decoders have in common."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from musicgenre.audio.sound import AudioInfo, Float32


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
