"""Mel spectrograms in float32, fast: transform, powers and filters of sixteen frames while the cache holds them.

The constants and the truth come from `musicgenre.features.mel.reference`; the loops are in `kernels/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32
from musicgenre.features.kernels import fft
from musicgenre.features.kernels.compiled import compiled
from musicgenre.features.kernels.lanes import load, splat, square_root, store
from musicgenre.features.mel import reference
from musicgenre.features.mel.specification import MelSpec

Int64 = NDArray[np.int64]


def melspectrogram(waveform: Float32, spec: MelSpec) -> Float32:
    """Compute what ``spec`` describes, shape (spec.n_rows, n_frames).

    Raises
    ------
    UsageError
        If the waveform holds values that are not finite, or is too short to be padded by reflection.
    """
    padded = pad(waveform, spec)
    n_frames = spec.n_frames(len(waveform))
    if n_frames == 0:
        return np.zeros((spec.n_rows, 0), np.float32)

    if fft.fits(spec.n_fft) and spec.power in (1.0, 2.0):
        mel = mel_and_magnitude(padded, spec, n_frames, keep_magnitude=False)[0][:, :n_frames]
    else:
        mel = _any_length(padded, spec, n_frames)

    scaled = scale(mel, spec)
    if spec.n_mfcc is None:
        return scaled
    return cosine_transform(scaled, spec.n_mfcc)


def pad(waveform: Float32, spec: MelSpec) -> Float32:
    """Pad both sides as ``spec`` says, and zeros at the end, so that the number of frames is a multiple of 16.

    Raises
    ------
    UsageError
        If the waveform cannot be used.
    """
    if not np.isfinite(np.dot(waveform, waveform)):  # one pass; also where squares would overflow
        raise UsageError("the waveform holds values that are not finite", valid="Samples are numbers, usually -1 to 1")

    n_samples, (width, behind) = len(waveform), spec.padding
    mirrored = spec.center and spec.pad_mode == "reflect"
    if mirrored and n_samples <= width:
        raise UsageError(f"{n_samples} samples are too few to pad by reflection", valid=f"More than {width} samples")

    # The kernels read whole groups of sixteen frames: the last group may reach past the sound, into zeros.
    needed = (rounded_up(spec.n_frames(n_samples)) - 1) * spec.hop_length + spec.n_fft
    padded = np.zeros(max(needed, n_samples + width + behind), np.float32)
    padded[width : width + n_samples] = waveform

    if mirrored and width:
        padded[:width] = waveform[width:0:-1]
        padded[width + n_samples : 2 * width + n_samples] = waveform[-2 : -width - 2 : -1]
    return padded


def mel_and_magnitude(
    padded: Float32, spec: MelSpec, n_frames: int, *, keep_magnitude: bool
) -> tuple[Float32, Float32]:
    """Mel powers, and if asked for, the magnitudes of the transform.

    Returns
    -------
    mel : ndarray, shape (n_mels, n_columns)
    magnitude : ndarray, shape (n_bins rounded up to 16, n_columns), or (0, n_columns)
        ``n_columns`` is ``n_frames`` rounded up to 16; what lies past ``n_frames`` means nothing.
    """
    bank, plan = _bank(spec), fft.plan(spec.n_fft)
    n_columns = rounded_up(n_frames)
    mel = np.empty((spec.n_mels, n_columns), np.float32)

    # An empty table tells the compiled loop to keep no magnitudes. HPSS transposes them tile by tile: whole tiles.
    n_rows = rounded_up(spec.n_fft // 2 + 1) if keep_magnitude else 0
    magnitude = np.zeros((n_rows, n_columns), np.float32)

    work = (padded, spec.hop_length, bank.window, plan.twiddles, plan.order, plan.unpack)
    _analyse(*work, bank.filters, bank.first, bank.last, spec.power == 1.0, mel, magnitude)
    return mel, magnitude


def scale(mel: Float32, spec: MelSpec) -> Float32:
    """Apply the specification's scaling in float32 (natural logarithms are several times as fast as decimal ones)."""
    if spec.scaling == "power":
        return np.ascontiguousarray(mel)
    if spec.scaling == "log_offset":
        return np.asarray(np.log(mel + np.float32(spec.log_offset)))
    if spec.scaling == "log10_1p":
        return np.asarray(np.log1p(mel * np.float32(spec.log_multiplier)) * np.float32(1.0 / np.log(10.0)))

    decibels = np.log(np.maximum(mel, np.float32(spec.amin)))
    decibels *= np.float32(10.0 / np.log(10.0))
    if spec.top_db is not None:
        np.maximum(decibels, decibels.max() - np.float32(spec.top_db), out=decibels)
    return decibels


def cosine_transform(values: Float32, n_rows: int) -> Float32:
    """First ``n_rows`` rows of the orthonormal DCT-II of every column."""
    return (_cosines(n_rows, len(values)) @ values).astype(np.float32)


_cosines = lru_cache(maxsize=16)(reference.dct_matrix)  # the same few shapes for every segment of every track


def rounded_up(count: int) -> int:
    """Round up to a multiple of 16."""
    return (count + 15) // 16 * 16


@dataclass(frozen=True)
class _Bank:
    """Constants of one specification."""

    window: Float32
    filters: Float32  # (n_mels, n_bins)
    first: Int64  # the first bin that each filter sees
    last: Int64  # one past the last


@lru_cache(maxsize=16)
def _bank(spec: MelSpec) -> _Bank:
    """Make the constants of a specification once: the filters cost as much as a second of sound."""
    filters = reference.mel_filters(spec)

    # A filter is zero nearly everywhere: loops run over the bins that it sees. One between two bins sees none.
    seen = filters > 0
    sees_any = seen.any(axis=1)
    first = np.where(sees_any, seen.argmax(axis=1), 0)
    last = np.where(sees_any, filters.shape[1] - seen[:, ::-1].argmax(axis=1), 0)

    window = reference.hann_window(spec).astype(np.float32)
    return _Bank(window, filters.astype(np.float32), first, last)


def _any_length(padded: Float32, spec: MelSpec, n_frames: int) -> Float32:
    """Mel powers with NumPy's transform, for lengths that are no power of two and for other exponents."""
    bank = _bank(spec)
    cut = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length][:n_frames]
    spectrum = np.fft.rfft(cut * bank.window, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    if spec.power != 2.0:
        power **= np.float32(spec.power / 2.0)
    return np.asarray(bank.filters @ power.T, dtype=np.float32)


@compiled
def _analyse(
    samples: Float32,
    hop: int,
    window: Float32,
    twiddles: Float32,
    order: Int64,
    unpack: Float32,
    filters: Float32,
    first: Int64,
    last: Int64,
    of_magnitude: bool,
    mel: Float32,
    magnitude: Float32,
) -> None:
    """Fill `mel`, and `magnitude` unless it is empty, sixteen frames at a time; shapes as in `mel_and_magnitude`."""
    n_fft = len(window)
    n_columns = mel.shape[1]
    mel_out, magnitude_out = mel.reshape(-1), magnitude.reshape(-1)
    re, im = np.empty(n_fft // 2 * 16, np.float32), np.empty(n_fft // 2 * 16, np.float32)
    power = np.empty((n_fft // 2 + 1) * 16, np.float32)

    for t in range(0, n_columns, 16):
        fft.load_frames(samples, hop, t, window, re, im)
        fft.complex_transform(re, im, n_fft // 2, twiddles)
        fft.power_of_frames(re, im, order, unpack, power)

        if len(magnitude_out) > 0:
            for k in range(n_fft // 2 + 1):
                store(magnitude_out, k * n_columns + t, square_root(load(power, k * 16)))
        if of_magnitude:
            for k in range(n_fft // 2 + 1):
                store(power, k * 16, square_root(load(power, k * 16)))

        for m in range(len(first)):
            total = splat(np.float32(0.0))
            for k in range(first[m], last[m]):
                total = total + load(power, k * 16) * splat(filters[m, k])
            store(mel_out, m * n_columns + t, total)
