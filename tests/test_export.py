"""Exported bundles agree with the training-time model, carry their card, and are refused where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from musicgenre.bundle._network_graph import has_graph_front_end, probabilities, write_graph
from musicgenre.features.registry import create_representation

FRONT_ENDS = {
    "melspectrogram-a5": ("melspectrogram", {"preset": "a5", "segment_s": 2.0}),
    "melspectrogram-b1": ("melspectrogram", {"preset": "b1", "segment_s": 1.0}),
    "mfcc": ("mfcc", {"segment_s": 1.0}),
    "waveform": ("waveform", {"segment_s": 0.5}),
    "waveform-peak": ("waveform", {"segment_s": 0.5, "scale": "peak"}),
    "waveform-standard": ("waveform", {"segment_s": 0.5, "scale": "standard"}),
    "picture": ("picture", {"size": 32, "segment_s": 2.0}),
    "picture-last": ("picture", {"size": 16, "segment_s": 1.0, "channels_first": False}),
}


def _sounds(n_samples: int, rate_hz: int) -> np.ndarray:
    """Noise, a quiet tone, a click and silence, shape (4, n_samples)."""
    random = np.random.default_rng(5)
    tone = 0.01 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / rate_hz)
    click = np.zeros(n_samples)
    click[n_samples // 3] = 1.0
    return np.stack([random.normal(0, 0.2, n_samples), tone, click, np.zeros(n_samples)]).astype(np.float32)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_front_ends_inside_the_graph_agree(name: str) -> None:
    import onnxruntime

    kind, options = FRONT_ENDS[name]
    representation = create_representation(kind, **options)
    assert has_graph_front_end(representation.settings())
    content = write_graph(torch.nn.Flatten(), representation)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    rows = _sounds(entry.shape[1], representation.sample_rate_hz)
    (found,) = session.run(["logits"], {"waveform": rows})
    expected = np.stack([representation.compute(row).ravel() for row in rows])
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= 1e-3 * scale


def test_probabilities_are_softmax() -> None:
    found = probabilities(torch.nn.Identity(), np.array([[0.0, np.log(3.0)]], dtype=np.float32))
    assert np.allclose(found, [[0.25, 0.75]])
