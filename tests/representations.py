"""Representations small enough to test preparation with: they are sent to worker processes, so they live here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre.errors import DataError
from musicgenre.features.base import Float32, Representation


class Numbers(Representation):
    """Reads a text file of numbers: one row of shape (2, 3), the numbers and their squares."""

    name = "numbers"
    sample_rate_hz = 8_000
    row_axis = 0
    reads = "file"

    def __init__(self, *, scale: float = 1.0, log: Path | None = None, crash_on: str = "") -> None:
        self.scale = scale
        self.log = log
        self.crash_on = crash_on

    def shape(self) -> tuple[int, ...]:
        return (2, 3)

    def compute_file(self, path: Path) -> Float32:
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(f"{path.name}\n")
        text = path.read_text(encoding="utf-8", errors="replace")
        if self.crash_on and self.crash_on in text:
            os._exit(3)
        try:
            numbers = np.array([float(word) for word in text.split()], np.float32)
        except ValueError as error:
            raise DataError(f"{path.name} holds no numbers") from error
        return np.stack([numbers, numbers**2]).astype(np.float32) * np.float32(self.scale)

    def compute(self, waveform: Float32) -> Float32:
        raise AssertionError("it reads files")

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"scale": self.scale}


class Pieces(Representation):
    """Reads a waveform: shape (2,), mean and largest value of a segment of half a second."""

    name = "pieces"
    sample_rate_hz = 8_000
    segment_s = 0.5
    row_axis = 0

    def shape(self) -> tuple[int, ...]:
        return (2,)

    def compute(self, waveform: Float32) -> Float32:
        return np.array([waveform.mean(), waveform.max()], np.float32)


class Crowd(Pieces):
    """As `Pieces`, several segments at once; remembers how many came together."""

    name = "crowd"
    hears_many = True

    def __init__(self) -> None:
        self.batches: list[int] = []

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        self.batches.append(len(waveforms))
        return [self.compute(waveform) for waveform in waveforms]
