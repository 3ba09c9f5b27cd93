"""Hear a track with a model that knows the whole of it: each segment meets what all that is heard says (B9).

With everything heard that is the whole track, as in training. With less, it is the heard pieces, joined end to end:
the model is told of nothing that was not heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre.audio import Sound
from musicgenre.features.base import TrackSound
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import ROUNDED_LENGTH_S, FileSource, Heard, Outputs, Source, as_array

LONGEST_S = 3_600.0
"""A whole track stands in memory; of longer ones this much is heard, evenly spread."""

Run = Callable[[TrackSound, Sequence[float], float | None], Outputs]
"""Takes the heard sound, where the segments begin in it and how long they are, all in seconds."""


class TrackEar:
    """Hears tracks with one network. Safe to share between threads.

    Parameters
    ----------
    framing : Framing
        How tracks are cut.
    coverage : Coverage
        How much of a track is heard.
    run : callable
        Runs the network, see `Run`.
    """

    def __init__(self, framing: Framing, coverage: Coverage, run: Run) -> None:
        self.framing = framing
        self.coverage = coverage
        self._run = run

    def hear(self, source: Source, *, sample_rate_hz: int | None = None) -> Heard:
        """Hear one track; parameters and errors are those of `Ear.hear`."""
        given = as_array(source, sample_rate_hz)
        if given is None:
            return self._hear_file(cast("FileSource", source))
        return self._hear(TrackSound(lambda rate_hz: audio.from_array(*given, rate_hz)), None)

    def _hear_file(self, source: FileSource) -> Heard:
        duration_s = audio.probe(source).duration_s
        chosen = None if duration_s is None else self._chosen(duration_s)
        if duration_s is None or chosen is None:
            return self._hear(TrackSound.of_file(source), duration_s)
        spans_s = self._spans_s(chosen)
        heard = TrackSound(lambda rate_hz: _pieces(source, rate_hz, spans_s))
        try:
            return self._run_on(heard, chosen, duration_s)
        except _EndsEarlyError:
            return self._hear(TrackSound.of_file(source), None)

    def _chosen(self, duration_s: float) -> list[int] | None:
        """Choose the segments of a track of known length; ``None`` where all of it is heard."""
        framing, coverage = self.framing, self._coverage_of(duration_s)
        if (coverage.seconds or float("inf")) >= duration_s:
            return None
        n_segments = framing.n_segments(round(duration_s * framing.sample_rate_hz))
        chosen = coverage.choose(n_segments, framing.hop_s)
        return None if len(chosen) == n_segments else chosen

    def _coverage_of(self, duration_s: float) -> Coverage:
        too_long = self.coverage.seconds is None and duration_s > LONGEST_S
        return Coverage(LONGEST_S) if too_long else self.coverage

    def _hear(self, track: TrackSound, duration_s: float | None) -> Heard:
        """Hear a track that is, or will be, in memory as a whole."""
        n_samples = len(track.at(self.framing.sample_rate_hz))
        length_s = n_samples / self.framing.sample_rate_hz
        chosen = self._chosen(length_s)
        if chosen is None:
            return self._run_on(track, None, length_s if duration_s is None else duration_s)
        spans_s = self._spans_s(chosen)
        return self._run_on(TrackSound(lambda rate_hz: _cut_out(track, rate_hz, spans_s)), chosen, length_s)

    def _run_on(self, track: TrackSound, chosen: list[int] | None, duration_s: float) -> Heard:
        """Run the network on the heard sound; ``chosen`` is ``None`` where that is the whole track."""
        framing, segment_s = self.framing, self.framing.segment_samples / self.framing.sample_rate_hz
        if chosen is not None:
            outputs = self._run(track, self._starts_s(chosen), segment_s)
            too_long = self.coverage.seconds is None
            note = (f"{duration_s:.0f} s long: {LONGEST_S:.0f} s of it were heard, evenly spread",) if too_long else ()
            return Heard(outputs, chosen, duration_s, (*track.warnings, *note))
        n_samples = len(track.at(framing.sample_rate_hz))
        n_segments = framing.n_segments(n_samples)
        notes: tuple[str, ...] = ()
        if n_segments == 0:
            length_s = n_samples / framing.sample_rate_hz
            notes = (f"only {length_s:.2f} s long: shorter than the {segment_s:.2f} s of a segment",)
        indices = list(range(max(1, n_segments)))
        starts_s = [index * framing.hop_s for index in indices]
        # one segment that is the whole track: a model without a segment length hears it as in training
        outputs = self._run(track, starts_s, None if len(indices) == 1 else segment_s)
        return Heard(outputs, indices, duration_s, (*track.warnings, *notes))

    def _spans_s(self, chosen: Sequence[int]) -> list[tuple[float, float]]:
        """Begin and end of what is heard, in seconds; segments that touch or overlap are one span."""
        segment_s = self.framing.segment_samples / self.framing.sample_rate_hz
        spans: list[tuple[float, float]] = []
        for start_s in (index * self.framing.hop_s for index in chosen):
            if spans and start_s <= spans[-1][1] + 1e-9:
                spans[-1] = (spans[-1][0], start_s + segment_s)
            else:
                spans.append((start_s, start_s + segment_s))
        return spans

    def _starts_s(self, chosen: Sequence[int]) -> list[float]:
        """Where the chosen segments begin in the heard sound: the gaps between spans are not in it."""
        segment_s = self.framing.segment_samples / self.framing.sample_rate_hz
        starts_s = [0.0]
        for before, after in pairwise(chosen):
            starts_s.append(starts_s[-1] + min((after - before) * self.framing.hop_s, segment_s))
        return starts_s


class _EndsEarlyError(Exception):
    """A file ends before it says; then it is heard as a whole."""


def _pieces(source: FileSource, rate_hz: int, spans_s: Sequence[tuple[float, float]]) -> Sound:
    """Decode the spans alone and join them."""
    spans = [_samples(span_s, rate_hz) for span_s in spans_s]
    found = audio.load_spans(source, rate_hz, spans)
    slack = round(ROUNDED_LENGTH_S * rate_hz)
    if any(length - len(piece) > slack for piece, (_, length) in zip(found.waveforms, spans, strict=True)):
        raise _EndsEarlyError
    pieces = [_filled(piece, length) for piece, (_, length) in zip(found.waveforms, spans, strict=True)]
    return Sound(np.concatenate(pieces), rate_hz, found.duration_s, found.warnings)


def _cut_out(track: TrackSound, rate_hz: int, spans_s: Sequence[tuple[float, float]]) -> Sound:
    """Cut the spans out of a track in memory and join them."""
    waveform = track.at(rate_hz)
    spans = [_samples(span_s, rate_hz) for span_s in spans_s]
    pieces = [_filled(waveform[first : first + length], length) for first, length in spans]
    return Sound(np.concatenate(pieces), rate_hz, len(waveform) / rate_hz, track.warnings)


def _samples(span_s: tuple[float, float], rate_hz: int) -> tuple[int, int]:
    first = round(span_s[0] * rate_hz)
    return first, round(span_s[1] * rate_hz) - first


def _filled(piece: Float32, length: int) -> NDArray[np.float32]:
    """Zeros where rounding left a few samples out, so that later pieces stay in their place."""
    return piece if len(piece) == length else np.pad(piece, (0, length - len(piece)))
