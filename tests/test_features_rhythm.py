"""Tempo and beats, on clicks whose tempo is known and against librosa's tracker."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from musicgenre.features.classical import rhythm
from musicgenre.features.representations.melspectrogram import fast_melspectrogram
from musicgenre.features.representations.table import SPEC

FRAME_RATE_HZ = 22_050 / 512


def clicks(rng: np.random.Generator, bpm: float, seconds: float = 20.0) -> np.ndarray:
    t = np.arange(int(seconds * 22_050)) / 22_050
    return ((t % (60 / bpm) < 0.02) * rng.standard_normal(len(t)) * 0.5).astype(np.float32)


def envelope_of(waveform: np.ndarray) -> np.ndarray:
    return rhythm.onset_envelope(fast_melspectrogram(waveform, SPEC), SPEC.n_fft, SPEC.hop_length)


@pytest.mark.parametrize("bpm", [80.0, 100.0, 120.0, 140.0])
def test_clicks(rng: np.random.Generator, bpm: float) -> None:
    envelope = envelope_of(clicks(rng, bpm))
    tempo = rhythm.estimate_tempo(envelope, FRAME_RATE_HZ)
    assert tempo == pytest.approx(bpm, rel=0.04)
    values = dict(zip(rhythm.RHYTHM_COLUMNS, rhythm.rhythm_columns(envelope, tempo, FRAME_RATE_HZ), strict=True))
    assert values["beat_rate_bpm"] == pytest.approx(bpm, rel=0.04)
    assert values["onset_rate_hz"] == pytest.approx(bpm / 60, rel=0.1)
    assert values["beat_interval_spread"] < 0.05
    assert values["pulse_clarity"] > 0.5
    assert values["beat_strength"] > 3


def test_equals_librosa(rng: np.random.Generator) -> None:
    loud = 1 + np.repeat(rng.random(40), 11_025)
    waveform = (clicks(rng, 97.0) * loud + 0.01 * rng.standard_normal(441_000)).astype(np.float32)
    mel = librosa.feature.melspectrogram(y=waveform, sr=22_050, pad_mode="reflect")
    expected = librosa.onset.onset_strength(S=librosa.power_to_db(mel), sr=22_050, aggregate=np.median)
    envelope = envelope_of(waveform)
    np.testing.assert_allclose(envelope, expected, atol=1e-3)
    tempo, beats = librosa.beat.beat_track(onset_envelope=expected, sr=22_050)
    assert rhythm.estimate_tempo(envelope, FRAME_RATE_HZ) == pytest.approx(float(tempo[0]))
    assert rhythm.beat_frames(envelope, float(tempo[0]), FRAME_RATE_HZ).tolist() == beats.tolist()


def test_autocorrelation_equals_librosas(rng: np.random.Generator) -> None:
    envelope = rng.random(500).astype(np.float32)
    got = rhythm.autocorrelation(envelope, FRAME_RATE_HZ)
    expected = librosa.feature.tempogram(onset_envelope=envelope, sr=22_050, win_length=len(got)).mean(axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_no_onsets() -> None:
    silence = np.zeros(400, np.float32)
    assert rhythm.estimate_tempo(silence, FRAME_RATE_HZ) == 0
    assert len(rhythm.beat_frames(silence, 120.0, FRAME_RATE_HZ)) == 0
    assert not rhythm.rhythm_columns(silence, 0.0, FRAME_RATE_HZ).any()


@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 5, 8])
def test_few_frames(n_frames: int, rng: np.random.Generator) -> None:
    envelope = rhythm.onset_envelope(rng.random((128, n_frames), dtype=np.float32), 2_048, 512)
    assert envelope.shape == (n_frames,)
    tempo = rhythm.estimate_tempo(envelope, FRAME_RATE_HZ)
    assert np.isfinite(rhythm.rhythm_columns(envelope, tempo, FRAME_RATE_HZ)).all()
