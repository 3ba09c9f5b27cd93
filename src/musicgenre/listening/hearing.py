"""Hear a track: decode what the coverage asks for, cut it into segments and run a network on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre.errors import AudioError
from musicgenre.features.base import MOST_VALUES
from musicgenre.listening.doubts import doubts
from musicgenre.listening.framing import Coverage, Float32, Framing

_ROWS_AT_ONCE = 10  # a network takes them one by one: more would only stand in memory
_LOAD_AT_MOST_S = 600.0  # longer tracks are streamed when all of them is wanted
_ROUNDED_LENGTH_S = 0.1  # some containers tell their length this roughly
UNTOLD_S = 1.0
"""Seconds behind the length that a file tells which are loaded; one that has more tells its length wrong."""

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
    is_too_quiet : bool
        Whether there is too little sound to answer; never where the model has no level.
    members : tuple of Heard
        What each model of an ensemble heard on its own; empty for a single model.
    source_rate_hz : int
        Sample rate of the track itself.
    """

    outputs: Outputs
    indices: list[int]
    duration_s: float
    warnings: tuple[str, ...]
    is_too_quiet: bool = False
    members: tuple[Heard, ...] = ()
    source_rate_hz: int = 0


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
    level : Level, optional
        What every track is brought to, by one gain over all that is heard of it.
    rows_at_once : int
        Most rows that `run` is given together.
    """

    def __init__(
        self,
        framing: Framing,
        coverage: Coverage,
        run: Callable[[Float32], Outputs],
        *,
        level: audio.Level | None = None,
        rows_at_once: int = _ROWS_AT_ONCE,
    ) -> None:
        self.framing = framing
        self.coverage = coverage
        self._run_rows = run
        self._level = level
        self._rows_at_once = max(1, min(rows_at_once, MOST_VALUES // framing.segment_samples))

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
        if given is not None:
            heard = self._hear_sound(audio.from_array(*given, self.framing.sample_rate_hz))
            return with_doubts(heard, given[1], self.framing.sample_rate_hz)

        limit_s = self.coverage.max_duration_s
        with audio.open_source(cast("FileSource", source), max_duration_s=limit_s) as opened:
            return with_doubts(self._hear_file(opened), opened.rate_hz, self.framing.sample_rate_hz)

    def _hear_file(self, source: audio.Decoder) -> Heard:
        """Hear a file, first as its header promises; what a header says of the length may be wrong either way."""
        told_s = source.info.duration_s
        heard = self._hear_loaded(source, _LOAD_AT_MOST_S) if told_s is None else self._hear_told(source, told_s)
        if heard is not None:
            return heard
        if self.coverage.seconds is None:
            return self._hear_stream(source)

        # To spread what is heard over the track its length must be known: it is decoded once more for that.
        true_s, noticed = audio.measure(source)
        heard = self._hear_told(source, true_s)
        if heard is None:  # all of a long track is wanted, or its times are such that no jump lands where it should
            n_segments = self.framing.n_segments(round(true_s * self.framing.sample_rate_hz))
            heard = self._hear_stream(source, self.coverage.choose(n_segments, self.framing.hop_s))
        return replace(heard, warnings=tuple(dict.fromkeys(noticed + heard.warnings)))

    def _hear_told(self, source: audio.Decoder, told_s: float) -> Heard | None:
        """Decode only the chosen segments where that saves work, and everything where it does not.

        None where a file of the length that is told cannot be heard so: it is shorter or longer, or too long to load.
        """
        framing = self.framing

        # Seconds are compared before samples are counted: a damaged file may claim thousands of years.
        if self.coverage.seconds is not None and self.coverage.seconds < told_s:
            n_samples = round(told_s * framing.sample_rate_hz)
            n_segments = framing.n_segments(n_samples)
            chosen = self.coverage.choose(n_segments, framing.hop_s)

            if len(chosen) < n_segments:
                spans = [framing.span(index, n_samples) for index in chosen]
                pieces = audio.load_spans(source, framing.sample_rate_hz, spans)
                if ends_early(pieces, spans):
                    return None
                gain = self._gain(pieces.waveforms)
                rows = map(framing.row, chosen, map(gain.apply, pieces.waveforms))
                warnings = pieces.warnings + gain.warnings
                return Heard(self._run(rows), chosen, told_s, warnings, gain.is_too_quiet)

        return self._hear_loaded(source, told_s + UNTOLD_S) if told_s <= _LOAD_AT_MOST_S else None

    def _hear_loaded(self, source: audio.Decoder, at_most_s: float) -> Heard | None:
        """Hear a file in memory as a whole; None where there is more of it than may be loaded."""
        sound = audio.load(source, self.framing.sample_rate_hz, duration_s=at_most_s)
        is_all = len(sound.waveform) < round(at_most_s * self.framing.sample_rate_hz)
        return self._hear_sound(sound) if is_all else None

    def _hear_sound(self, sound: audio.Sound) -> Heard:
        """Hear a track that is in memory as a whole."""
        framing, waveform, warnings = self.framing, sound.waveform, sound.warnings
        duration_s = len(waveform) / framing.sample_rate_hz
        n_segments = framing.n_segments(len(waveform))
        chosen = self.coverage.choose(max(1, n_segments), framing.hop_s)

        # Of a track that is heard in full all of it counts, its partial tail too: as in a stream.
        if len(chosen) < n_segments:
            spans = [framing.span(index, len(waveform)) for index in chosen]
            gain = self._gain([waveform[start : start + length] for start, length in spans])
        else:
            gain = self._gain([waveform])
        warnings += gain.warnings

        if n_segments == 0:
            treatment = "repeated" if framing.repeat_short else "zero-padded"
            needed_s = framing.shortest_samples / framing.sample_rate_hz
            warnings += (f"only {duration_s:.2f} s long: {treatment} to the {needed_s:.2f} s the model needs",)
            waveform = framing.fill_short(waveform)

        def rows() -> Iterator[Float32]:
            for index in chosen:
                start, length = framing.span(index, len(waveform))
                yield framing.row(index, gain.apply(waveform[start : start + length]))

        return Heard(self._run(rows()), chosen, duration_s, warnings, gain.is_too_quiet)

    def _hear_stream(self, source: audio.Decoder, chosen: Sequence[int] | None = None) -> Heard:
        """Decode everything in flat memory, for long tracks and wrong lengths; hear all of it, or chosen segments."""
        framing = self.framing
        wanted = None if chosen is None else set(chosen)
        # The gain is known at the end of the track and needed at its beginning: such tracks are decoded twice.
        gain = audio.AS_IT_IS
        if self._level is not None:
            gain = self._gain(audio.stream(source, framing.sample_rate_hz))

        stream = audio.stream(source, framing.sample_rate_hz)
        n_samples = 0
        indices: list[int] = []

        def blocks() -> Iterator[Float32]:
            nonlocal n_samples
            for block in stream:
                n_samples += len(block)
                yield block

        def rows() -> Iterator[Float32]:
            for index, row in framing.rows(blocks()):
                if wanted is None or index in wanted:
                    indices.append(index)
                    yield gain.apply(row)

        outputs = self._run(rows())
        if not indices:  # shorter than one segment, which is known only now
            return self._hear_sound(audio.load(source, framing.sample_rate_hz))
        warnings = stream.warnings + gain.warnings
        return Heard(outputs, indices, n_samples / framing.sample_rate_hz, warnings, gain.is_too_quiet)

    def _gain(self, pieces: Iterable[Float32]) -> audio.Gain:
        """Find the gain for a track from all that is heard of it."""
        return audio.AS_IT_IS if self._level is None else self._level.gain(pieces)

    def _run(self, rows: Iterator[Float32]) -> Outputs:
        """Run the network on rows as they come, so that a long track never stands in memory as a whole."""
        parts: list[Outputs] = []
        while batch := list(islice(rows, self._rows_at_once)):
            parts.append(self._run_rows(np.stack(batch)))

        if not parts:
            return {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def as_array(source: Source, sample_rate_hz: int | None) -> tuple[NDArray[np.generic], int] | None:
    """Return the array that a source is, with its rate; None for a file.

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


def with_doubts(heard: Heard, source_rate_hz: int, model_rate_hz: int) -> Heard:
    """Add the rate of the track itself to what was heard of it, and warn where that makes no answer to trust."""
    warnings = heard.warnings + doubts(heard.duration_s, source_rate_hz, model_rate_hz)
    return replace(heard, warnings=warnings, source_rate_hz=source_rate_hz)


def ends_early(pieces: audio.Spans, spans: Sequence[tuple[int, int]]) -> bool:
    """Tell whether a file ended before the length it told, so that pieces of it are missing.

    Parameters
    ----------
    pieces : Spans
        What was decoded.
    spans : sequence of (int, int)
        First sample and number of samples of what was asked for.
    """
    slack = round(_ROUNDED_LENGTH_S * pieces.sample_rate_hz)
    wanted = zip(pieces.waveforms, spans, strict=True)
    return any(length - len(piece) > slack for piece, (_, length) in wanted)
