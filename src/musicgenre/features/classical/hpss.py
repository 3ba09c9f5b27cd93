"""Harmonic-percussive separation (Fitzgerald 2010), down to the moments of both waveforms.

Medians over time keep what rings, medians over frequency keep what clicks; each bin goes to both in proportion to the
squares of its two medians. The two masks add up to one, so only the harmonic part needs an inverse transform: the
percussive part is the rest of the waveform.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.base import Float32
from musicgenre.features.kernels import fft
from musicgenre.features.kernels.compiled import compiled
from musicgenre.features.kernels.lanes import load, splat, where_less
from musicgenre.features.kernels.running_median import running_median, transposed
from musicgenre.features.mel import reference
from musicgenre.features.mel.compiled import rounded_up
from musicgenre.features.mel.specification import MelSpec

Int64 = NDArray[np.int64]

KERNEL = 31
_TINY = np.float32(np.finfo(np.float32).tiny)


def harmonic_percussive_moments(
    padded: Float32, magnitude: Float32, spec: MelSpec, n_samples: int, *, whole_tail: bool
) -> tuple[float, float, float, float]:
    """Mean and variance of the harmonic waveform, then of the percussive one.

    Parameters
    ----------
    padded : ndarray
        The waveform from `musicgenre.features.mel.compiled.pad`.
    magnitude : ndarray, shape (n_bins rounded up, n_frames rounded up)
        Its magnitudes.
    n_samples : int
        Length of the waveform.
    whole_tail : bool
        Count the samples after the last whole hop too; otherwise they are zeros.
    """
    hop = spec.hop_length
    n_frames, n_bins = spec.n_frames(n_samples), spec.n_fft // 2 + 1
    harmonic, percussive = medians(magnitude, n_bins, n_frames)

    plan = fft.plan(spec.n_fft)
    window = reference.hann_window(spec).astype(np.float32)
    sounds = np.zeros((hop, rounded_up(len(padded) // hop)), np.float32)  # sample b * hop + h at [h, b]
    _inverse(padded, harmonic, percussive, window, plan.twiddles, plan.order, plan.unpack, sounds)
    _undo_windows(sounds, window, n_frames)

    # Half a frame of padding stands in front of the first sample.
    first = spec.n_fft // 2
    limit = n_samples if whole_tail else n_samples // hop * hop
    sums = _sums(padded, transposed(sounds).reshape(-1), first, limit)
    means = sums[:2] / n_samples
    variances = sums[2:] / n_samples - means**2
    return float(means[0]), float(variances[0]), float(means[1]), float(variances[1])


def medians(magnitude: Float32, n_bins: int, n_frames: int) -> tuple[Float32, Float32]:
    """Medians over time and over frequency; columns past `n_frames` are such that they go to nobody (0 and 1)."""
    percussive = running_median(magnitude, KERNEL, n_rows=n_bins)
    over_time = running_median(transposed(magnitude), KERNEL, n_rows=n_frames)
    harmonic = transposed(over_time)
    percussive[:, n_frames:] = 1.0  # "harmonic" is 0 there: the mask of these columns is 0, they add no sound
    return harmonic, percussive


def _undo_windows(sounds: Float32, window: Float32, n_frames: int) -> None:
    """Divide overlapped frames by the sum of the squared windows; fewer frames overlap at both ends."""
    hop = len(sounds)
    shares = (window.astype(np.float64) ** 2).reshape(-1, hop)  # (frames over a hop, hop)
    count = len(shares)

    # Where all frames overlap, one division serves; the few columns at both ends get their own sum.
    ends = {*range(count), *range(n_frames - 1, n_frames + count - 1)}
    inside = shares.sum(axis=0)
    sounds *= (1.0 / inside).astype(np.float32)[:, None]
    for column in ends:
        total = sum((shares[q] for q in range(count) if 0 <= column - q < n_frames), np.zeros(hop))
        sounds[:, column] *= np.where(total > _TINY, inside / np.maximum(total, _TINY), 1.0)


@compiled
def _inverse(
    samples: Float32,
    harmonic: Float32,
    percussive: Float32,
    window: Float32,
    twiddles: Float32,
    order: Int64,
    unpack: Float32,
    sounds: Float32,
) -> None:
    """Transform once more, mask, transform back, and overlap the windowed frames into `sounds`."""
    hop, width = sounds.shape
    n_columns, half = harmonic.shape[1], len(window) // 2
    out = sounds.reshape(-1)
    ringing, clicking = harmonic.reshape(-1), percussive.reshape(-1)

    re, im = np.empty(half * 16, np.float32), np.empty(half * 16, np.float32)
    back_re, back_im = np.empty(half * 16, np.float32), np.empty(half * 16, np.float32)

    for t in range(0, n_columns, 16):
        fft.load_frames(samples, hop, t, window, re, im)
        fft.complex_transform(re, im, half, twiddles)

        for k in range(half // 2 + 1):
            low, high = k * n_columns + t, (half - k) * n_columns + t
            low_mask = _mask(load(ringing, low), load(clicking, low))
            high_mask = _mask(load(ringing, high), load(clicking, high))
            fft.masked(re, im, order, unpack, k, low_mask, high_mask, back_re, back_im)

        fft.complex_transform(back_im, back_re, half, twiddles)  # real and imaginary exchanged: the inverse
        fft.overlap_frames(back_re, back_im, order, window, out, width, hop, t)


@compiled
def _mask(ringing: Any, clicking: Any) -> Any:
    """Harmonic share of a bin; one half where there is nothing at all."""
    larger = where_less(ringing, clicking, clicking, ringing)
    tiny, one = splat(_TINY), splat(np.float32(1.0))

    # Divided by the larger of the two before they are squared: squares of small values would be zero in float32.
    divisor = where_less(larger, tiny, one, larger)
    a, b = ringing / divisor, clicking / divisor
    a, b = a * a, b * b
    return where_less(larger, tiny, splat(np.float32(0.5)), a / where_less(larger, tiny, one, a + b))


@compiled
def _sums(samples: Float32, sounds: Float32, first: int, limit: int) -> NDArray[np.float64]:
    """Sums, then sums of squares, of both parts over `limit` samples from `first` on."""
    sums = np.zeros(4)
    for place in range(first, first + limit):
        harmonic = np.float64(sounds[place])
        percussive = np.float64(samples[place]) - harmonic
        sums[0] += harmonic
        sums[1] += percussive
        sums[2] += harmonic * harmonic
        sums[3] += percussive * percussive
    return sums
