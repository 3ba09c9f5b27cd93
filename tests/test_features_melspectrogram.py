"""Mel spectrograms against the float64 reference and against librosa."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.errors import UsageError
from musicgenre.features.mel import reference
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.registry import create_representation
from musicgenre.features.representations.melspectrogram import MelSpectrogram, fast_melspectrogram

specs = st.builds(
    MelSpec,
    sample_rate_hz=st.sampled_from([8_000, 22_050]),
    n_fft=st.sampled_from([64, 100, 128, 256, 400, 512, 2_048]),
    hop_length=st.integers(10, 700),
    n_mels=st.integers(1, 64),
    fmin_hz=st.sampled_from([0.0, 300.0]),
    fmax_hz=st.sampled_from([None, 3_000.0]),
    power=st.sampled_from([1.0, 1.5, 2.0]),
    center=st.booleans(),
    pad_mode=st.sampled_from(["constant", "reflect"]),
    mel_scale=st.sampled_from(["slaney", "htk"]),
    frame=st.sampled_from(["n_fft", "window"]),
    mel_norm=st.sampled_from(["slaney", None]),
    mel_slopes=st.sampled_from(["hz", "mel"]),
    scaling=st.sampled_from(["power", "decibel", "log10_1p", "log_offset"]),
    top_db=st.sampled_from([None, 80.0]),
)


@settings(max_examples=60)
@given(spec=specs, n_samples=st.integers(1_100, 9_000), seed=st.integers(0, 99), short_window=st.booleans())
def test_agrees_with_the_reference(spec: MelSpec, n_samples: int, seed: int, short_window: bool) -> None:
    if short_window:
        spec = replace(spec, win_length=spec.n_fft // 2)
    waveform = (np.random.default_rng(seed).standard_normal(n_samples) * 0.2).astype(np.float32)
    got, expected = fast_melspectrogram(waveform, spec), reference.melspectrogram(waveform, spec)
    assert got.shape == expected.shape == (spec.n_rows, spec.n_frames(n_samples))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 if spec.scaling != "power" else 1e-6)


@pytest.mark.parametrize(("preset", "shape"), [("a5", (128, 301)), ("b1", (128, 173)), ("vggish", (64, 96))])
def test_presets(preset: str, shape: tuple[int, int]) -> None:
    assert create_representation("melspectrogram", preset=preset).shape() == shape


def test_equals_librosa(rng: np.random.Generator) -> None:
    waveform = (rng.standard_normal(88_200) * 0.1).astype(np.float32)
    mel = librosa.feature.melspectrogram(y=waveform, sr=22_050, n_fft=1_024, win_length=1_024, hop_length=512)
    got = MelSpectrogram(preset="b1").compute(waveform)
    np.testing.assert_allclose(got, librosa.power_to_db(mel), atol=1e-4)


@pytest.mark.real_data
def test_agrees_on_real_tracks(shared_data: Path) -> None:
    for genre in ("blues", "metal", "classical"):
        waveform, _ = soundfile.read(shared_data / f"gtzan-mini/genres/{genre}/{genre}.00003.wav", dtype="float32")
        representation = MelSpectrogram(preset="b1", segment_s=30.0)
        got = representation.compute(waveform)
        expected = reference.melspectrogram(waveform[: representation.n_samples], representation.spec)
        assert np.abs(got - expected).max() < 1e-3  # dB; float32 within 80 dB of the loudest value


def test_short_and_long_sounds_are_fitted(rng: np.random.Generator) -> None:
    representation = MelSpectrogram(segment_s=1.0)
    sound = rng.standard_normal(20_000).astype(np.float32)
    assert np.array_equal(representation.compute(sound), representation.compute(sound[:16_000]))
    padded = np.pad(sound[:9_000], (0, 7_000))
    assert np.array_equal(representation.compute(sound[:9_000]), representation.compute(padded))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_must_be_finite(bad: float) -> None:
    sound = np.zeros(16_000, np.float32)
    sound[5] = bad
    with pytest.raises(UsageError, match="not finite"):
        MelSpectrogram(segment_s=1.0).compute(sound)


def test_shapes_and_options_are_checked() -> None:
    with pytest.raises(UsageError, match="mono"):
        MelSpectrogram(segment_s=1.0).compute(np.zeros((2, 16_000), np.float32))
    with pytest.raises(UsageError, match="representation 'mfcc'"):
        MelSpectrogram(n_mfcc=13)
    with pytest.raises(UsageError, match="not positive"):
        MelSpectrogram(segment_s=0.0)
    with pytest.raises(UsageError, match="too few"):
        fast_melspectrogram(np.zeros(100, np.float32), replace(MelSpectrogram().spec, pad_mode="reflect"))


def test_a_sound_shorter_than_a_frame_gives_none() -> None:
    spec = replace(MelSpectrogram().spec, center=False)
    assert fast_melspectrogram(np.zeros(100, np.float32), spec).shape == (128, 0)


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("n_fft", 512.5, "a whole number"),
        ("hop_length", True, "a whole number"),
        ("win_length", "400", "a whole number or none"),
        ("center", 1, "true or false"),
        ("mel_norm", "x", "slaney or none"),
        ("mel_scale", ["htk"], "slaney, htk"),
        ("scaling", None, "power, decibel, log10_1p, log_offset"),
        ("amin", "x", "a finite number"),
        ("amin", float("nan"), "a finite number"),
        ("amin", -1.0, "amin is above 0"),
        ("log_offset", 0, "log_offset is above 0"),
        ("top_db", float("inf"), "a finite number or none"),
    ],
)
def test_settings_of_another_kind_are_refused(name: str, value: object, valid: str) -> None:
    settings: dict[str, Any] = {"sample_rate_hz": 8_000, "n_fft": 512, "hop_length": 256, "n_mels": 16, name: value}
    with pytest.raises(UsageError, match=rf"{name}=.*{valid}"):
        MelSpec(**settings)
