"""The numbers of the 57-column table: one transform of the waveform, shared by every column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.base import Float32
from musicgenre.features.classical import chroma, hpss, rhythm, statistics
from musicgenre.features.mel import compiled as mel
from musicgenre.features.mel.specification import MelSpec

Float64 = NDArray[np.float64]


def row(sound: Float32, spec: MelSpec, n_mfcc: int, *, whole_tail: bool, with_rhythm: bool) -> Float64:
    """Values of the table's columns, in order, and the rhythm columns after them if asked for."""
    n_frames, n_bins = spec.n_frames(len(sound)), spec.n_fft // 2 + 1
    frame_rate_hz = spec.sample_rate_hz / spec.hop_length

    # One transform serves every column: it costs more than all that is made of it.
    padded = mel.pad(sound, spec)
    powers, magnitude = mel.mel_and_magnitude(padded, spec, n_frames, keep_magnitude=True)
    decibels = mel.scale(powers[:, :n_frames], spec)

    columns: list[float] = []
    for values in (
        chroma.chroma(magnitude, n_bins, n_frames, spec.sample_rate_hz),
        statistics.root_mean_square(padded, spec.n_fft, spec.hop_length, n_frames),
        *statistics.spectral_shape(magnitude, n_bins, n_frames, spec.sample_rate_hz / spec.n_fft),
        statistics.zero_crossing_rate(sound, spec.n_fft, spec.hop_length, n_frames),
    ):
        columns += _moments(values)

    columns += hpss.harmonic_percussive_moments(padded, magnitude, spec, len(sound), whole_tail=whole_tail)

    envelope = rhythm.onset_envelope(decibels, spec.n_fft, spec.hop_length)
    tempo = rhythm.estimate_tempo(envelope, frame_rate_hz)
    columns.append(tempo)

    for coefficient in mel.cosine_transform(decibels, n_mfcc):
        columns += _moments(coefficient)

    if with_rhythm:
        columns += list(rhythm.rhythm_columns(envelope, tempo, frame_rate_hz))
    return np.array(columns, dtype=np.float64)


def _moments(values: Float64 | Float32) -> tuple[float, float]:
    """Mean and variance, summed in float64: the table's columns are compared to five digits."""
    return float(values.mean(dtype=np.float64)), float(values.var(dtype=np.float64))
