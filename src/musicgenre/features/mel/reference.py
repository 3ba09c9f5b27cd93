"""The mel front end in NumPy float64: slow, short, and the truth for every other backend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.mel.specification import MelSpec

Float64 = NDArray[np.float64]

# Slaney's Auditory Toolbox: linear up to 1 kHz, then 27 steps to every factor of 6.4
_SLANEY_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(frequency_hz: Float64, scale: str) -> Float64:
    """Convert Hz to mels: `slaney` (linear below 1 kHz, logarithmic above) or `htk` (2595 log10(1 + f/700))."""
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + frequency_hz / 700.0))
    linear = frequency_hz / _SLANEY_LINEAR_HZ_PER_MEL
    above = np.maximum(frequency_hz, _SLANEY_BREAK_HZ)
    logarithmic = _SLANEY_BREAK_HZ / _SLANEY_LINEAR_HZ_PER_MEL + np.log(above / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.where(frequency_hz < _SLANEY_BREAK_HZ, linear, logarithmic)


def mel_to_hz(mels: Float64, scale: str) -> Float64:
    """Convert mels to Hz; the inverse of `hz_to_mel`."""
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    break_mel = _SLANEY_BREAK_HZ / _SLANEY_LINEAR_HZ_PER_MEL
    logarithmic = _SLANEY_BREAK_HZ * np.exp(_SLANEY_LOG_STEP * (np.maximum(mels, break_mel) - break_mel))
    return np.where(mels < break_mel, mels * _SLANEY_LINEAR_HZ_PER_MEL, logarithmic)


def mel_filters(spec: MelSpec) -> Float64:
    """Triangular mel filter bank, shape (n_mels, 1 + n_fft // 2)."""
    bins = np.linspace(0.0, spec.sample_rate_hz / 2, 1 + spec.n_fft // 2)  # Hz
    ends = hz_to_mel(np.array([spec.fmin_hz, spec.highest_hz]), spec.mel_scale)
    edges = np.linspace(ends[0], ends[1], spec.n_mels + 2)  # mels
    edges_hz = mel_to_hz(edges, spec.mel_scale)

    # Straight sides over Hz (librosa) or over mels (HTK, TensorFlow): everything below is measured on that axis.
    if spec.mel_slopes == "mel":
        bins = hz_to_mel(bins, spec.mel_scale)
    else:
        edges = edges_hz

    widths = np.diff(edges)
    ramps = edges[:, None] - bins[None, :]
    rising = -ramps[:-2] / widths[:-1, None]
    falling = ramps[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))

    if spec.mel_norm == "slaney":
        filters *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return filters


def hann_window(spec: MelSpec) -> Float64:
    """Hann window of `window_length` samples, centred in `n_fft`."""
    length = spec.window_length
    period = length if spec.window == "periodic" else max(1, length - 1)
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / period)
    left = (spec.n_fft - length) // 2
    return np.pad(window, (left, spec.n_fft - length - left))


def dct_matrix(n_rows: int, n_columns: int) -> Float64:
    """First `n_rows` rows of the orthonormal DCT-II over `n_columns` values."""
    positions = np.arange(n_columns) + 0.5
    matrix = np.cos(np.pi / n_columns * np.arange(n_rows)[:, None] * positions[None, :]) * np.sqrt(2.0 / n_columns)
    matrix[0] /= np.sqrt(2.0)
    return np.asarray(matrix)


def frames(waveform: Float64, spec: MelSpec) -> Float64:
    """Cut the (padded) waveform into frames, shape (n_frames, n_fft)."""
    n_frames = spec.n_frames(len(waveform))
    mode = spec.pad_mode if spec.center else "constant"  # without `center` the padding only completes short windows
    waveform = np.pad(waveform, spec.padding, mode=mode)
    if n_frames == 0:
        return np.zeros((0, spec.n_fft))
    view = np.lib.stride_tricks.sliding_window_view(waveform, spec.n_fft)
    return view[:: spec.hop_length][:n_frames]


def compress(values: Float64, spec: MelSpec) -> Float64:
    """Apply the specification's scaling to mel powers of any shape (..., n_mels, n_frames)."""
    if spec.scaling == "power":
        return values
    if spec.scaling == "log10_1p":
        return np.asarray(np.log10(1.0 + spec.log_multiplier * values))
    if spec.scaling == "log_offset":
        return np.asarray(np.log(values + spec.log_offset))

    decibels = 10.0 * np.log10(np.maximum(spec.amin, values))
    if spec.top_db is not None and decibels.size:
        decibels = np.maximum(decibels, decibels.max() - spec.top_db)
    return np.asarray(decibels)


def melspectrogram(waveform: NDArray[np.floating], spec: MelSpec) -> Float64:
    """Compute the mel spectrogram (or MFCCs) that `spec` describes.

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,)
        Mono sound at `spec.sample_rate_hz`, usually within [-1, 1].

    Returns
    -------
    ndarray of float64, shape (spec.n_rows, n_frames)
    """
    windowed = frames(np.asarray(waveform, dtype=np.float64), spec) * hann_window(spec)
    magnitude = np.abs(np.fft.rfft(windowed, axis=1)) ** spec.power  # (n_frames, 1 + n_fft // 2)
    mel = compress(mel_filters(spec) @ magnitude.T, spec)  # (n_mels, n_frames)
    if spec.n_mfcc is None:
        return mel
    return dct_matrix(spec.n_mfcc, spec.n_mels) @ mel
