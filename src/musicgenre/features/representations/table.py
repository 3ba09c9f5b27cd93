"""The classical feature table: 57 columns a track, those of the table that circulates with GTZAN.

With the waveform mirrored at its ends and the defaults of librosa 0.11, all 57 columns of that table come out again.
Its harmonic and percussive waveforms end with the last whole hop and go on as zeros, as librosa's did in those days;
``tail="whole"`` counts the last samples too, as librosa's do today.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, fit_length, needing, segment_samples
from musicgenre.features.classical import rhythm
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.registry import register, unknown

VERSION = 1

N_MFCC = 20
TAILS = ("zero", "whole")
SPEC = MelSpec(sample_rate_hz=22_050, n_fft=2_048, hop_length=512, n_mels=128, pad_mode="reflect", top_db=80.0)

_PAIRS = (
    "chroma_stft",
    "rms",
    "spectral_centroid",
    "spectral_bandwidth",
    "rolloff",
    "zero_crossing_rate",
    "harmony",
    "perceptr",
)
_CEPSTRA = tuple(f"mfcc{index}" for index in range(1, N_MFCC + 1))
COLUMNS = (
    *(f"{name}_{moment}" for name in _PAIRS for moment in ("mean", "var")),
    "tempo",
    *(f"{name}_{moment}" for name in _CEPSTRA for moment in ("mean", "var")),
)


@register("table")
class Table:
    """Feature table row of a track or a segment, shape (57,), or (64,) with ``rhythm``.

    Parameters
    ----------
    segment_s : float, optional
        Length of what one row describes: 3 for the table of 3 s rows; by default the whole track.
    rhythm : bool
        Append :data:`musicgenre.features.classical.rhythm.RHYTHM_COLUMNS`.
    tail : {"zero", "whole"}
        How the harmonic and percussive waveforms end: as in the published table, or as librosa has them today.
    """

    name = "table"
    sample_rate_hz = SPEC.sample_rate_hz
    row_axis: int | None = 0

    def __init__(self, *, segment_s: float | None = None, rhythm: bool = False, tail: str = "zero") -> None:
        if tail not in TAILS:
            raise unknown("tail", tail, list(TAILS))
        if segment_s is not None and segment_s <= 0:
            raise UsageError(f"segment_s={segment_s} is not positive")
        self.segment_s = segment_s
        self.rhythm = rhythm
        self.tail = tail

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values, in the order of the published table."""
        return (*COLUMNS, *rhythm.RHYTHM_COLUMNS) if self.rhythm else COLUMNS

    def shape(self) -> tuple[int, ...]:
        """(n_columns,)."""
        return (len(self.columns),)

    def compute(self, waveform: Float32) -> Float32:
        """Compute the row of ``waveform``, shape (n_samples,); float32, as it is stored."""
        return self.row(waveform).astype(np.float32)

    def row(self, waveform: Float32) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Compute the row in float64, shape (n_columns,)."""
        length = len(waveform) if self.segment_s is None else segment_samples(self.sample_rate_hz, self.segment_s)
        # The mirrored ends and one frame need a little more than half a window.
        sound = fit_length(waveform, max(length, SPEC.n_fft))
        with needing("computing the feature table", "features"):
            from musicgenre.features.classical import table_row as _table
        return _table.row(sound, SPEC, N_MFCC, whole_tail=self.tail == "whole", with_rhythm=self.rhythm)

    def settings(self) -> dict[str, Any]:
        """Segment length, further columns and tail."""
        return {
            "name": self.name,
            "version": VERSION,
            "segment_s": self.segment_s,
            "rhythm": self.rhythm,
            "tail": self.tail,
        }
