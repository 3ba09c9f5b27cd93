"""The waveform itself, for networks that hear sound directly (wav2vec 2.0 and its like)."""

from __future__ import annotations

from typing import Any

import numpy as np

from musicgenre._text import unknown_name
from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, Representation, fit_length, segment_samples
from musicgenre.features.registry import register

SCALES = ("none", "peak", "standard")
_SMALLEST = 1e-7


@register("waveform")
class Waveform(Representation):
    """Samples of one segment, shape (n_samples,), cut or zero-padded to one length.

    Parameters
    ----------
    sample_rate_hz : int
        The rate, 16 kHz as in C5.
    segment_s : float
        Segment length.
    scale : {"none", "peak", "standard"}
        `none`: as decoded, within [-1, 1]. `peak`: the loudest sample becomes 1 or -1. `standard`: mean 0 and variance
        1, what wav2vec 2.0 was trained on. Digital silence stays zero.
    """

    name = "waveform"
    graph_front_end = True

    def __init__(self, *, sample_rate_hz: int = 16_000, segment_s: float = 30.0, scale: str = "none") -> None:
        if scale not in SCALES:
            raise unknown_name("waveform scale", str(scale), SCALES)
        if sample_rate_hz < 1 or segment_s <= 0:
            raise UsageError(f"sample_rate_hz={sample_rate_hz}, segment_s={segment_s}: both must be positive")

        self.sample_rate_hz = sample_rate_hz
        self.segment_s = float(segment_s)
        self.scale = scale
        self.n_samples = segment_samples(sample_rate_hz, segment_s)

    def shape(self) -> tuple[int, ...]:
        """(n_samples,)."""
        return (self.n_samples,)

    def compute(self, waveform: Float32) -> Float32:
        """Cut or pad `waveform`, shape (n_samples,), and scale it."""
        sound = fit_length(waveform, self.n_samples)

        if self.scale == "peak":
            loudest = float(np.abs(sound).max())
            return sound / np.float32(max(loudest, _SMALLEST))
        if self.scale == "standard":
            # Means in float64: sums of half a million float32 samples would lose digits.
            centred = sound - np.float32(sound.mean(dtype=np.float64))
            return centred / np.float32(np.sqrt(centred.var(dtype=np.float64) + _SMALLEST))
        return sound.copy()

    def settings(self) -> dict[str, Any]:
        """Rate, segment length and scale."""
        return super().settings() | {
            "sample_rate_hz": self.sample_rate_hz,
            "segment_s": self.segment_s,
            "scale": self.scale,
        }
