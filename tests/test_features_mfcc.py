"""MFCCs against librosa and the reference."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from musicgenre.errors import UsageError
from musicgenre.features.mel import reference
from musicgenre.features.representations.mfcc import Mfcc


def test_e1_equals_librosa(rng: np.random.Generator) -> None:
    waveform = (rng.standard_normal(66_150) * np.linspace(0, 0.5, 66_150)).astype(np.float32)
    representation = Mfcc()
    assert representation.shape() == (130, 13)
    got = representation.compute(waveform)
    expected = librosa.feature.mfcc(y=waveform, sr=22_050, n_mfcc=13, n_fft=2_048, hop_length=512).T
    np.testing.assert_allclose(got, expected, atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(got, reference.melspectrogram(waveform, representation.spec).T, atol=2e-3, rtol=1e-4)


def test_the_floor_is_that_of_the_segment(rng: np.random.Generator) -> None:
    quiet = (rng.standard_normal(66_150) * 1e-4).astype(np.float32)
    difference = Mfcc().compute(quiet * 1000) - Mfcc().compute(quiet)
    np.testing.assert_allclose(difference[:, 1:], 0, atol=2e-3)
    np.testing.assert_allclose(difference[:, 0], 60 * np.sqrt(128), rtol=1e-4)


def test_options() -> None:
    assert Mfcc(n_mfcc=20, segment_s=1.0).shape() == (44, 20)
    with pytest.raises(UsageError, match="melspectrogram"):
        Mfcc(n_mfcc=None)
