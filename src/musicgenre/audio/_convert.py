"""From the source's channels and rate to one channel at the wanted rate; samples that are no numbers are repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, gcd
from operator import index

import numpy as np

from musicgenre.audio.sound import Float32
from musicgenre.errors import AudioError

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 768_000
# Mean power below which a sound counts as silence: -90 dB of full scale, under the dither of 16 bits.
SILENT_POWER = 1e-9
# Mean power that no sound in full scale has: integers stored as floats, most likely.
_ABSURD_POWER = 100.0
# Reach of soxr's HQ filter to either side, in samples of the lower rate; 130 are enough for 1e-6.
_CONTEXT_SAMPLES = 512
# Pieces that are nearer than this are decoded in one go: cheaper than another jump.
_JOIN_S = 0.25


def mix_down(block: Float32) -> Float32:
    """Average the channels: (n, channels) -> (n,)."""
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0].copy()
    with np.errstate(all="ignore"):  # infinities are dealt with later, by Tally
        return np.asarray(block @ np.full(channels, 1 / channels, dtype=np.float32))  # 40 times faster than mean


class Tally:
    """Watches the samples that go by: repairs what is no number and remembers what was odd."""

    def __init__(self) -> None:
        self.n_samples = 0
        self.n_bad = 0
        self._energy = 0.0
        self._channel_energy = 0.0

    def take(self, block: Float32) -> Float32:
        """Mix (n, channels) down to (n,), with 0 for every NaN and infinity."""
        mono = mix_down(block)
        with np.errstate(all="ignore"):
            energy = float(np.dot(mono, mono))

        if not np.isfinite(energy):  # something is no number, or so large that its square overflows
            bad = ~np.isfinite(mono)
            mono[bad] = 0.0
            self.n_bad += int(bad.sum())
            energy = float(np.square(mono, dtype=np.float64).sum())
        elif block.shape[1] > 1 and energy <= SILENT_POWER * len(mono):
            # Silent after the mix: were the channels silent too, or did they cancel each other?
            self._channel_energy += float(np.square(block, dtype=np.float64).mean(axis=1).sum())

        self.n_samples += len(mono)
        self._energy += energy
        return mono

    @property
    def nothing_valid(self) -> bool:
        """Whether there were samples and not one of them was a number."""
        return 0 < self.n_samples == self.n_bad

    def notes(self) -> list[str]:
        """Say what was odd, one clause each."""
        notes = []
        if self.n_bad:
            notes.append(f"{self.n_bad} of {self.n_samples} samples are NaN or infinite: replaced by 0")

        power = self._energy / max(self.n_samples, 1)
        if self.n_samples and power <= SILENT_POWER:
            if self._channel_energy > SILENT_POWER * self.n_samples:
                notes.append("silence: the channels cancel each other in the mix to mono")
            else:
                notes.append("silence: no sound in what was heard")
        elif power > _ABSURD_POWER:
            notes.append(f"samples far beyond full scale (RMS {power**0.5:.3g}): integers stored as floats?")
        return notes


class Resampler:
    """Stateful resampler: blocks in, blocks out, the same samples as in one go."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def push(self, block: Float32, *, last: bool = False) -> Float32:
        """Feed samples (n,), get what is ready; `last` flushes the rest."""
        if self._stream is None:
            return block
        return np.asarray(self._stream.resample_chunk(np.ascontiguousarray(block), last=last))


@dataclass(frozen=True, slots=True)
class Stretch:
    """One run of source frames that covers some of the spans.

    `first` and `stop` are source frames (`stop` None: to the end), `offset` is the target sample that the first
    resampled sample is, and `members` are the indices of the spans inside.
    """

    first: int
    stop: int | None
    offset: int
    members: tuple[int, ...]


def plan(spans: Sequence[tuple[int, int | None]], from_hz: int, to_hz: int) -> list[Stretch]:
    """Turn spans (start, length; None: to the end) in target samples into stretches of source frames, in order."""
    common = gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    reach = 0 if from_hz == to_hz else _CONTEXT_SAMPLES

    stretches: list[Stretch] = []
    for member in sorted(range(len(spans)), key=lambda i: spans[i][0]):
        start, length = spans[member]
        if length == 0:
            continue

        # Surround the span with the filter's reach, beginning where both rates have a sample at the same time.
        block = max(0, start - ceil(reach * max(1.0, to_hz / from_hz))) // up
        stop = None
        if length is not None:
            stop = ceil((start + length) * from_hz / to_hz) + ceil(reach * max(1.0, from_hz / to_hz))
        new = Stretch(block * down, stop, block * up, (member,))

        before = stretches[-1] if stretches else None
        if before is None or (before.stop is not None and new.first > before.stop + _JOIN_S * from_hz):
            stretches.append(new)
            continue
        stop = None if before.stop is None or stop is None else max(before.stop, stop)
        stretches[-1] = Stretch(before.first, stop, before.offset, (*before.members, member))
    return stretches


def to_rate(value: object, what: str) -> int:
    """Return a sample rate as an int.

    Raises
    ------
    AudioError
        It is no whole number, or out of range; `what` names it.
    """
    valid = f"A whole number from {MIN_RATE_HZ} to {MAX_RATE_HZ}"
    if isinstance(value, (float, np.floating)) and value.is_integer():
        value = int(value)
    try:
        rate_hz = index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise AudioError(f"{what} is {value!r}", valid=valid, next_step="Give the rate in Hz") from error
    if isinstance(value, bool) or not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioError(f"{what} is {value} Hz", valid=valid, next_step="Check where the rate comes from")
    return rate_hz
