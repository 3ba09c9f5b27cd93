"""The mel front end as ONNX nodes: the backend inside every bundle.

Agrees with :mod:`musicgenre.features.reference` (``tests/test_frontend_contract.py``). The DFT is a convolution whose
kernels the graph computes from one table of ``n_fft`` cosines when a session loads, so that files stay small.
"""

from __future__ import annotations

import numpy as np

from musicgenre._onnx_graph import GraphBuilder
from musicgenre.features.reference import dct_matrix, hann_window, mel_filters
from musicgenre.features.specification import MelSpec


def add_melspectrogram(graph: GraphBuilder, waveform: str, spec: MelSpec) -> str:
    """Add the front end that ``spec`` describes.

    Parameters
    ----------
    graph : GraphBuilder
        Receives the nodes.
    waveform : str
        Tensor of shape (batch, samples).
    spec : MelSpec
        The front end.

    Returns
    -------
    str
        Tensor of shape (batch, spec.n_rows, frames).
    """
    if spec.center:
        margin = spec.n_fft // 2
        waveform = graph.op("Pad", waveform, graph.integers([0, margin, 0, margin]), mode=spec.pad_mode)
    spectrum = _add_spectrum(graph, waveform, spec)  # (batch, bins, frames)
    mel = graph.op("MatMul", graph.floats(mel_filters(spec)), spectrum)  # (batch, n_mels, frames)
    scaled = _add_scaling(graph, mel, spec)
    if spec.n_mfcc is None:
        return scaled
    return graph.op("MatMul", graph.floats(dct_matrix(spec.n_mfcc, spec.n_mels)), scaled)


def _add_spectrum(graph: GraphBuilder, waveform: str, spec: MelSpec) -> str:
    """Magnitudes of the DFT to the power ``spec.power``, shape (batch, bins, frames)."""
    n_bins = 1 + spec.n_fft // 2
    rows = graph.op("Unsqueeze", waveform, graph.integers([1]))  # (batch, 1, samples)
    kernels = _add_dft_kernels(graph, spec)
    parts = graph.op("Conv", rows, kernels, strides=[spec.hop_length])  # (batch, 2 bins, frames)
    real, imaginary = graph.slice(parts, 1, 0, n_bins), graph.slice(parts, 1, n_bins, 2 * n_bins)
    power = graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
    if spec.power == 2.0:
        return power
    if spec.power == 1.0:
        return graph.op("Sqrt", power)
    return graph.op("Pow", power, graph.floats(spec.power / 2))


def _add_dft_kernels(graph: GraphBuilder, spec: MelSpec) -> str:
    """Windowed cosines, then sines, of every bin, shape (2 bins, 1, n_fft); folded to a constant at load."""
    n_bins = 1 + spec.n_fft // 2
    angles = 2.0 * np.pi * np.arange(spec.n_fft) / spec.n_fft
    waves = graph.floats(np.concatenate([np.cos(angles), np.sin(angles)]))
    samples = graph.integers(np.arange(spec.n_fft)[None, None, :])
    bins = graph.integers(np.arange(n_bins)[:, None, None])
    steps = graph.op("Mod", graph.op("Mul", bins, samples), graph.integers([spec.n_fft]))  # (bins, 1, n_fft)
    both = graph.op("Concat", steps, graph.op("Add", steps, graph.integers([spec.n_fft])), axis=0)
    kernels = graph.op("Gather", waves, both, axis=0)
    return graph.op("Mul", kernels, graph.floats(hann_window(spec)))


def _add_scaling(graph: GraphBuilder, mel: str, spec: MelSpec) -> str:
    if spec.scaling == "power":
        return mel
    if spec.scaling == "log10_1p":
        raised = graph.op("Add", graph.op("Mul", mel, graph.floats(spec.log_multiplier)), graph.floats(1.0))
        return graph.op("Mul", graph.op("Log", raised), graph.floats(1.0 / np.log(10.0)))
    if spec.scaling == "log_offset":
        return graph.op("Log", graph.op("Add", mel, graph.floats(spec.log_offset)))
    floored = graph.op("Max", mel, graph.floats(spec.amin))
    decibels = graph.op("Mul", graph.op("Log", floored), graph.floats(10.0 / np.log(10.0)))
    if spec.top_db is None:
        return decibels
    loudest = graph.op("ReduceMax", decibels, axes=[1, 2], keepdims=1)
    return graph.op("Max", decibels, graph.op("Sub", loudest, graph.floats(spec.top_db)))
