"""Long sounds, block by block in flat memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from musicgenre.audio._decoder import Decoder
from musicgenre.audio._resample import Resampler, checked_rate
from musicgenre.audio.sound import AudioInfo, Float32, Source
from musicgenre.errors import AudioError


class SoundStream:
    """Iterator over the blocks of one source; made by :func:`stream`.

    Attributes
    ----------
    info : AudioInfo
        What the source says about itself.
    warnings : tuple of str
        What was odd; complete once the iterator is exhausted.
    """

    def __init__(self, source: Source, sample_rate_hz: int, block_s: float) -> None:
        self._rate = checked_rate(sample_rate_hz, "sample_rate_hz")
        if not 0 < block_s < float("inf"):
            raise AudioError(f"block_s is {block_s}", valid="Seconds, more than 0", next_step="Correct block_s")
        self._block_samples = max(1, round(block_s * self._rate))
        self._decoder = Decoder(source)
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
        with self._decoder:
            held: list[Float32] = []
            n_held, n_given = 0, 0
            for part in self._resampled():
                held.append(part)
                n_held += len(part)
                while n_held >= self._block_samples:
                    joined = np.concatenate(held)
                    held, n_held = [joined[self._block_samples :]], n_held - self._block_samples
                    n_given += self._block_samples
                    yield joined[: self._block_samples]
            self.warnings = self._decoder.finish()
            if n_held:
                yield np.concatenate(held)
            elif not n_given:
                raise AudioError(
                    f"{self._decoder.name} holds no samples", next_step="Record, copy or download it again"
                )

    def _resampled(self) -> Iterator[Float32]:
        resampler = Resampler(self._decoder.rate_hz, self._rate)
        while len(block := self._decoder.read()):
            yield resampler.push(block)
        yield resampler.push(np.zeros(0, dtype=np.float32), last=True)


def stream(source: Source, sample_rate_hz: int, *, block_s: float = 30.0) -> SoundStream:
    """Decode a source block by block, with the memory of one block however long it is.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        As in :func:`~musicgenre.audio.load`; it is opened (and refused) at once, not at the first block.
    sample_rate_hz : int
        Rate of the blocks, 1000 to 768000.
    block_s : float
        Length of a block in seconds; only the last one is shorter.

    Returns
    -------
    SoundStream
        Iterator of float32 arrays of shape (n_samples,), which joined equal ``load(...).waveform``. Its ``warnings``
        are complete at the end.

    Raises
    ------
    AudioError
        When the source cannot be opened or decoded, or holds no samples.
    """
    return SoundStream(source, sample_rate_hz, block_s)
