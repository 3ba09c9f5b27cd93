"""Sound from files and arrays: whole, in exact pieces, or block by block."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from math import inf
from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.audio._convert import Resampler, Tally, to_rate
from musicgenre.audio._decoder import Decoder
from musicgenre.audio.sound import MAX_DURATION_S, AudioInfo, Float32, Sound, Source, Spans
from musicgenre.audio.workers import open_decoder
from musicgenre.errors import AudioError

# More columns than this are samples in the wrong direction, not channels.
_MAX_CHANNELS = 64


def open_source(source: Source | Decoder, *, max_duration_s: float = MAX_DURATION_S) -> Decoder:
    """Open a source once, to ask it (`info`) and then to hear it.

    Parameters
    ----------
    source : str, path-like, BinaryIO or Decoder
        As in `load`, or what this function gave before, which keeps its limit.
    max_duration_s : float
        Longest track that is decoded, in seconds; `inf` for any. A header that tells more than is there is not
        believed, and where none tells the length decoding ends at the limit, with the same error.

    Returns
    -------
    Decoder
        A context manager. `load`, `load_spans` and `stream` take it in the place of its source: the first of them goes
        on with what is open and closes it, another one opens the source again. One thread at a time.

    Raises
    ------
    AudioError
        When the source cannot be opened or decoded, or is longer than `max_duration_s`.
    """
    if not isinstance(source, Decoder):
        return open_decoder(source, max_duration_s)
    return open_decoder(source.source, source.max_duration_s) if source.is_closed else source


def probe(source: Source) -> AudioInfo:
    """Tell format, rate, channels and length of a source without decoding it.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        A path, or a seekable file object opened in binary mode.

    Returns
    -------
    AudioInfo
        What the header says. Only where a format has no header that tells the length (raw AAC, MP3 without a Xing
        header) the file is walked through, still undecoded.

    Raises
    ------
    AudioError
        When the source is missing, not a regular file, empty, not audio, or has an impossible sample rate.
    """
    with open_decoder(source, inf) as decoder:
        return decoder.info


def measure(source: Source | Decoder) -> tuple[float, tuple[str, ...]]:
    """Decode a source to its end and keep nothing, where no header can be believed.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        As in `load`.

    Returns
    -------
    duration_s : float
        Its length in seconds.
    warnings : tuple of str
        What was odd about the file; how it sounds is not judged.

    Raises
    ------
    AudioError
        When the source cannot be opened or decoded.
    """
    with open_source(source) as decoder:
        return decoder.measure()


def load(
    source: Source | Decoder, sample_rate_hz: int, *, start_s: float = 0.0, duration_s: float | None = None
) -> Sound:
    """Decode a source, or a part of it, to mono float32.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        A path, or a seekable file object opened in binary mode (read from its beginning, put back afterwards); what
        lasts longer than a day only as `open_source(source, max_duration_s=...)`.
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
    rate_hz = to_rate(sample_rate_hz, "sample_rate_hz")
    for name, value in (("start_s", start_s), ("duration_s", duration_s)):
        if value is not None and not 0 <= value < float("inf"):
            raise AudioError(f"{name} is {value}", valid="Seconds, 0 or more", next_step=f"Correct {name}")
    start = round(start_s * rate_hz)
    length = None if duration_s is None else round(duration_s * rate_hz)

    with open_source(source) as decoder:
        waveform = decoder.pieces(rate_hz, [(start, length)])[0]
        warnings = decoder.finish()
        told_s = decoder.info.duration_s

    if not len(waveform):
        if start_s and told_s:
            raise AudioError(
                f"{decoder.name} has nothing at {start_s:g} s",
                valid=f"It is {told_s:.2f} s long",
                next_step="Start earlier",
            )
        raise AudioError(
            f"{decoder.name} holds no samples",
            valid="At least one sample at the wanted rate",
            next_step="Record, copy or download it again",
        )

    if (start, length) == (0, None):
        told_s = len(waveform) / rate_hz  # all of it was decoded: better than any header
    return Sound(waveform, rate_hz, told_s, warnings)


def load_spans(source: Source | Decoder, sample_rate_hz: int, spans: Sequence[tuple[int, int]]) -> Spans:
    """Decode only some pieces of a source, each exactly as `load` would give it.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        As in `load`.
    sample_rate_hz : int
        Rate of the result, 1000 to 768000.
    spans : sequence of (int, int)
        First sample and number of samples of each piece, both at `sample_rate_hz`; in any order, also overlapping.

    Returns
    -------
    Spans
        One array a span: `load(...).waveform[first : first + n]` within 1e-4, so shorter where the source ends.

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
    rate_hz = to_rate(sample_rate_hz, "sample_rate_hz")
    wanted = [(index(start), index(length)) for start, length in spans]
    for start, length in wanted:
        if start < 0 or length < 0:
            raise AudioError(
                f"the span ({start}, {length}) is negative",
                valid="(first sample, number of samples), 0 or more",
                next_step="Correct the span",
            )

    with open_source(source) as decoder:
        waveforms = decoder.pieces(rate_hz, wanted)
        return Spans(tuple(waveforms), rate_hz, decoder.info.duration_s, decoder.finish())


class SoundStream:
    """Iterator over the blocks of one source; made by `stream`.

    Attributes
    ----------
    info : AudioInfo
        What the source says about itself.
    warnings : tuple of str
        What was odd; complete once the iterator is exhausted.
    """

    def __init__(self, source: Source | Decoder, sample_rate_hz: int, block_s: float) -> None:
        self._rate_hz = to_rate(sample_rate_hz, "sample_rate_hz")
        if not 0 < block_s < float("inf"):
            raise AudioError(f"block_s is {block_s}", valid="Seconds, more than 0", next_step="Correct block_s")
        self._block_samples = max(1, round(block_s * self._rate_hz))
        self._decoder = open_source(source)
        self.info: AudioInfo = self._decoder.info
        self.warnings: tuple[str, ...] = ()
        self._blocks = self._run()

    def __iter__(self) -> Iterator[Float32]:
        """Return itself: a stream is heard once."""
        return self

    def __next__(self) -> Float32:
        """Give the next block."""
        return next(self._blocks)

    def close(self) -> None:
        """Let go of the source before its end."""
        self._blocks.close()
        self._decoder.close()

    def _run(self) -> Generator[Float32]:
        """Cut what the decoder gives into blocks of one length."""
        with self._decoder:
            held: list[Float32] = []
            n_held, n_given = 0, 0
            for part in self._decoder.resampled(self._rate_hz):
                held.append(part)
                n_held += len(part)
                while n_held >= self._block_samples:
                    joined = np.concatenate(held)
                    held, n_held = [joined[self._block_samples :]], n_held - self._block_samples
                    n_given += self._block_samples
                    yield joined[: self._block_samples]

            # The warnings are complete before the last block is given, for readers who stop there.
            self.warnings = self._decoder.finish()
            if n_held:
                yield np.concatenate(held)
            elif not n_given:
                raise AudioError(
                    f"{self._decoder.name} holds no samples", next_step="Record, copy or download it again"
                )


def stream(source: Source | Decoder, sample_rate_hz: int, *, block_s: float = 30.0) -> SoundStream:
    """Decode a source block by block, with the memory of one block however long it is.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        As in `load`; it is opened (and refused) at once, not at the first block.
    sample_rate_hz : int
        Rate of the blocks, 1000 to 768000.
    block_s : float
        Length of a block in seconds; only the last one is shorter.

    Returns
    -------
    SoundStream
        Iterator of float32 arrays of shape (n_samples,), which joined equal `load(...).waveform`. Its `warnings`
        are complete at the end.

    Raises
    ------
    AudioError
        When the source cannot be opened or decoded, or holds no samples.
    """
    return SoundStream(source, sample_rate_hz, block_s)


def from_array(array: ArrayLike, array_rate_hz: int, sample_rate_hz: int) -> Sound:
    """Mix samples in memory down to mono float32 and resample them.

    Parameters
    ----------
    array : array-like, shape (n_samples,) or (n_samples, n_channels)
        Floats with full scale 1, or integers with the full scale of their type.
    array_rate_hz : int
        The array's own sample rate, 1000 to 768000.
    sample_rate_hz : int
        Rate of the result, 1000 to 768000.

    Returns
    -------
    Sound
        A copy, never a view of `array`.

    Raises
    ------
    AudioError
        When the array has no samples, not one valid sample, the wrong shape or a type that is no sound.
    """
    from_hz = to_rate(array_rate_hz, "array_rate_hz")
    to_hz = to_rate(sample_rate_hz, "sample_rate_hz")
    tally = Tally()
    mono = tally.take(_as_columns(np.asarray(array)))
    if tally.nothing_valid:
        raise AudioError(
            "the array holds only NaN or infinite samples", valid="Numbers", next_step="Check where it comes from"
        )

    waveform = Resampler(from_hz, to_hz).push(mono, last=True)
    if not len(waveform):
        raise AudioError(
            f"the array holds no sound: {len(mono)} samples at {from_hz} Hz",
            valid="At least one sample at the wanted rate",
            next_step="Check where it comes from",
        )
    return Sound(waveform, to_hz, len(mono) / from_hz, tuple(tally.notes()))


def _as_columns(array: NDArray[np.generic]) -> Float32:
    """Check the shape and scale to float32: (n, channels), always a copy."""
    valid = f"(n_samples,) or (n_samples, n_channels) with 1 to {_MAX_CHANNELS} channels"
    if array.ndim not in (1, 2):
        raise AudioError(f"an array of shape {array.shape} is no sound", valid=valid, next_step="Reshape it")
    columns = array[:, np.newaxis] if array.ndim == 1 else array
    channels = columns.shape[1]
    if not 1 <= channels <= _MAX_CHANNELS:
        raise AudioError(
            f"an array of shape {array.shape} has {channels} channels",
            valid=valid,
            next_step="Pass array.T if the channels come first",
        )

    kind = array.dtype.kind
    if kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is counted by Tally
            return columns.astype(np.float32)
    if kind in "iu":
        half = 2.0 ** (8 * array.dtype.itemsize - 1)
        shift = half if kind == "u" else 0.0  # unsigned samples lie around the middle of their range
        return ((columns.astype(np.float64) - shift) / half).astype(np.float32)
    raise AudioError(
        f"an array of {array.dtype} is no sound", valid="Floats or integers", next_step="Convert it to float32"
    )
