"""The classical feature table: 57 columns a track, those of the table that circulates with GTZAN.

With the waveform mirrored at its ends and the defaults of librosa 0.11, all 57 columns of that table come out again.
Its harmonic and percussive waveforms end with the last whole hop and go on as zeros, as librosa's did in those days;
`tail="whole"` counts the last samples too, as librosa's do today.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from musicgenre._text import unknown_name
from musicgenre.errors import UsageError, needing
from musicgenre.features.base import Float32, Representation, fit_length, segment_samples
from musicgenre.features.classical.rhythm import RHYTHM_COLUMNS
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.registry import register

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
"""Names of the values, in the order of the published table."""


@register("table")
class Table(Representation):
    """Feature table row of a track or a segment, shape (57,), or (64,) with `rhythm`.

    Parameters
    ----------
    segment_s : float, optional
        Length of what one row describes: 3 for the table of 3 s rows; by default the whole track.
    rhythm : bool
        Append `musicgenre.features.classical.rhythm.RHYTHM_COLUMNS`.
    tail : {"zero", "whole"}
        How the harmonic and percussive waveforms end: as in the published table, or as librosa has them today.
    """

    name = "table"
    sample_rate_hz = SPEC.sample_rate_hz
    row_axis = 0
    extra = "features"

    def __init__(self, *, segment_s: float | None = None, rhythm: bool = False, tail: str = "zero") -> None:
        if tail not in TAILS:
            raise unknown_name("tail", str(tail), TAILS)
        if segment_s is not None and segment_s <= 0:
            raise UsageError(f"segment_s={segment_s} is not positive")

        self.segment_s = segment_s
        self.rhythm = rhythm
        self.tail = tail
        self.columns = (*COLUMNS, *RHYTHM_COLUMNS) if rhythm else COLUMNS

    def shape(self) -> tuple[int, ...]:
        """(n_columns,)."""
        return (len(self.columns),)

    def compute(self, waveform: Float32) -> Float32:
        """Compute the row of `waveform`, shape (n_samples,); float32, as it is stored."""
        return self.row(waveform).astype(np.float32)

    def row(self, waveform: Float32) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Compute the row in float64, shape (n_columns,)."""
        with needing("computing the feature table", "features"):
            from musicgenre.features.classical import table_row

        length = len(waveform)
        if self.segment_s is not None:
            length = segment_samples(self.sample_rate_hz, self.segment_s)
        # The mirrored ends and one frame need a little more than half a window.
        sound = fit_length(waveform, max(length, SPEC.n_fft))
        return table_row.row(sound, SPEC, N_MFCC, whole_tail=self.tail == "whole", with_rhythm=self.rhythm)

    def settings(self) -> dict[str, Any]:
        """Segment length, further columns and tail."""
        return super().settings() | {"segment_s": self.segment_s, "rhythm": self.rhythm, "tail": self.tail}
