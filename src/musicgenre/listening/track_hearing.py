"""Hear a track with a model that knows the whole of it: each segment meets what all that is heard says (B9).

With everything heard that is the whole track, as in training. With less, it is the heard pieces, joined end to end:
the model is told of nothing that was not heard. Models without segments hear the whole track at once, like training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np

from musicgenre import audio
from musicgenre.audio import Sound
from musicgenre.features.base import TrackSound
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import (
    UNTOLD_S,
    FileSource,
    Heard,
    Outputs,
    Source,
    as_array,
    ends_early,
    with_doubts,
)

LONGEST_S = 3_600.0
"""A whole track stands in memory; of longer ones this much is heard, evenly spread."""

_TOUCHING_S = 1e-9  # segments that are nearer than this touch: times are sums of rounded numbers

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
    level : Level, optional
        What every track is brought to, by one gain over all that is heard of it.
    at_once_s : float, optional
        Tracks up to this length are one row, however long their segments would be; longer ones are cut.
    """

    def __init__(
        self,
        framing: Framing,
        coverage: Coverage,
        run: Run,
        *,
        level: audio.Level | None = None,
        at_once_s: float = 0.0,
    ) -> None:
        self.framing = framing
        self.coverage = coverage
        self._segment_s = framing.segment_samples / framing.sample_rate_hz
        self._run = run
        self._level = level
        self._at_once_s = at_once_s

    def hear(self, source: Source, *, sample_rate_hz: int | None = None) -> Heard:
        """Hear one track; parameters and errors are those of `Ear.hear`."""
        given = as_array(source, sample_rate_hz)
        if given is not None:
            heard = self._hear_whole(TrackSound(lambda rate_hz: audio.from_array(*given, rate_hz)), None)
            return with_doubts(heard, given[1], self.framing.sample_rate_hz)

        limit_s = self.coverage.max_duration_s
        with audio.open_source(cast("FileSource", source), max_duration_s=limit_s) as opened:
            return with_doubts(self._hear_file(opened), opened.rate_hz, self.framing.sample_rate_hz)

    def _hear_file(self, source: audio.Decoder) -> Heard:
        """Hear a file, first as its header promises; where that is wrong, or nothing, it is decoded to be measured."""
        told_s = source.info.duration_s
        if told_s is not None:
            try:
                return self._hear_told(source, told_s)
            except _WrongLengthError:  # the network asks for the sound while it runs, so it shows only there
                pass

        true_s, noticed = audio.measure(source)
        try:
            heard = self._hear_told(source, true_s)
        except _WrongLengthError:  # damage that is another one after a jump: then from the beginning on
            begin = TrackSound(lambda rate_hz: audio.load(source, rate_hz, duration_s=LONGEST_S))
            heard = self._hear_whole(begin, true_s)
        return replace(heard, warnings=tuple(dict.fromkeys(noticed + heard.warnings)))

    def _hear_told(self, source: audio.Decoder, told_s: float) -> Heard:
        """Decode only what is heard of a file of known length.

        Raises
        ------
        _WrongLengthError
            When it is shorter or longer than told.
        """
        chosen = self._choose(told_s)
        if chosen is None:
            return self._hear_whole(TrackSound(lambda rate_hz: _load_all(source, rate_hz, told_s)), told_s)
        spans_s = self._spans_s(chosen)
        return self._hear_pieces(TrackSound(lambda rate_hz: _load(source, rate_hz, spans_s)), chosen, told_s)

    def _hear_whole(self, track: TrackSound, told_s: float | None) -> Heard:
        """Hear a track that stands in memory as a whole; `told_s` is the length that its file tells."""
        framing = self.framing
        n_samples = len(track.at(framing.sample_rate_hz))
        length_s = n_samples / framing.sample_rate_hz

        chosen = self._choose(length_s)
        if chosen is not None:
            spans_s = self._spans_s(chosen)
            return self._hear_pieces(TrackSound(lambda rate_hz: _cut(track, rate_hz, spans_s)), chosen, length_s)

        is_at_once = length_s <= self._at_once_s
        n_segments = 1 if is_at_once else framing.n_segments(n_samples)
        indices = list(range(max(1, n_segments)))
        starts_s = [index * framing.hop_s for index in indices]
        # One segment that is the whole track: a model without a segment length hears it as in training.
        segment_s = None if len(indices) == 1 else self._segment_s
        levelled, gain = self._bring_to_level(track)
        outputs = self._run(levelled, starts_s, segment_s)

        warnings = track.warnings + gain.warnings
        if n_segments == 0:
            warnings += (f"only {length_s:.2f} s long: shorter than the {self._segment_s:.2f} s of a segment",)
        if told_s is None:
            told_s = length_s
        return Heard(outputs, indices, told_s, warnings, gain.is_too_quiet)

    def _hear_pieces(self, pieces: TrackSound, chosen: list[int], duration_s: float) -> Heard:
        """Hear chosen segments of a track, whose spans were joined."""
        # Where they begin in the joined sound: the gaps between the spans are not in it.
        starts_s = [0.0]
        for before, after in pairwise(chosen):
            starts_s.append(starts_s[-1] + min((after - before) * self.framing.hop_s, self._segment_s))
        levelled, gain = self._bring_to_level(pieces)
        outputs = self._run(levelled, starts_s, self._segment_s)

        warnings = pieces.warnings + gain.warnings
        if self.coverage.seconds is None:  # all of it was asked for
            warnings += (f"{duration_s:.0f} s long: {LONGEST_S:.0f} s of it were heard, evenly spread",)
        return Heard(outputs, chosen, duration_s, warnings, gain.is_too_quiet)

    def _bring_to_level(self, track: TrackSound) -> tuple[TrackSound, audio.Gain]:
        """Multiply all that is heard by one gain, the same at every rate that the network asks for."""
        if self._level is None:
            return track, audio.AS_IT_IS
        gain = self._level.gain([track.at(self.framing.sample_rate_hz)])
        levelled = TrackSound(lambda rate_hz: Sound(gain.apply(track.at(rate_hz)), rate_hz, None))
        return levelled, gain

    def _choose(self, duration_s: float) -> list[int] | None:
        """Choose the segments of a track of known length; None where all of it is heard."""
        coverage = self.coverage
        if coverage.seconds is None and duration_s > LONGEST_S:
            coverage = Coverage(LONGEST_S)
        if coverage.seconds is None or coverage.seconds >= duration_s:
            return None

        n_segments = self.framing.n_segments(round(duration_s * self.framing.sample_rate_hz))
        chosen = coverage.choose(n_segments, self.framing.hop_s)
        return None if len(chosen) == n_segments else chosen

    def _spans_s(self, chosen: Sequence[int]) -> list[tuple[float, float]]:
        """Begin and end of what is heard, in seconds; segments that touch or overlap are one span."""
        spans: list[tuple[float, float]] = []
        for index in chosen:
            start_s = index * self.framing.hop_s
            if spans and start_s <= spans[-1][1] + _TOUCHING_S:
                spans[-1] = (spans[-1][0], start_s + self._segment_s)
            else:
                spans.append((start_s, start_s + self._segment_s))
        return spans


class _WrongLengthError(Exception):
    """A file ends before it says, or long after."""


def _load_all(source: audio.Decoder, rate_hz: int, told_s: float) -> Sound:
    """Decode all of a file, as long as that is what it told."""
    at_most_s = told_s + UNTOLD_S
    sound = audio.load(source, rate_hz, duration_s=at_most_s)
    if len(sound.waveform) >= round(at_most_s * rate_hz):
        raise _WrongLengthError
    return sound


def _load(source: audio.Decoder, rate_hz: int, spans_s: Sequence[tuple[float, float]]) -> Sound:
    """Decode the spans alone and join them."""
    spans = _samples(spans_s, rate_hz)
    found = audio.load_spans(source, rate_hz, spans)
    if ends_early(found, spans):
        raise _WrongLengthError
    return Sound(_joined(found.waveforms, spans), rate_hz, found.duration_s, found.warnings)


def _cut(track: TrackSound, rate_hz: int, spans_s: Sequence[tuple[float, float]]) -> Sound:
    """Cut the spans out of a track in memory and join them."""
    waveform = track.at(rate_hz)
    spans = _samples(spans_s, rate_hz)
    pieces = [waveform[first : first + length] for first, length in spans]
    return Sound(_joined(pieces, spans), rate_hz, len(waveform) / rate_hz, track.warnings)


def _samples(spans_s: Sequence[tuple[float, float]], rate_hz: int) -> list[tuple[int, int]]:
    """From begin and end in seconds to first sample and number of samples."""
    spans = []
    for start_s, end_s in spans_s:
        first = round(start_s * rate_hz)
        spans.append((first, round(end_s * rate_hz) - first))
    return spans


def _joined(pieces: Iterable[Float32], spans: Sequence[tuple[int, int]]) -> Float32:
    """Join pieces end to end, with zeros where rounding left a few samples out: later ones stay in their place."""
    whole = []
    for piece, (_, length) in zip(pieces, spans, strict=True):
        whole.append(np.pad(piece, (0, length - len(piece))))
    return np.concatenate(whole)
