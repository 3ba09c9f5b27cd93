"""The 57 columns by librosa's own functions: slow, and what ours are held to (tests and benchmarks)."""

from __future__ import annotations

import librosa
import numpy as np

RATE_HZ = 22_050


def librosa_row(waveform: np.ndarray) -> np.ndarray:
    """Row of the table in float64, columns as in `representations.table.COLUMNS`, with reflect padding."""
    common = {"y": waveform, "pad_mode": "reflect"}
    harmonic, percussive = librosa.effects.hpss(**common)
    decibels = librosa.power_to_db(librosa.feature.melspectrogram(sr=RATE_HZ, **common))
    onsets = librosa.onset.onset_strength(S=decibels, sr=RATE_HZ, aggregate=np.median)
    tempo = librosa.feature.tempo(onset_envelope=onsets, sr=RATE_HZ)[0] if onsets.any() else 0.0
    series = [
        librosa.feature.chroma_stft(sr=RATE_HZ, **common),
        librosa.feature.rms(**common),
        librosa.feature.spectral_centroid(sr=RATE_HZ, **common),
        librosa.feature.spectral_bandwidth(sr=RATE_HZ, **common),
        librosa.feature.spectral_rolloff(sr=RATE_HZ, **common),
        librosa.feature.zero_crossing_rate(waveform),
        harmonic,
        percussive,
    ]
    cepstra = librosa.feature.mfcc(S=decibels, n_mfcc=20)
    return np.array(
        [moment(values) for values in series for moment in (np.mean, np.var)]
        + [tempo]
        + [moment(values) for values in cepstra for moment in (np.mean, np.var)],
        dtype=np.float64,
    )
