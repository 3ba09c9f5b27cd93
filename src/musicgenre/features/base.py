"""What every representation offers, and the small helpers they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from musicgenre.audio import Sound
    from musicgenre.audio.sound import Source

Float32 = NDArray[np.float32]


@runtime_checkable
class Representation(Protocol):
    """A front end: mono sound in, one array of fixed shape out.

    Attributes
    ----------
    name : str
        The registered name.
    sample_rate_hz : int
        Rate of the waveform that :meth:`compute` reads.
    segment_s : float or None
        Length of the waveform that one array stands for; ``None``: any length, the whole track.
    row_axis : int or None
        Axis whose entries (bands, coefficients, columns) are normalised one by one; ``None``: all values together.

    Notes
    -----
    Those that use published weights have two things more: ``weight_cards``, names of the cards of these weights, and
    ``make_ready()``, which fetches them. Those that hear several waveforms at once offer ``compute_many(waveforms,
    threads=...)``, a list of arrays for a list of waveforms; preparation then decodes in threads ahead of it. Networks
    in torch offer ``load()``, which reads their weights into this process, and ``weights_sha256``.
    """

    name: str
    sample_rate_hz: int
    segment_s: float | None
    row_axis: int | None

    def shape(self) -> tuple[int, ...]:
        """Shape of what :meth:`compute` returns."""
        ...

    def compute(self, waveform: Float32) -> Float32:
        """Turn one segment, shape (n_samples,), into an array of :meth:`shape`."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that decides the values: JSON, with ``name`` and ``version``; equal settings give equal arrays."""
        ...


def make_ready(representation: Representation) -> None:
    """Let a representation fetch what it needs (weights) here, once, not in every worker process."""
    fetch = getattr(representation, "make_ready", None)
    if fetch is not None:
        fetch()


def runs_network(representation: Representation) -> bool:
    """Whether a representation, or a part of it, is a network with weights to fetch."""
    parts = getattr(representation, "parts", ())
    if parts:
        return any(runs_network(part.representation) for part in parts)
    return hasattr(representation, "make_ready")


def fit_length(waveform: Float32, n_samples: int) -> Float32:
    """Cut ``waveform`` to ``n_samples`` or pad it with zeros at its end.

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


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Turn an absent third-party package, imported in the block, into a `MissingExtraError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "musicgenre":
            raise
        raise MissingExtraError(what, extra) from error


SHORTEST_HOP_S = 0.01
"""Least time from one segment to the next: below it a track has more segments than anybody waits for."""


def segment_samples(sample_rate_hz: int, segment_s: float) -> int:
    """Samples in a segment, rounded to the nearest whole one."""
    return max(1, round(segment_s * sample_rate_hz))


def segment_spans(
    n_samples: int, sample_rate_hz: int, segment_s: float | None, hop_s: float | None = None
) -> list[tuple[int, int]]:
    """Say where the segments of a waveform lie, without holding it.

    Parameters
    ----------
    n_samples, sample_rate_hz : int
        Length and rate of the waveform.
    segment_s : float or None
        Segment length; ``None``: one segment, the whole waveform.
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
    count = max(1, 1 + int((n_samples - length) / (hop_s * sample_rate_hz) + 1e-9)) if n_samples >= length else 1
    starts = [round(index * hop_s * sample_rate_hz) for index in range(count)]
    return [(start, length) for start in starts if start == 0 or start + length <= n_samples]


def cut(
    waveform: Float32, sample_rate_hz: int, segment_s: float | None, hop_s: float | None = None
) -> tuple[NDArray[np.float64], Float32]:
    """Cut a waveform into segments.

    Returns
    -------
    starts_s : ndarray of float64, shape (n_segments,)
    segments : ndarray of float32, shape (n_segments, segment_samples)
        A view into ``waveform`` where that is possible: do not write to it.
    """
    spans = segment_spans(len(waveform), sample_rate_hz, segment_s, hop_s)
    starts_s = np.array([start / sample_rate_hz for start, _ in spans])
    length = spans[0][1]
    if len(waveform) < length:
        return starts_s, fit_length(waveform, length)[None, :]
    if len(spans) == 1 or [start for start, _ in spans] == list(range(0, len(spans) * length, length)):
        whole = np.ascontiguousarray(waveform[: len(spans) * length], dtype=np.float32)
        return starts_s, whole.reshape(len(spans), length)
    return starts_s, np.stack([waveform[start : start + n] for start, n in spans]).astype(np.float32, copy=False)


_SHORTEST_S = 0.1  # what a resampler can make something of


@runtime_checkable
class TrackRepresentation(Representation, Protocol):
    """A representation that needs the whole track; its ``reads`` is ``"track"``.

    ``sample_rate_hz`` and ``segment_s`` say how tracks are cut. :meth:`compute` takes one waveform for the whole track
    and its only segment. All that decides the values is in ``settings()`` and in the file: the cache relies on it.
    """

    reads: str

    def compute_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> list[Float32]:
        """Compute the arrays of the segments that begin at ``starts_s``.

        Parameters
        ----------
        track : TrackSound
            The whole track.
        starts_s : sequence of float
            Where the segments begin, in seconds.
        segment_s : float or None
            Their length; ``None``: the one segment is the whole track.

        Returns
        -------
        list of ndarray
            One array of ``shape()`` a segment.
        """
        ...


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
        track._heard[sample_rate_hz] = waveform
        return track

    def at(self, rate_hz: int) -> Float32:
        """Return the waveform, shape (n_samples,), at ``rate_hz``. Do not write to it."""
        if rate_hz not in self._heard:
            sound = self._load(rate_hz)
            self._heard[rate_hz] = sound.waveform
            self.warnings = tuple(dict.fromkeys((*self.warnings, *sound.warnings)))
        return self._heard[rate_hz]

    def whole(self, representation: Representation) -> Float32:
        """Compute what a representation says of the whole track, shape ``representation.shape()``.

        One with a segment length is computed of every segment and averaged.
        """
        waveform = self.at(representation.sample_rate_hz)
        _, segments = cut(waveform, representation.sample_rate_hz, representation.segment_s)
        return mean_of([representation.compute(segment) for segment in segments])


def mean_of(arrays: Sequence[Float32] | Float32) -> Float32:
    """Average arrays of one shape; a single one comes back as it is."""
    if len(arrays) == 1:
        return np.asarray(arrays[0], np.float32)
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float64), np.float32)
