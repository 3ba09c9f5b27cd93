"""The waveform as a representation."""

from __future__ import annotations

import numpy as np
import pytest

from musicgenre.errors import UsageError
from musicgenre.features.representations.waveform import Waveform


def test_scales(rng: np.random.Generator) -> None:
    sound = (0.1 * rng.standard_normal(16_000) + 0.01).astype(np.float32)
    assert np.array_equal(Waveform(segment_s=1.0).compute(sound), sound)
    assert np.abs(Waveform(segment_s=1.0, scale="peak").compute(sound)).max() == pytest.approx(1.0)
    standard = Waveform(segment_s=1.0, scale="standard").compute(sound)
    assert standard.mean() == pytest.approx(0, abs=1e-5)
    assert standard.std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("scale", ["none", "peak", "standard"])
def test_silence_stays_silent(scale: str) -> None:
    assert not Waveform(segment_s=0.5, scale=scale).compute(np.zeros(100, np.float32)).any()


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="Nearest: 'peak'"):
        Waveform(scale="peaks")
    with pytest.raises(UsageError, match="positive"):
        Waveform(segment_s=0)
