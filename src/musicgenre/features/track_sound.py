"""A whole track that can be heard at any rate, and the contract of representations that want one.

Most representations see one segment. One whose ``reads`` is ``"track"`` says of each segment what only the whole track
tells (B9: each segment meets the whole track's embedding), or reads several rates: it gets a :class:`TrackSound`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from musicgenre.features.base import Float32, Representation, fit_length
from musicgenre.features.segments import cut

if TYPE_CHECKING:
    from musicgenre.audio import Sound
    from musicgenre.audio.sound import Source

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
