"""Hear a track: decode what the coverage asks for, cut it into segments and run a network on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre.errors import AudioError
from musicgenre.listening.framing import Coverage, Float32, Framing

_ROWS_AT_ONCE = 10
ROUNDED_LENGTH_S = 0.1
"""Some containers tell their length this roughly."""

_LOAD_AT_MOST_S = 600.0  # longer tracks are streamed when all of them is wanted

Outputs = dict[str, Float32]
"""What a network says of the heard segments, one row each, by name."""

FileSource = str | os.PathLike[str] | BinaryIO
Source = FileSource | NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Heard:
    """Outputs of the heard segments of one track and what was noticed on the way.

    Attributes
    ----------
    outputs : dict of str to ndarray
        The network's outputs, one row a heard segment, by name.
    indices : list of int
        Which segments of the track were heard, in order.
    duration_s : float
        Length of the whole track in seconds.
    warnings : tuple of str
        What a person should know: truncated file, silence, repeated sound ...
    members : tuple of Heard
        What each model of an ensemble heard on its own; empty for a single model.
    """

    outputs: Outputs
    indices: list[int]
    duration_s: float
    warnings: tuple[str, ...]
    members: tuple[Heard, ...] = ()


class Hearer(Protocol):
    """What hears tracks for a model: `Ear` and its like."""

    def hear(self, source: Source, *, sample_rate_hz: int | None = None) -> Heard:
        """Hear one track; parameters and errors are those of `Ear.hear`."""
        ...


class Ear:
    """Hears tracks with one network. Safe to share between threads.

    Parameters
    ----------
    framing : Framing
        How the network wants its segments.
    coverage : Coverage
        How much of a track is heard.
    run : callable
        Runs the network on rows of samples, shape (n, segment_samples).
    rows_at_once : int
        Most rows that ``run`` is given together.
    """

    def __init__(
        self,
        framing: Framing,
        coverage: Coverage,
        run: Callable[[Float32], Outputs],
        *,
        rows_at_once: int = _ROWS_AT_ONCE,
    ) -> None:
        self.framing = framing
        self.coverage = coverage
        self._run_rows = run
        self._rows_at_once = rows_at_once

    def hear(self, source: Source, *, sample_rate_hz: int | None = None) -> Heard:
        """Hear one track.

        Parameters
        ----------
        source : path, binary file object or ndarray
            The track. An array holds samples in [-1, 1], shape (n_samples,) or (n_samples, n_channels).
        sample_rate_hz : int
            Rate of an array; required for arrays, refused for anything else.

        Raises
        ------
        AudioError
            When the source cannot be heard, or an array comes without its rate.
        """
        given = as_array(source, sample_rate_hz)
        if given is None:
            return self._hear_source(cast("FileSource", source))
        sound = audio.from_array(*given, self.framing.sample_rate_hz)
        return self._hear_waveform(sound.waveform, sound.warnings)

    def _hear_source(self, source: FileSource) -> Heard:
        framing = self.framing
        info = audio.probe(source)
        if info.duration_s is None:
            return self._hear_stream(source)
        if (self.coverage.seconds or float("inf")) >= info.duration_s:  # a damaged file may claim thousands of years
            return self._hear_everything(source, info.duration_s)
        n_samples = round(info.duration_s * framing.sample_rate_hz)
        n_segments = framing.n_segments(n_samples)
        chosen = self.coverage.choose(n_segments, framing.hop_s)
        if len(chosen) == n_segments:  # everything is heard anyway
            return self._hear_everything(source, info.duration_s)
        return self._hear_spans(source, chosen, n_samples, info.duration_s)

    def _hear_waveform(self, waveform: Float32, warnings: tuple[str, ...]) -> Heard:
        framing = self.framing
        duration_s = len(waveform) / framing.sample_rate_hz
        n_segments = framing.n_segments(len(waveform))
        if n_segments == 0:
            treatment = "repeated" if framing.repeat_short else "zero-padded"
            needed_s = framing.shortest_samples / framing.sample_rate_hz
            warnings += (f"only {duration_s:.2f} s long: {treatment} to the {needed_s:.2f} s the model needs",)
            waveform = framing.fill_short(waveform)
            n_segments = 1
        chosen = self.coverage.choose(n_segments, framing.hop_s)
        rows = (framing.row(i, _cut(waveform, framing.span(i, len(waveform)))) for i in chosen)
        return Heard(self._run(rows), chosen, duration_s, warnings)

    def _hear_spans(self, source: FileSource, chosen: list[int], n_samples: int, duration_s: float) -> Heard:
        """Decode only the chosen segments; fall back to the whole file where it ends earlier than it says."""
        framing = self.framing
        spans = [framing.span(index, n_samples) for index in chosen]
        pieces = audio.load_spans(source, framing.sample_rate_hz, spans)
        slack = round(ROUNDED_LENGTH_S * framing.sample_rate_hz)
        if any(length - len(piece) > slack for piece, (_, length) in zip(pieces.waveforms, spans, strict=True)):
            return self._hear_everything(source, duration_s)
        rows = (framing.row(i, piece) for i, piece in zip(chosen, pieces.waveforms, strict=True))
        return Heard(self._run(rows), chosen, duration_s, pieces.warnings)

    def _hear_everything(self, source: FileSource, duration_s: float) -> Heard:
        if duration_s > _LOAD_AT_MOST_S:
            return self._hear_stream(source)
        sound = audio.load(source, self.framing.sample_rate_hz)
        return self._hear_waveform(sound.waveform, sound.warnings)

    def _hear_stream(self, source: FileSource) -> Heard:
        """Hear everything in flat memory, for long tracks and those that do not tell their length."""
        framing = self.framing
        sound_stream = audio.stream(source, framing.sample_rate_hz)
        blocks = _Meter(sound_stream)
        indices: list[int] = []
        outputs = self._run(_record(framing.rows(blocks), indices))
        if not indices:
            sound = audio.load(source, framing.sample_rate_hz)
            return self._hear_waveform(sound.waveform, sound.warnings)
        return Heard(outputs, indices, blocks.n_samples / framing.sample_rate_hz, sound_stream.warnings)

    def _run(self, rows: Iterator[Float32]) -> Outputs:
        parts: list[Outputs] = []
        while batch := list(islice(rows, self._rows_at_once)):
            parts.append(self._run_rows(np.stack(batch)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def as_array(source: Source, sample_rate_hz: int | None) -> tuple[NDArray[np.generic], int] | None:
    """Return the array that a source is, with its rate; ``None`` for a file.

    Raises
    ------
    AudioError
        An array without a rate, or a rate with a file.
    """
    if isinstance(source, np.ndarray):
        if sample_rate_hz is None:
            raise AudioError(
                "an array was given without its sample rate",
                valid="Any rate is fine, but it must be known: a wrong one gives wrong genres silently",
                next_step="Call classify(array, sample_rate_hz=...)",
            )
        return source, sample_rate_hz
    if sample_rate_hz is not None:
        raise AudioError(
            f"sample_rate_hz={sample_rate_hz} was given for a {type(source).__name__}",
            valid="Files carry their own rate; only NumPy arrays need one",
            next_step="Leave sample_rate_hz out, or pass numpy.asarray(samples)",
        )
    return None


class _Meter:
    """Passes blocks on, counting samples."""

    def __init__(self, blocks: Iterator[Float32]) -> None:
        self.n_samples = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Float32]:
        for block in self._blocks:
            self.n_samples += len(block)
            yield block


def _record(rows: Iterator[tuple[int, Float32]], indices: list[int]) -> Iterator[Float32]:
    for index, row in rows:
        indices.append(index)
        yield row


def _cut(waveform: Float32, span: tuple[int, int]) -> Float32:
    start, length = span
    return waveform[start : start + length]
