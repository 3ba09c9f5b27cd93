"""Samples in memory."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from musicgenre.audio import from_array
from musicgenre.errors import AudioError
from tests.sounds import music


def test_one_column_or_none_is_the_same() -> None:
    samples = music(1.0, channels=1)
    flat = from_array(samples[:, 0], 44100, 16000)
    assert np.array_equal(flat.waveform, from_array(samples, 44100, 16000).waveform)
    assert np.array_equal(flat.waveform, soxr.resample(samples[:, 0], 44100, 16000, quality="HQ"))
    assert (flat.sample_rate_hz, flat.duration_s, flat.warnings) == (16000, 1.0, ())


def test_channels_are_averaged() -> None:
    samples = music(0.2, channels=3)
    assert np.abs(from_array(samples, 8000, 8000).waveform - samples.mean(axis=1)).max() < 1e-6


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "float16", "float64"])
def test_every_number_type_has_full_scale_one(dtype: str) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        low, high = np.array([-1, 1], dtype)
    else:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    waveform = from_array(np.array([low, high] * 500, dtype), 8000, 8000).waveform
    assert waveform.dtype == np.float32
    assert waveform.min() == -1
    assert waveform.max() == pytest.approx(1, abs=0.01)


def test_it_is_a_copy() -> None:
    samples = np.array([0.1, np.nan, 0.2], np.float32)
    sound = from_array(samples, 8000, 8000)
    assert np.isnan(samples[1])
    assert not np.shares_memory(sound.waveform, samples)
    assert sound.warnings == ("1 of 3 samples are NaN or infinite: replaced by 0",)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((2, 44100)), "44100 channels.*array.T"),
        (np.zeros((10, 0)), "0 channels"),
        (np.zeros((2, 2, 2)), "is no sound"),
        (np.float32(1), "is no sound"),
        (np.zeros(0), "holds no sound"),
        (np.full(10, np.nan), "only NaN or infinite"),
        (np.zeros(10, complex), "array of complex128 is no sound"),
        (np.zeros(10, bool), "array of bool is no sound"),
        (np.array(["a"]), "is no sound"),
    ],
)
def test_what_is_no_sound_is_refused(array: np.ndarray, problem: str) -> None:
    with pytest.raises(AudioError, match=problem):
        from_array(array, 44100, 16000)


@pytest.mark.parametrize("rate", [0, -44100, 1, 10**7, 44100.5, True, None, "44100", float("nan")])
def test_impossible_rates_are_refused(rate: object) -> None:
    with pytest.raises(AudioError, match="array_rate_hz is"):
        from_array(np.zeros(10), rate, 16000)  # type: ignore[arg-type]


def test_rates_may_be_whole_floats_and_numpy_integers() -> None:
    assert len(from_array(np.zeros(441), 44100.0, np.int64(44100)).waveform) == 441  # type: ignore[arg-type]


@given(
    hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(width=32)),
    st.sampled_from([8000, 11025, 16000, 44100]),
)
def test_whatever_comes_only_numbers_go_out(samples: np.ndarray, rate_hz: int) -> None:
    try:
        sound = from_array(samples, rate_hz, 16000)
    except AudioError:
        assert not np.isfinite(samples).any() or len(samples) * 16000 < rate_hz
        return
    if np.abs(samples[np.isfinite(samples)]).max(initial=0) < 1e30:
        assert np.isfinite(sound.waveform).all()
    assert abs(len(sound.waveform) - len(samples) * 16000 / rate_hz) <= 1
