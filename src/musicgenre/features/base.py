"""What a representation is, how waveforms are cut into segments, and whole tracks at any rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.audio import Sound
    from musicgenre.audio.sound import Source
    from musicgenre.data.rows import Block

Float32 = NDArray[np.float32]
Reads = Literal["waveform", "track", "file", "columns"]
Extra = Literal["", "features", "train", "pretrained"]

MOST_VALUES = 2**26
"""Values of one array, samples of one segment: 268 MB of float32, a hundred times what the largest recipe makes."""

SHORTEST_HOP_S = 0.01
"""Least time from one segment to the next: below it a track has more segments than anybody waits for."""

_SHORTEST_S = 0.1  # what a resampler can make something of


class Representation(ABC):
    """A front end: mono sound in, one array of fixed shape out.

    One that needs NumPy alone gives `name`, `sample_rate_hz`, `shape` and `compute`, and registers itself; `settings`
    too if it has options. What is declared here says no to everything else.

    Attributes
    ----------
    name : str
        The registered name.
    version : int
        Rises when equal options give other values than before.
    sample_rate_hz : int
        Rate of the waveform that `compute` reads.
    segment_s : float or None
        Length of the waveform that one array stands for; `None`: any length, the whole track.
    row_axis : int or None
        Axis whose entries (bands, coefficients, columns) are normalised one by one; `None`: all values together.
    blocks : tuple of Block
        Where a flat array holds several things: the shape of each, and its own axis of normalisation.
    columns : tuple of str
        Names of the values, where the array is a row of a table.
    reads : {"waveform", "track", "file", "columns"}
        What it is computed from, and so which method preparation calls: `compute` for each segment, `compute_track`,
        `compute_file`, or `compute_columns` with the manifest's further columns.
    hears_many : bool
        Whether preparation hands batches of waveforms to `compute_many`, and decodes in threads ahead of it.
    is_network : bool
        Whether it is, or holds, a network: its native threads do not survive in a copied process.
    graph_front_end : bool
        Whether a bundle computes it inside its ONNX graph. Otherwise Python computes the features where the bundle is
        used, whatever `extra` says.
    extra : {"", "features", "train", "pretrained"}
        The extra of musicgenre that computing it needs; empty where the light install is enough.
    weight_cards : tuple
        Cards of the published weights it hears through, or their names; see `musicgenre.models.cards`.
    """

    name: str
    version: int = 1
    sample_rate_hz: int
    segment_s: float | None = None
    row_axis: int | None = None
    reads: Reads = "waveform"
    hears_many: bool = False

    is_network: bool = False
    graph_front_end: bool = False
    extra: Extra = ""
    columns: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def weight_cards(self) -> tuple[str | Mapping[str, Any], ...]:
        """Cards of the published weights in use; none by default. A property, for it may have to hash a file."""
        return ()

    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of what `compute` returns."""

    @abstractmethod
    def compute(self, waveform: Float32) -> Float32:
        """Turn one segment, shape (n_samples,), into an array of `shape()`; one of another length is cut or padded."""

    def settings(self) -> dict[str, Any]:
        """All that decides the values: JSON, with `name` and `version`; equal settings give equal arrays.

        Every other key is an option that makes the representation again.
        """
        return {"name": self.name, "version": self.version}

    def settled(self, paths: Sequence[Path]) -> Self:
        """Settle what the files at `paths` decide for all of them; itself where, as usual, there is nothing."""
        return self

    def make_ready(self) -> None:  # noqa: B027 - nothing to fetch is the usual case
        """Fetch what it needs (weights) here, once, not in every worker process; nothing by default."""

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        """Compute the arrays of several segments, `threads` at a time where that is possible."""
        return [self.compute(waveform) for waveform in waveforms]

    def compute_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> list[Float32]:
        """Compute the arrays of segments of a track; for those that read the `track`.

        `sample_rate_hz` and the representation's own `segment_s` say how tracks are cut; its `compute` takes one
        waveform for the whole track and its only segment. All that decides the values is in `settings()` and in the
        file: the cache relies on it.

        Parameters
        ----------
        track : TrackSound
            The whole track.
        starts_s : sequence of float
            Where the segments begin, in seconds.
        segment_s : float or None
            Their length; `None`: the one segment is the whole track.

        Returns
        -------
        list of ndarray
            One array of `shape()` a segment.
        """
        raise NotImplementedError(f"{self.name} reads the {self.reads}, not tracks")

    def compute_file(self, path: Path) -> Float32:
        """Compute the one array of a file that is no sound; for those that read the `file`."""
        raise NotImplementedError(f"{self.name} reads the {self.reads}, not files")

    def compute_columns(self, columns: Mapping[str, str]) -> Float32:
        """Compute the one array of a track from the manifest's columns; for those that read the `columns`."""
        raise NotImplementedError(f"{self.name} reads the {self.reads}, not columns")


class TrackSound:
    """A whole track, mono, at whatever rate is asked for; each rate is made once, from the source.

    Parameters
    ----------
    load : callable
        Takes a rate in Hz, gives the track's sound.

    Attributes
    ----------
    warnings : tuple of str
        What the decoder noticed so far.
    """

    def __init__(self, load: Callable[[int], Sound]) -> None:
        self._load = load
        self._heard: dict[int, Float32] = {}
        self.warnings: tuple[str, ...] = ()

    @classmethod
    def of_file(cls, source: Source) -> TrackSound:
        """Take a file: every rate is resampled from what the decoder gives."""
        from musicgenre import audio

        return cls(lambda rate_hz: audio.load(source, rate_hz))

    @classmethod
    def of_waveform(cls, waveform: Float32, sample_rate_hz: int) -> TrackSound:
        """Take samples in memory, shape (n_samples,), where no file is at hand."""
        from musicgenre import audio

        shortest = round(_SHORTEST_S * sample_rate_hz)
        sound = fit_length(waveform, max(len(waveform), shortest))

        track = cls(lambda rate_hz: audio.from_array(sound, sample_rate_hz, rate_hz))
        track._heard[sample_rate_hz] = waveform  # at its own rate it is heard as it is, without the padding
        return track

    def at(self, rate_hz: int) -> Float32:
        """Return the waveform, shape (n_samples,), at `rate_hz`. Do not write to it."""
        if rate_hz not in self._heard:
            sound = self._load(rate_hz)
            self._heard[rate_hz] = sound.waveform
            self.warnings = tuple(dict.fromkeys((*self.warnings, *sound.warnings)))  # each once, in order

        return self._heard[rate_hz]

    def whole(self, representation: Representation) -> Float32:
        """Compute what a representation says of the whole track, shape `representation.shape()`.

        One with a segment length is computed of every segment and averaged.
        """
        waveform = self.at(representation.sample_rate_hz)
        _, segments = cut(waveform, representation.sample_rate_hz, representation.segment_s)
        return mean_of([representation.compute(segment) for segment in segments])


def cut(
    waveform: Float32, sample_rate_hz: int, segment_s: float | None, hop_s: float | None = None
) -> tuple[NDArray[np.float64], Float32]:
    """Cut a waveform into segments.

    Returns
    -------
    starts_s : ndarray of float64, shape (n_segments,)
    segments : ndarray of float32, shape (n_segments, segment_samples)
        A view into `waveform` where that is possible: do not write to it.
    """
    spans = segment_spans(len(waveform), sample_rate_hz, segment_s, hop_s)
    starts = np.array([start for start, _ in spans])
    starts_s = starts / sample_rate_hz

    length = spans[0][1]
    if len(waveform) < length:
        return starts_s, fit_length(waveform, length)[None, :]

    # Segments that follow each other without a gap need no copy.
    if np.array_equal(starts, np.arange(len(spans)) * length):
        whole = np.ascontiguousarray(waveform[: len(spans) * length], dtype=np.float32)
        return starts_s, whole.reshape(len(spans), length)

    pieces = [waveform[start : start + length] for start in starts]
    return starts_s, np.stack(pieces).astype(np.float32, copy=False)


def segment_spans(
    n_samples: int, sample_rate_hz: int, segment_s: float | None, hop_s: float | None = None
) -> list[tuple[int, int]]:
    """Say where the segments of a waveform lie, without holding it.

    Parameters
    ----------
    n_samples, sample_rate_hz : int
        Length and rate of the waveform.
    segment_s : float or None
        Segment length; `None`: one segment, the whole waveform.
    hop_s : float, optional
        From one start to the next; the segment length by default, so that segments do not overlap.

    Returns
    -------
    list of (start_sample, n_samples)
        The only span of a short waveform reaches past its end: the rest is to be zeros.
    """
    if segment_s is None:
        return [(0, n_samples)]
    if segment_s <= 0 or (hop_s is not None and hop_s <= 0):
        raise UsageError(f"segment_s={segment_s}, hop_s={hop_s}: both must be positive")

    length = segment_samples(sample_rate_hz, segment_s)
    hop_s = segment_s if hop_s is None else hop_s

    count = 1
    if n_samples >= length:
        count += int((n_samples - length) / (hop_s * sample_rate_hz) + 1e-9)  # a last one that just fits counts

    # A hop need not be a whole number of samples: starts are rounded one by one, so that they do not drift.
    starts = [round(index * hop_s * sample_rate_hz) for index in range(count)]
    return [(start, length) for start in starts if start == 0 or start + length <= n_samples]


def segment_samples(sample_rate_hz: int, segment_s: float) -> int:
    """Samples in a segment, rounded to the nearest whole one."""
    return max(1, round(segment_s * sample_rate_hz))


def fit_length(waveform: Float32, n_samples: int) -> Float32:
    """Cut `waveform` to `n_samples` or pad it with zeros at its end.

    Raises
    ------
    UsageError
        If it is not one-dimensional.
    """
    sound = np.ascontiguousarray(waveform, dtype=np.float32)
    if sound.ndim != 1:
        raise UsageError(f"the waveform has shape {sound.shape}", valid="A mono waveform has shape (n_samples,)")

    if len(sound) >= n_samples:
        return sound[:n_samples]
    return np.pad(sound, (0, n_samples - len(sound)))


def check_size(what: str, n_values: int) -> None:
    """Refuse a size that settings lead to before anything of it is made.

    Raises
    ------
    UsageError
        It has more than `MOST_VALUES` values.
    """
    if n_values > MOST_VALUES:
        raise UsageError(f"{what} would have {n_values:,} values", valid=f"Up to {MOST_VALUES:,}")


def mean_of(arrays: Sequence[Float32] | Float32) -> Float32:
    """Average arrays of one shape; a single one comes back as it is."""
    if len(arrays) == 1:
        return np.asarray(arrays[0], np.float32)
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64), np.float32)
