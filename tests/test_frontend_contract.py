"""Every backend of the mel front end agrees with the float64 reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.representations.melspectrogram import VGGISH

Backend = Callable[[NDArray[np.float32], MelSpec], NDArray[np.floating]]

SPECS = {
    "musicnn": MelSpec(sample_rate_hz=16_000, n_fft=512, hop_length=256, n_mels=96, scaling="log10_1p"),
    "symmetric window": MelSpec(
        sample_rate_hz=16_000, n_fft=512, hop_length=256, n_mels=96, window="symmetric", scaling="log10_1p"
    ),
    "short symmetric window": MelSpec(
        sample_rate_hz=8_000, n_fft=256, win_length=201, hop_length=60, n_mels=32, window="symmetric"
    ),
    "librosa": MelSpec(sample_rate_hz=22_050, n_fft=2048, hop_length=512, n_mels=128, top_db=80.0),
    "mfcc": MelSpec(sample_rate_hz=22_050, n_fft=2048, hop_length=512, n_mels=128, top_db=80.0, n_mfcc=20),
    "vggish": VGGISH,
    "htk": MelSpec(
        sample_rate_hz=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=64,
        fmin_hz=125.0,
        fmax_hz=7500.0,
        power=1.0,
        center=False,
        mel_scale="htk",
        mel_norm=None,
        scaling="log_offset",
    ),
    "short frames": MelSpec(
        sample_rate_hz=8_000, n_fft=256, win_length=201, hop_length=64, n_mels=32, center=False, frame="window"
    ),
    "mel slopes": MelSpec(sample_rate_hz=8_000, n_fft=256, hop_length=64, n_mels=32, mel_slopes="mel"),
    "reflect": MelSpec(sample_rate_hz=22_050, n_fft=1024, hop_length=256, n_mels=64, pad_mode="reflect"),
    "odd": MelSpec(sample_rate_hz=8_000, n_fft=402, win_length=401, hop_length=77, n_mels=32, power=1.5),
    "one hop a frame": MelSpec(sample_rate_hz=8_000, n_fft=256, hop_length=256, n_mels=32, scaling="power"),
    "short window": MelSpec(sample_rate_hz=8_000, n_fft=512, win_length=200, hop_length=128, n_mels=32, center=False),
}


def onnx_backend(waveform: NDArray[np.float32], spec: MelSpec) -> NDArray[np.floating]:
    import onnxruntime

    from musicgenre._onnx import GraphBuilder
    from musicgenre.features.mel.onnx import add_melspectrogram

    graph = GraphBuilder("front_end")
    rows = graph.input("waveform", "float32", ["batch", "samples"])
    graph.output(add_melspectrogram(graph, rows, spec), "mel", ["batch", spec.n_rows, "frames"])
    session = onnxruntime.InferenceSession(graph.build(), providers=["CPUExecutionProvider"])
    quiet = 0.5 * waveform  # a second row, so that nothing leaks from row to row
    mel, of_quiet = session.run(None, {"waveform": np.stack([waveform, quiet])})[0]
    np.testing.assert_allclose(of_quiet, melspectrogram(quiet, spec), atol=_tolerance(spec), rtol=1e-4)
    return np.asarray(mel)


def numba_backend(waveform: NDArray[np.float32], spec: MelSpec) -> NDArray[np.floating]:
    from musicgenre.features.representations.melspectrogram import fast_melspectrogram

    return fast_melspectrogram(waveform, spec)


# Every implementation of the front end has its line here.
BACKENDS: dict[str, Backend] = {"onnx": onnx_backend, "numba": numba_backend}


def _tolerance(spec: MelSpec) -> float:
    return {"decibel": 2e-2, "power": 1e-4}.get(spec.scaling, 2e-4)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
def test_backend_agrees_with_the_reference(backend: Backend, spec: MelSpec, rng: np.random.Generator) -> None:
    seconds = np.arange(spec.sample_rate_hz) / spec.sample_rate_hz
    waveform = 0.3 * np.sin(2 * np.pi * 440.0 * seconds) + 0.05 * rng.standard_normal(len(seconds))
    waveform = waveform.astype(np.float32)
    expected = melspectrogram(waveform, spec)
    computed = backend(waveform, spec)
    assert computed.shape == expected.shape == (spec.n_rows, spec.n_frames(len(waveform)))
    np.testing.assert_allclose(computed, expected, atol=_tolerance(spec), rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
@pytest.mark.parametrize("name", ["musicnn", "librosa", "vggish"])
def test_backend_agrees_on_silence(backend: Backend, name: str) -> None:
    spec = SPECS[name]
    waveform = np.zeros(spec.sample_rate_hz, dtype=np.float32)
    np.testing.assert_allclose(backend(waveform, spec), melspectrogram(waveform, spec), atol=1e-4)
