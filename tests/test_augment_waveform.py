"""Waveform chains: drawn from a seed alone, replayed exactly, within the reports' ranges."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.augment.waveform import Chain, Step, apply, get_chain, list_chains, register_chain
from musicgenre.errors import DataError, UsageError

RATE_HZ = 8_000
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    return (0.5 * np.sin(np.arange(RATE_HZ * 2) * 2 * np.pi * 440 / RATE_HZ)).astype(np.float32)


def parameters(chain: str, seed: int) -> dict[str, dict[str, float]]:
    return {step["transform"]: step["parameters"] for step in get_chain(chain).draw(seed)["steps"]}


@pytest.mark.parametrize("chain", list_chains())
def test_a_record_from_json_gives_the_same_samples(chain: str, tone: np.ndarray) -> None:
    drawn = get_chain(chain).draw(7)
    once = apply(drawn, tone, RATE_HZ)
    again = apply(json.loads(json.dumps(drawn)), tone, RATE_HZ)
    np.testing.assert_array_equal(once, again)
    assert once.dtype == np.float32
    assert np.abs(once).max() <= 1.0


@given(SEEDS)
@settings(max_examples=40)
def test_a3_draws_within_the_reports_ranges(seed: int) -> None:
    drawn = parameters("A3", seed)
    ranges = {
        "AddGaussianNoise": ("amplitude", 0.001, 0.015),
        "TimeStretch": ("rate", 0.8, 1.25),
        "PitchShift": ("num_semitones", -4, 4),
        "Shift": ("shift_amount", -0.5, 0.5),
    }
    assert set(drawn) <= set(ranges)
    for transform, values in drawn.items():
        name, low, high = ranges[transform]
        assert low <= values[name] <= high


def test_a3_applies_each_step_every_other_time_and_is_told_16_khz() -> None:
    drawn = [parameters("a3", seed) for seed in range(400)]
    for step in get_chain("a3").steps:
        assert 0.42 < sum(step.transform in values for values in drawn) / 400 < 0.58
    assert get_chain("a3").draw(0)["told_rate_hz"] == 16_000


def test_b2_applies_its_three_steps_at_random_strength() -> None:
    drawn = [parameters("b2", seed) for seed in range(20)]
    assert all(set(values) == {"AddGaussianNoise", "Shift", "TimeStretch"} for values in drawn)
    assert len({values["TimeStretch"]["rate"] for values in drawn}) == 20


def test_drawing_leaves_the_global_generators_alone(tone: np.ndarray) -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = (random.random(), np.random.random())  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    apply(get_chain("b2").draw(1), tone, RATE_HZ)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_each_step_does_its_own(tone: np.ndarray) -> None:
    stretched = apply(get_chain("time-stretch").draw(3), tone, RATE_HZ)
    rate = parameters("time-stretch", 3)["TimeStretch"]["rate"]
    assert len(stretched) == pytest.approx(len(tone) / rate, rel=0.01)
    noisy = apply(get_chain("noise").draw(3), tone, RATE_HZ)
    assert (noisy - tone).std() == pytest.approx(parameters("noise", 3)["AddGaussianNoise"]["amplitude"], rel=0.05)
    shifted = apply(get_chain("shift").draw(3), np.arange(1000, dtype=np.float32) / 1000, RATE_HZ)
    amount = round(parameters("shift", 3)["Shift"]["shift_amount"] * 1000)
    assert shifted[(amount + 300) % 1000] == pytest.approx(0.3)
    pitched = apply(get_chain("pitch-shift").draw(3), tone, RATE_HZ)
    semitones = parameters("pitch-shift", 3)["PitchShift"]["num_semitones"]
    peak_hz = np.abs(np.fft.rfft(pitched)).argmax() * RATE_HZ / len(pitched)
    assert peak_hz == pytest.approx(440 * 2 ** (semitones / 12), rel=0.02)


def test_loud_results_are_scaled_to_full_scale() -> None:
    loud = np.ones(RATE_HZ, np.float32)
    assert np.abs(apply(get_chain("noise").draw(1), loud, RATE_HZ)).max() == pytest.approx(1.0)


def test_only_keeps_steps_and_applies_them_always() -> None:
    alone = get_chain("a3").only(["TimeStretch"])
    assert all([s["transform"] for s in alone.draw(seed)["steps"]] == ["TimeStretch"] for seed in range(10))
    assert get_chain("a3").only([]) is get_chain("a3")
    with pytest.raises(UsageError, match="no step 'Stretch'"):
        get_chain("a3").only(["Stretch"])


def test_bad_names_seeds_and_records() -> None:
    with pytest.raises(UsageError, match="'pitch-shift'"):
        get_chain("pitchshift")
    with pytest.raises(UsageError, match="taken"):
        register_chain(Chain("a3", "again", ()))
    with pytest.raises(UsageError, match="out of range"):
        get_chain("a3").draw(-1)
    with pytest.raises(DataError, match="no record"):
        apply({"steps": [{}]}, np.zeros(10, np.float32), RATE_HZ)
    with pytest.raises(DataError, match="no transform"):
        Chain("x", "", (Step("Nonsense"),)).draw(0)
