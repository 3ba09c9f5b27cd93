"""Mel spectrograms in float32, fast."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from musicgenre.features import reference
from musicgenre.features.base import Float32
from musicgenre.features.specification import MelSpec


@lru_cache(maxsize=16)
def _constants(spec: MelSpec) -> tuple[Float32, Float32]:
    return reference.hann_window(spec).astype(np.float32), reference.mel_filters(spec).astype(np.float32)


def melspectrogram(waveform: Float32, spec: MelSpec) -> Float32:
    """Compute what ``spec`` describes, shape (spec.n_rows, n_frames)."""
    window, filters = _constants(spec)
    pad = spec.n_fft // 2 if spec.center else 0
    padded = np.pad(waveform, pad, mode=spec.pad_mode)
    if len(padded) < spec.n_fft:
        return np.zeros((spec.n_rows, 0), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
    spectrum = scipy.fft.rfft(frames * window, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    if spec.power != 2.0:
        power **= spec.power / 2.0
    mel = reference.compress(filters @ power.T, spec)
    if spec.n_mfcc is not None:
        mel = reference.dct_matrix(spec.n_mfcc, spec.n_mels) @ mel
    return mel.astype(np.float32)
