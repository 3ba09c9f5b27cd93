"""The waveform itself, for networks that hear sound directly (wav2vec 2.0 and its like)."""

from __future__ import annotations

from typing import Any

import numpy as np

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, fit_length, segment_samples
from musicgenre.features.registry import register, unknown

VERSION = 1

SCALES = ("none", "peak", "standard")
_SMALLEST = 1e-7


@register("waveform")
class Waveform:
    """Samples of one segment, shape (n_samples,), cut or zero-padded to one length.

    Parameters
    ----------
    sample_rate_hz : int
        The rate, 16 kHz as in C5.
    segment_s : float
        Segment length.
    scale : {"none", "peak", "standard"}
        ``none``: as decoded, within [-1, 1]. ``peak``: the loudest sample becomes 1 or -1. ``standard``: mean 0 and
        variance 1, what wav2vec 2.0 was trained on. Digital silence stays zero.
    """

    name = "waveform"
    row_axis: int | None = None

    def __init__(self, *, sample_rate_hz: int = 16_000, segment_s: float = 30.0, scale: str = "none") -> None:
        if scale not in SCALES:
            raise unknown("waveform scale", scale, list(SCALES))
        if sample_rate_hz < 1 or segment_s <= 0:
            raise UsageError(f"sample_rate_hz={sample_rate_hz}, segment_s={segment_s}: both must be positive")
        self.sample_rate_hz = sample_rate_hz
        self.segment_s: float | None = float(segment_s)
        self.scale = scale
        self.n_samples = segment_samples(sample_rate_hz, segment_s)

    def shape(self) -> tuple[int, ...]:
        """(n_samples,)."""
        return (self.n_samples,)

    def compute(self, waveform: Float32) -> Float32:
        """Cut or pad ``waveform``, shape (n_samples,), and scale it."""
        sound = fit_length(waveform, self.n_samples)
        if self.scale == "peak":
            return sound / np.float32(max(float(np.abs(sound).max()), _SMALLEST))
        if self.scale == "standard":
            centred = sound - np.float32(sound.mean(dtype=np.float64))
            return centred / np.float32(np.sqrt(centred.var(dtype=np.float64) + _SMALLEST))
        return sound.copy()

    def settings(self) -> dict[str, Any]:
        """Rate, segment length and scale."""
        return {
            "name": self.name,
            "version": VERSION,
            "sample_rate_hz": self.sample_rate_hz,
            "segment_s": self.segment_s,
            "scale": self.scale,
        }
