"""The torch front end against the reference and the representations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from musicgenre.features.mel import reference
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.mel.torch_frontend import MelFrontEnd
from musicgenre.features.representations.melspectrogram import PRESETS as MEL_PRESETS
from musicgenre.features.representations.mfcc import PRESETS as MFCC_PRESETS
from musicgenre.features.representations.mfcc import Mfcc

BASE = MelSpec(sample_rate_hz=16_000, n_fft=512, hop_length=256, n_mels=96)
SPECS = {
    "a5": MEL_PRESETS["a5"][0],
    "b1": MEL_PRESETS["b1"][0],
    "e1": MFCC_PRESETS["e1"][0],
    "musicnn": replace(BASE, scaling="log10_1p"),
    "offset, htk, amplitude": replace(BASE, scaling="log_offset", mel_scale="htk", power=1.0, mel_norm=None),
    "power, uncentred": replace(BASE, scaling="power", center=False, power=1.5, win_length=400),
    "reflect, band": replace(BASE, pad_mode="reflect", fmin_hz=300.0, fmax_hz=4_000.0),
}


def sounds(rng: np.random.Generator) -> np.ndarray:
    t = np.arange(20_000) / 16_000
    tones = np.stack([np.sin(2 * np.pi * 440 * t), np.sign(np.sin(2 * np.pi * 90 * t)) * t, np.zeros_like(t)])
    return (0.3 * tones + 0.01 * rng.standard_normal(tones.shape)).astype(np.float32)


@pytest.mark.parametrize("name", SPECS)
def test_agrees_with_the_reference(name: str, rng: np.random.Generator) -> None:
    spec, waveforms = SPECS[name], sounds(rng)
    got = MelFrontEnd(spec)(torch.from_numpy(waveforms)).numpy()
    expected = np.stack([reference.melspectrogram(waveform, spec) for waveform in waveforms])
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3 if spec.scaling == "decibel" else 1e-4)


def test_frames_first_is_the_representations_order(rng: np.random.Generator) -> None:
    waveform = (rng.standard_normal(66_150) * 0.1).astype(np.float32)
    representation = Mfcc()
    got = MelFrontEnd(representation.spec, frames_first=True)(torch.from_numpy(waveform[None]))[0].numpy()
    np.testing.assert_allclose(got, representation.compute(waveform), rtol=1e-3, atol=2e-3)


def test_nothing_of_it_is_saved() -> None:
    assert not MelFrontEnd(BASE).state_dict()


def test_gradients_pass() -> None:
    waveform = torch.randn(2, 4_000, requires_grad=True)
    MelFrontEnd(SPECS["musicnn"])(waveform).sum().backward()
    assert waveform.grad is not None
    assert torch.isfinite(waveform.grad).all()
