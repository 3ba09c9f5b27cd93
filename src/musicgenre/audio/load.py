"""Whole sounds and exact pieces of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import index

import numpy as np

from musicgenre.audio._decoder import Decoder
from musicgenre.audio._resample import Resampler, Stretch, checked_rate, plan
from musicgenre.audio.sound import Float32, Sound, Source, Spans
from musicgenre.errors import AudioError


def load(source: Source, sample_rate_hz: int, *, start_s: float = 0.0, duration_s: float | None = None) -> Sound:
    """Decode a source, or a part of it, to mono float32.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        A path, or a seekable file object opened in binary mode (read from its beginning, put back afterwards).
    sample_rate_hz : int
        Rate of the result, 1000 to 768000.
    start_s, duration_s : float
        Part to decode, in seconds; by default all. Less comes back where the source ends earlier.

    Returns
    -------
    Sound
        All channels averaged, resampled by soxr (HQ).

    Raises
    ------
    AudioError
        When the source cannot be opened or decoded, or holds no samples (in that part).
    """
    rate = checked_rate(sample_rate_hz, "sample_rate_hz")
    span = _part(start_s, duration_s, rate)
    with Decoder(source) as decoder:
        waveform = _pieces(decoder, rate, [span])[0]
        warnings = decoder.finish()
        if not len(waveform):
            raise _nothing(decoder, start_s)
        length_s = decoder.info.duration_s
        if span == (0, None):
            length_s = len(waveform) / rate
        return Sound(waveform, rate, length_s, warnings)


def load_spans(source: Source, sample_rate_hz: int, spans: Sequence[tuple[int, int]]) -> Spans:
    """Decode only some pieces of a source, each exactly as :func:`load` would give it.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        As in :func:`load`.
    sample_rate_hz : int
        Rate of the result, 1000 to 768000.
    spans : sequence of (int, int)
        First sample and number of samples of each piece, both at ``sample_rate_hz``; in any order, also overlapping.

    Returns
    -------
    Spans
        One array a span: ``load(...).waveform[first : first + n]`` within 1e-4, so shorter where the source ends.

    Raises
    ------
    AudioError
        When the source cannot be opened or decoded, or a span is negative.

    Notes
    -----
    Decoding jumps to each piece where the format allows an exact jump and reads on from the last one where it does
    not. AAC may fill bands with noise from a generator that runs on from frame to frame: after a jump that noise is
    another one (of the same loudness), everything else is the same.
    """
    rate = checked_rate(sample_rate_hz, "sample_rate_hz")
    checked = [_checked_span(span) for span in spans]
    with Decoder(source) as decoder:
        waveforms = _pieces(decoder, rate, checked)
        return Spans(tuple(waveforms), rate, decoder.info.duration_s, decoder.finish())


def _pieces(decoder: Decoder, rate_hz: int, spans: Sequence[tuple[int, int | None]]) -> list[Float32]:
    pieces: list[Float32] = [np.zeros(0, dtype=np.float32) for _ in spans]
    for stretch in plan(spans, decoder.rate_hz, rate_hz):
        waveform = _decode(decoder, stretch, rate_hz)
        for member in stretch.members:
            start, length = spans[member]
            first = start - stretch.offset
            piece = waveform[first:] if length is None else waveform[first : first + length]
            pieces[member] = piece if len(stretch.members) == 1 and first == 0 else piece.copy()
    return pieces


def _decode(decoder: Decoder, stretch: Stretch, rate_hz: int) -> Float32:
    resampler = Resampler(decoder.rate_hz, rate_hz)
    decoder.seek(stretch.first)
    parts = [resampler.push(block) for block in _blocks(decoder, stretch.stop)]
    parts.append(resampler.push(np.zeros(0, dtype=np.float32), last=True))
    return np.concatenate(parts)


def _blocks(decoder: Decoder, stop: int | None) -> Iterator[Float32]:
    while len(block := decoder.read(stop)):
        yield block


def _part(start_s: float, duration_s: float | None, rate_hz: int) -> tuple[int, int | None]:
    for name, value in (("start_s", start_s), ("duration_s", duration_s)):
        if value is not None and not 0 <= value < float("inf"):
            raise AudioError(f"{name} is {value}", valid="Seconds, 0 or more", next_step=f"Correct {name}")
    return round(start_s * rate_hz), None if duration_s is None else round(duration_s * rate_hz)


def _checked_span(span: tuple[int, int]) -> tuple[int, int]:
    start, length = index(span[0]), index(span[1])
    if start < 0 or length < 0:
        raise AudioError(
            f"the span ({start}, {length}) is negative",
            valid="(first sample, number of samples), 0 or more",
            next_step="Correct the span",
        )
    return start, length


def _nothing(decoder: Decoder, start_s: float) -> AudioError:
    length_s = decoder.info.duration_s
    if start_s and length_s:
        return AudioError(
            f"{decoder.name} has nothing at {start_s:g} s",
            valid=f"It is {length_s:.2f} s long",
            next_step="Start earlier",
        )
    return AudioError(
        f"{decoder.name} holds no samples",
        valid="At least one sample at the wanted rate",
        next_step="Record, copy or download it again",
    )
