"""The loops behind rhythm.py, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.base import Float32
from musicgenre.features.kernels import fft
from musicgenre.features.kernels.compiled import compiled

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@compiled
def median_rise(decibels: Float32) -> Float32:
    """Median over the bands of what each gained since the frame before, losses as 0, shape (n_frames - 1,)."""
    n_bands, n_frames = decibels.shape
    result = np.empty(n_frames - 1, np.float32)
    rises = np.empty((16, n_bands), np.float32)
    for first in range(0, n_frames - 1, 16):
        last = min(first + 16, n_frames - 1)
        for band in range(n_bands):
            for t in range(first, last):
                rises[t - first, band] = max(np.float32(0.0), decibels[band, t + 1] - decibels[band, t])
        for t in range(first, last):
            result[t] = np.median(rises[t - first])
    return result


def mean_autocorrelation(padded: Float32, length: int, n_windows: int) -> Float64:
    """Mean over all windows of the autocorrelation of `length` Hann-weighted values, lag 0 scaled to 1.

    Scaling and averaging commute with the inverse transform, so the power spectra are averaged and one inverse is
    left to do. A window without any sound counts as zeros.
    """
    n_fft = 1 << (2 * length - 1).bit_length()
    window = np.zeros(n_fft, np.float32)
    window[:length] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    plan = fft.plan(n_fft)

    samples = np.zeros((n_windows + 15) // 16 * 16 + n_fft, np.float32)
    samples[: len(padded)] = padded
    total = _scaled_power(samples, window, plan.twiddles, plan.order, plan.unpack, n_windows)
    return np.fft.irfft(total / n_windows)[:length]


@compiled
def _scaled_power(
    samples: Float32, window: Float32, twiddles: Float32, order: Int64, unpack: Float32, n_windows: int
) -> Float64:
    """Sum of the windows' power spectra, each divided by its energy, shape (half + 1,)."""
    half = len(window) // 2
    re, im = np.empty(half * 16, np.float32), np.empty(half * 16, np.float32)
    power = np.empty((half + 1) * 16, np.float32)
    spectra, total = power.reshape(half + 1, 16), np.zeros(half + 1)

    for first in range(0, n_windows, 16):
        fft.load_frames(samples, 1, first, window, re, im)
        fft.complex_transform(re, im, half, twiddles)
        fft.power_of_frames(re, im, order, unpack, power)

        for lane in range(min(16, n_windows - first)):
            energy = np.float64(spectra[0, lane]) + np.float64(spectra[half, lane])
            for k in range(1, half):
                energy += 2.0 * np.float64(spectra[k, lane])
            # The energy is the autocorrelation at lag 0: dividing by it scales that to 1.
            if energy > 0.0:
                scale = 2.0 * half / energy
                for k in range(half + 1):
                    total[k] += scale * spectra[k, lane]
    return total


@compiled
def best_path(strength: Float64, period: int, tightness: float) -> Int64:
    """Frames of the chain of beats with the largest sum of strength less the cost of uneven intervals."""
    n_frames = len(strength)
    score, previous = strength.copy(), np.full(n_frames, -1, np.int64)
    shortest, longest = max(1, int(np.rint(period / 2))), 2 * period

    # Half or double the interval costs the same: unevenness counts in octaves.
    cost = np.zeros(longest + 1)
    for interval in range(1, longest + 1):
        cost[interval] = tightness * np.log(interval / period) ** 2

    threshold = 0.01 * strength.max()
    started = False  # beats of the silence before the music are no beats
    for t in range(n_frames):
        best, place = -np.inf, -1
        for interval in range(shortest, min(longest, t) + 1):
            value = score[t - interval] - cost[interval]
            if value > best:
                best, place = value, t - interval
        if place >= 0:
            score[t] += best
        started = started or strength[t] >= threshold
        previous[t] = place if started else -1
    return _trimmed(_walked_back(score, previous), strength)


@compiled
def _walked_back(score: Float64, previous: Int64) -> Int64:
    """Follow the links from the last peak of the score that is at least half the median peak."""
    n_frames = len(score)
    peaks = np.zeros(n_frames, np.bool_)
    for t in range(1, n_frames):
        peaks[t] = score[t] > score[t - 1] and (t == n_frames - 1 or score[t] >= score[t + 1])

    tail = n_frames - 1
    if peaks.any():
        floor = 0.5 * np.median(score[peaks])
        for t in range(n_frames):
            if peaks[t] and score[t] >= floor:
                tail = t

    beats = np.empty(n_frames, np.int64)
    count = 0
    while tail >= 0:
        beats[count] = tail
        count += 1
        tail = previous[tail]
    return beats[:count][::-1].copy()


@compiled
def _trimmed(beats: Int64, strength: Float64) -> Int64:
    """Drop beats in the weak frames at both ends: below half the RMS of the beats' strengths, smoothed."""
    smooth = np.convolve(strength[beats], np.array([0.5, 1.0, 0.5]))[1 : len(strength) + 1]
    strong = np.flatnonzero(strength > 0.5 * np.sqrt(np.mean(smooth**2)))
    if len(strong) == 0:
        return beats[:0].copy()
    kept: Int64 = beats[(beats >= strong[0]) & (beats <= strong[-1])]
    return kept
