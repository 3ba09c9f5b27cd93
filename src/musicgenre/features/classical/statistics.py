"""Per-frame statistics of a spectrum and of a waveform, equal to librosa's of the same names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.base import Float32
from musicgenre.features.kernels.compiled import compiled

Float64 = NDArray[np.float64]

ROLLOFF_SHARE = np.float32(0.85)
_SILENT = 1e-10  # samples below count as zero when crossings are counted


@compiled
def spectral_shape(magnitude: Float32, n_bins: int, n_frames: int, bin_hz: float) -> tuple[Float64, Float64, Float64]:
    """Centroid, bandwidth and roll-off of every frame in Hz, each of shape (n_frames,); zeros in silence."""
    total, first, second = np.zeros(n_frames), np.zeros(n_frames), np.zeros(n_frames)
    running = np.zeros(n_frames, np.float32)  # float32, summed in order: the same threshold as librosa's cumsum
    for k in range(n_bins):
        for t in range(n_frames):
            value = np.float64(magnitude[k, t])
            running[t] += magnitude[k, t]
            total[t] += value
            first[t] += value * k
            second[t] += value * (k * k)

    threshold = running * ROLLOFF_SHARE
    below = np.zeros(n_frames, np.int64)
    running[:] = 0
    for k in range(n_bins):
        for t in range(n_frames):
            running[t] += magnitude[k, t]
            below[t] += running[t] < threshold[t]

    sound = total > 0
    divisor = np.where(sound, total, 1.0)
    centroid = first / divisor
    spread = np.maximum(second / divisor - centroid * centroid, 0.0)
    bandwidth: Float64 = np.sqrt(spread)
    rolloff: Float64 = below * np.float64(bin_hz)
    return centroid * bin_hz, bandwidth * bin_hz, rolloff


def root_mean_square(padded: Float32, frame_length: int, hop: int, n_frames: int) -> Float64:
    """RMS of every frame of the padded waveform, shape (n_frames,); `hop` divides `frame_length`."""
    overlap = frame_length // hop
    n_hops = n_frames + overlap - 1
    energies = np.square(padded[: n_hops * hop]).reshape(n_hops, hop).sum(axis=1, dtype=np.float64)
    sums = np.convolve(energies, np.ones(overlap), mode="valid")
    return np.asarray(np.sqrt(sums / frame_length))


def zero_crossing_rate(waveform: Float32, frame_length: int, hop: int, n_frames: int) -> Float64:
    """Share of samples of every centred frame whose sign is not that of the sample before, shape (n_frames,)."""
    negative = waveform < -_SILENT
    counts = np.zeros(len(waveform), np.int64)
    np.cumsum(negative[1:] != negative[:-1], out=counts[1:])
    starts = np.arange(n_frames) * hop - frame_length // 2
    last = len(waveform) - 1
    crossings = counts[np.clip(starts + frame_length - 1, 0, last)] - counts[np.clip(starts, 0, last)]
    return np.asarray(crossings / frame_length)
