"""The numbers behind table.py: one transform of the waveform, shared by every column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.base import Float32
from musicgenre.features.classical import chroma as _chroma
from musicgenre.features.classical import hpss as _hpss
from musicgenre.features.classical import rhythm
from musicgenre.features.classical import statistics as _statistics
from musicgenre.features.mel import compiled as _mel
from musicgenre.features.mel.specification import MelSpec

Float64 = NDArray[np.float64]


def row(sound: Float32, spec: MelSpec, n_mfcc: int, *, whole_tail: bool, with_rhythm: bool) -> Float64:
    """Values of the table's columns, in order, and the rhythm columns after them if asked for."""
    n_frames, n_bins = spec.n_frames(len(sound)), spec.n_fft // 2 + 1
    frame_rate_hz = spec.sample_rate_hz / spec.hop_length
    padded = _mel.pad(sound, spec)
    mel, magnitude = _mel.mel_and_magnitude(padded, spec, n_frames, keep_magnitude=True)
    decibels = _mel.scale(mel[:, :n_frames], spec)
    shape = _statistics.spectral_shape(magnitude, n_bins, n_frames, spec.sample_rate_hz / spec.n_fft)
    series: list[Float64 | Float32] = [
        _chroma.chroma(magnitude, n_bins, n_frames, spec.sample_rate_hz),
        _statistics.root_mean_square(padded, spec.n_fft, spec.hop_length, n_frames),
        *shape,
        _statistics.zero_crossing_rate(sound, spec.n_fft, spec.hop_length, n_frames),
    ]
    envelope = rhythm.onset_envelope(decibels, spec.n_fft, spec.hop_length)
    tempo = rhythm.estimate_tempo(envelope, frame_rate_hz)
    cepstra = _mel.cosine_transform(decibels, n_mfcc)
    parts = [
        [moment for values in series for moment in _moments(values)],
        _hpss.harmonic_percussive_moments(padded, magnitude, spec, len(sound), whole_tail=whole_tail),
        [tempo],
        [moment for values in cepstra for moment in _moments(values)],
        rhythm.rhythm_columns(envelope, tempo, frame_rate_hz) if with_rhythm else [],
    ]
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])


def _moments(values: Float64 | Float32) -> tuple[float, float]:
    return float(values.mean(dtype=np.float64)), float(values.var(dtype=np.float64))
