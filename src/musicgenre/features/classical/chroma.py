"""Pitch classes of a power spectrum, tuned to the recording, as librosa's `chroma_stft` has them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.base import Float32
from musicgenre.features.kernels.compiled import compiled

Float64 = NDArray[np.float64]

N_CHROMA = 12
_LOWEST_HZ, _HIGHEST_HZ = 150.0, 4_000.0  # where peaks are looked for
_PEAK_SHARE = np.float32(0.1)  # of the loudest bin of the frame
_A4_HZ = 440.0
_CENTRE_OCTAVE, _OCTAVE_WIDTH = 5.0, 2.0
_TINY = float(np.finfo(np.float32).tiny)


def chroma(magnitude: Float32, n_bins: int, n_frames: int, sample_rate_hz: int) -> Float32:
    """Energy of the twelve pitch classes, the loudest of each frame at 1, shape (12, n_frames)."""
    power = np.square(magnitude[:n_bins, :n_frames])
    filters = _filters(sample_rate_hz, 2 * (n_bins - 1), tuning(power, sample_rate_hz))
    raw = filters @ power
    loudest = raw.max(axis=0)
    return np.asarray(raw / np.where(loudest < _TINY, 1.0, loudest), dtype=np.float32)


def tuning(power: Float32, sample_rate_hz: int) -> float:
    """How far the recording is from A4 = 440 Hz, in semitones within [-0.5, 0.5), in steps of a hundredth.

    The spectral peaks that are louder than the median one vote with the fraction of a semitone they are off.
    """
    bin_hz = sample_rate_hz / (2 * (len(power) - 1))
    lowest = int(np.ceil(_LOWEST_HZ / bin_hz))
    highest = min(int(np.ceil(_HIGHEST_HZ / bin_hz)), len(power) - 1)
    count, places, loudness = _peaks(power, lowest, highest)
    if count == 0:
        return 0.0

    # Quiet peaks are mostly noise between the notes.
    pitch_hz, loudness = (places[:count] * bin_hz).astype(np.float32), loudness[:count]
    pitch_hz = pitch_hz[loudness >= np.median(loudness)]

    off = np.mod(N_CHROMA * np.log2(pitch_hz / (_A4_HZ / 16.0)), 1.0)
    off[off >= 0.5] -= 1.0
    edges = np.linspace(-0.5, 0.5, 101)
    votes, _ = np.histogram(off, edges)
    return float(edges[np.argmax(votes)])


@compiled
def _peaks(power: Float32, lowest: int, highest: int) -> tuple[int, Float64, Float32]:
    """Local maxima over frequency, placed between bins by a parabola: their number, places and heights."""
    n_bins, n_frames = power.shape
    loudest = np.zeros(n_frames, np.float32)
    for k in range(n_bins):
        for t in range(n_frames):
            loudest[t] = max(loudest[t], power[k, t])

    # Of two neighbouring bins at most one is a peak: half as many places are enough.
    places = np.empty((highest - lowest) * n_frames // 2 + n_frames, np.float64)
    heights = np.empty(len(places), np.float32)
    count = 0

    for k in range(lowest, highest):
        for t in range(n_frames):
            here, left, right = power[k, t], power[k - 1, t], power[k + 1, t]
            floor = loudest[t] * _PEAK_SHARE  # what lies below counts as nothing, as in librosa's piptrack
            if here > floor and here > (left if left > floor else 0.0) and here >= (right if right > floor else 0.0):
                slope = (right - left) / np.float32(2.0)
                bend = np.float64(left + right) - 2.0 * here
                shift = np.float32(0.0) if abs(slope) >= abs(bend) else np.float32(-slope / bend)
                places[count] = k + shift
                heights[count] = here + np.float32(0.5) * slope * shift
                count += 1
    return count, places, heights


@lru_cache(maxsize=128)
def _filters(sample_rate_hz: int, n_fft: int, off_semitones: float) -> Float32:
    """Weights of every bin for every pitch class, C first, shape (12, 1 + n_fft // 2).

    A Gaussian around each pitch class, as wide as the bin is in semitones; bins far from the fifth octave count less.
    """
    bins_hz = np.arange(1, n_fft) * sample_rate_hz / n_fft
    a0_hz = _A4_HZ * 2.0 ** (off_semitones / N_CHROMA) / 16.0
    semitones = N_CHROMA * np.log2(bins_hz / a0_hz)
    semitones = np.concatenate([[semitones[0] - 1.5 * N_CHROMA], semitones])  # the bin at 0 Hz has no pitch

    widths = np.concatenate([np.maximum(np.diff(semitones), 1.0), [1.0]])
    distance = semitones[None, :] - np.arange(N_CHROMA)[:, None]
    distance = np.remainder(distance + N_CHROMA / 2, N_CHROMA) - N_CHROMA / 2
    weights = np.exp(-0.5 * (2.0 * distance / widths) ** 2)
    weights /= np.sqrt(np.sum(weights**2, axis=0))

    weights *= np.exp(-0.5 * ((semitones / N_CHROMA - _CENTRE_OCTAVE) / _OCTAVE_WIDTH) ** 2)
    # Pitch classes were counted from A; the rows begin with C.
    return np.asarray(np.roll(weights, -3, axis=0)[:, : 1 + n_fft // 2], dtype=np.float32)
