"""How a track is cut into the segments a model reads, and which of them are heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from musicgenre.audio import MAX_DURATION_S
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.bundle.card import BundleCard

Float32 = NDArray[np.float32]

_JUST_FITS = 1e-9  # of a hop: a last segment that just fits counts


@dataclass(frozen=True, slots=True)
class Framing:
    """Where a model's segments lie.

    The waveform is padded with `lead_samples` zeros in front and `tail_samples` behind (as many as in front unless
    given); segment `k` begins at the padded sample `k * hop_samples`, rounded, and has `segment_samples`. A partial
    tail is dropped. A track shorter than one segment is repeated until it fills one (`repeat_short`), or zero-padded
    at its end.
    """

    sample_rate_hz: int
    segment_samples: int
    hop_samples: float  # whole or not: starts are rounded one by one, as in training, so that they do not drift
    lead_samples: int = 0
    repeat_short: bool = True
    tail_samples: int | None = None

    @classmethod
    def of(cls, card: BundleCard) -> Framing:
        """Cut tracks as a bundle's card says.

        MusiCNN heard short tracks repeated when it was trained, and so do other published networks here; exported
        networks heard them with zeros behind.
        """
        return cls(
            card.sample_rate_hz,
            card.segment_samples,
            card.hop_samples,
            card.lead_samples,
            repeat_short=card.kind == "embedding" or bool(card.stages),
            tail_samples=card.tail_samples,
        )

    @property
    def behind_samples(self) -> int:
        """Zeros behind the waveform."""
        return self.lead_samples if self.tail_samples is None else self.tail_samples

    @property
    def hop_s(self) -> float:
        """Distance between segments in seconds."""
        return self.hop_samples / self.sample_rate_hz

    @property
    def shortest_samples(self) -> int:
        """Samples that one whole segment needs, its zero padding left out."""
        return self.segment_samples - self.lead_samples - self.behind_samples

    def n_segments(self, n_samples: int) -> int:
        """Whole segments in `n_samples` samples."""
        room = n_samples - self.shortest_samples
        count = 1 + int(room / self.hop_samples + _JUST_FITS) if room >= 0 else 0
        while count > 1 and self._start(count - 1) > room:  # rounded past the end
            count -= 1
        return count

    def span(self, index: int, n_samples: int) -> tuple[int, int]:
        """Start and length, in samples of the unpadded waveform, of segment `index`."""
        start = self._start(index) - self.lead_samples
        stop = min(start + self.segment_samples, n_samples)
        return max(0, start), stop - max(0, start)

    def row(self, index: int, samples: Float32) -> Float32:
        """Put the samples of a span into a segment of full length, zeros where the padding lies."""
        row = np.zeros(self.segment_samples, dtype=np.float32)
        offset = self.lead_samples if index == 0 else 0
        row[offset : offset + len(samples)] = samples
        return row

    def times_s(self, index: int) -> tuple[float, float]:
        """Start and end of segment `index` in seconds of the track (its padding left out)."""
        start_s = index * self.hop_samples / self.sample_rate_hz
        return start_s, start_s + min(self.hop_samples, self.segment_samples) / self.sample_rate_hz

    def _start(self, index: int) -> int:
        """First sample of a segment in the padded waveform."""
        return round(index * self.hop_samples)

    def fill_short(self, waveform: Float32) -> Float32:
        """Bring a waveform that is too short for one segment to exactly that length."""
        if self.repeat_short:
            return np.resize(waveform, self.shortest_samples)  # which goes round and round
        return np.pad(waveform, (0, self.shortest_samples - len(waveform)))

    def rows(self, blocks: Iterable[Float32]) -> Iterator[tuple[int, Float32]]:
        """Cut a stream of blocks into (index, segment) pairs, holding little more than one block."""
        buffer = np.zeros(self.lead_samples, dtype=np.float32)
        behind = np.zeros(self.behind_samples, dtype=np.float32)
        index = start = 0  # of the next segment; its start is a place in the buffer

        for block in chain(blocks, [behind]):
            dropped = min(start, len(buffer))  # a hop longer than the segment may reach past the buffer
            buffer = np.concatenate((buffer[dropped:], block))
            start -= dropped

            while start + self.segment_samples <= len(buffer):
                yield index, buffer[start : start + self.segment_samples]
                index += 1
                start += self._start(index) - self._start(index - 1)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a track is heard: `seconds` evenly spread, or all of it where `seconds` is None.

    Files of more than `max_duration_s` are refused.
    """

    seconds: float | None
    max_duration_s: float = MAX_DURATION_S

    @classmethod
    def parse(cls, value: str | float | None, max_duration_s: float | None = None) -> Coverage:
        """Read `full`, None (full) or a number of seconds.

        Parameters
        ----------
        value : str, float or None
            How much is heard.
        max_duration_s : float, optional
            Length of the longest file that is heard, in seconds; `inf` for any.

        Raises
        ------
        UsageError
            When the value is neither, or not a positive finite number, or the longest file has no length.
        """
        limit_s = MAX_DURATION_S if max_duration_s is None else max_duration_s
        if not limit_s > 0:
            raise UsageError(
                f"a longest track of {limit_s:g} s leaves nothing to hear",
                valid="Seconds above 0, such as 3600, or inf for tracks of any length",
                next_step="Correct --max-duration-s (max_duration_s in Python)",
            )
        if value is None or value == "full":
            return cls(None, limit_s)

        try:
            seconds = float(value)
        except (TypeError, ValueError, OverflowError):
            seconds = float("nan")  # which is not above 0

        if not 0 < seconds < float("inf"):
            raise UsageError(f"coverage {value!r} cannot be used", valid="Give 'full' or seconds above 0, such as 12")
        return cls(seconds, limit_s)

    def choose(self, n_segments: int, hop_s: float) -> list[int]:
        """Choose the segments to hear: the centres of equal parts of the track.

        Parameters
        ----------
        n_segments : int
            Whole segments the track has.
        hop_s : float
            Seconds from one segment to the next.
        """
        if self.seconds is None:
            return list(range(n_segments))

        # The smaller number is taken before rounding, as whoever wants 1e300 s wants all of it.
        wanted = min(n_segments, max(1, round(min(self.seconds / hop_s, n_segments))))
        return [int((i + 0.5) * n_segments / wanted) for i in range(wanted)]
