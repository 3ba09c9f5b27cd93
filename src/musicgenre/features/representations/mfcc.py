"""Mel-frequency cepstral coefficients, frame by frame.

Preset `e1`: 22,050 Hz, 3 s -> 130 frames x 13 coefficients, equal to librosa's `mfcc` of each segment (the floor of
80 dB lies below the loudest value of the segment, not of the track).
"""

from __future__ import annotations

from typing import Any

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, fit_length
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.registry import register
from musicgenre.features.representations.melspectrogram import MelFeatures, fast_melspectrogram

PRESETS: dict[str, tuple[MelSpec, float]] = {
    "e1": (MelSpec(sample_rate_hz=22_050, n_fft=2_048, hop_length=512, n_mels=128, top_db=80.0, n_mfcc=13), 3.0),
}


@register("mfcc")
class Mfcc(MelFeatures):
    """MFCCs of one segment, shape (n_frames, n_mfcc): time first, as recurrent nets and the reports read them.

    Parameters
    ----------
    preset : {"e1"}
        Where the settings start from.
    segment_s : float, optional
        Segment length; the preset's own by default.
    **changes
        Any field of `musicgenre.features.mel.specification.MelSpec`.
    """

    name = "mfcc"
    row_axis = 1

    def __init__(self, *, preset: str = "e1", segment_s: float | None = None, **changes: Any) -> None:
        super().__init__(PRESETS, preset, segment_s, changes)
        if self.spec.n_mfcc is None:
            raise UsageError("n_mfcc=None makes a mel spectrogram", next_step="Use 'melspectrogram', or give n_mfcc")

    def shape(self) -> tuple[int, ...]:
        """(n_frames, n_mfcc)."""
        return (self.spec.n_frames(self.n_samples), self.spec.n_rows)

    def compute(self, waveform: Float32) -> Float32:
        """Compute the coefficients of `waveform`, shape (n_samples,), cut or zero-padded to the segment."""
        return fast_melspectrogram(fit_length(waveform, self.n_samples), self.spec).T.copy()
