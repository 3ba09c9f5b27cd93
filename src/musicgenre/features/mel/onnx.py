"""The mel front end as ONNX nodes: the backend inside every bundle.

Agrees with `musicgenre.features.mel.reference` (`tests/test_frontend_contract.py`). The DFT is a matrix product
whose matrices the graph computes from one table of cosines and sines when a session loads, so that files stay small.
Where the window mirrors itself and the hop divides it, frames are folded twice before the product (cosines and sines
repeat themselves, mirrored, in every quarter of a turn): a quarter of the multiplications, with any ONNX opset. A
periodic window mirrors itself about a sample, a symmetric one between two: there the turns are counted from between
the samples, which moves the phases and leaves the magnitudes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre._onnx import GraphBuilder
from musicgenre.features.mel.reference import dct_matrix, hann_window, mel_filters
from musicgenre.features.mel.specification import MelSpec

_TO_THE_END = np.iinfo(np.int64).max


def add_melspectrogram(graph: GraphBuilder, waveform: str, spec: MelSpec) -> str:
    """Add the front end that `spec` describes.

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
    left, right = spec.padding
    if left or right:
        mode = spec.pad_mode if spec.center else "constant"
        waveform = graph.op("Pad", waveform, graph.integers([0, left, 0, right]), mode=mode)

    # Folding needs a window that mirrors itself, quarters that are whole, and frames that are whole hops.
    is_symmetric = (spec.n_fft - spec.window_length) % 2 == 0
    if is_symmetric and spec.n_fft % 4 == 0 and spec.n_fft % spec.hop_length == 0:
        spectrum, bins = _add_folded_spectrum(graph, waveform, spec)
    else:
        spectrum, bins = _add_spectrum(graph, waveform, spec)

    mel = graph.op("MatMul", graph.floats(mel_filters(spec)[:, bins]), spectrum)  # (batch, n_mels, frames)
    scaled = _add_scaling(graph, mel, spec)
    if spec.n_mfcc is None:
        return scaled
    return graph.op("MatMul", graph.floats(dct_matrix(spec.n_mfcc, spec.n_mels)), scaled)


def _add_spectrum(graph: GraphBuilder, waveform: str, spec: MelSpec) -> tuple[str, NDArray[np.int64]]:
    """Magnitudes to the power `spec.power`, shape (batch, bins, frames), by a convolution; and the bins' order."""
    bins = np.arange(1 + spec.n_fft // 2)
    window = graph.floats(hann_window(spec))
    parts = []
    for turn in (0.0, 0.25):
        waves = graph.op("Mul", _add_waves(graph, bins, np.arange(spec.n_fft), spec.n_fft, turn), window)
        kernels = graph.op("Unsqueeze", waves, graph.integers([1]))  # (bins, 1, n_fft)
        rows = graph.op("Unsqueeze", waveform, graph.integers([1]))  # (batch, 1, samples)
        parts.append(graph.op("Conv", rows, kernels, strides=[spec.hop_length]))
    return _add_magnitude(graph, parts[0], parts[1], spec), bins


def _add_folded_spectrum(graph: GraphBuilder, waveform: str, spec: MelSpec) -> tuple[str, NDArray[np.int64]]:
    """Magnitudes as in `_add_spectrum`, even bins first, from frames folded at half and quarter of a turn."""
    half, quarter = spec.n_fft // 2, spec.n_fft // 4
    windowed = graph.op("Mul", _add_frames(graph, waveform, spec), graph.floats(hann_window(spec)[:, None]))

    # Sample 0 of a periodic window is zero, so it may stand in for sample n_fft; the ends are counted twice. Without a
    # sample in the mirror each has its own partner.
    if spec.window == "periodic":
        near, offset = np.arange(quarter + 1), 0.0
        rows = (near, spec.n_fft - near, half - near, half + near)
        once = np.where((near == 0) | (near == quarter), 0.5, 1.0)
    else:
        near, offset = np.arange(quarter), 0.5
        rows = (near, spec.n_fft - 1 - near, half - 1 - near, half + near)
        once = np.ones(quarter)
    first, mirrored, second, third = (
        graph.op("Gather", windowed, graph.integers(part % spec.n_fft), axis=1) for part in rows
    )
    cosine = graph.op("Add", first, mirrored), graph.op("Add", second, third)
    sine = graph.op("Sub", first, mirrored), graph.op("Sub", second, third)

    # Even bins repeat themselves over half a turn, odd ones with the sign changed: each needs another fold.
    even, odd = np.arange(0, half + 1, 2), np.arange(1, half, 2)
    magnitudes = []
    for bins, cosine_sign, sine_sign in ((even, "Add", "Sub"), (odd, "Sub", "Add")):
        parts = []
        for turn, folded in ((0.0, graph.op(cosine_sign, *cosine)), (0.25, graph.op(sine_sign, *sine))):
            waves = _add_waves(graph, bins, near, spec.n_fft, turn, offset)
            waves = graph.op("Mul", waves, graph.floats(once))
            parts.append(graph.op("MatMul", waves, folded))
        magnitudes.append(_add_magnitude(graph, parts[0], parts[1], spec))
    return graph.op("Concat", *magnitudes, axis=1), np.concatenate([even, odd])


def _add_frames(graph: GraphBuilder, waveform: str, spec: MelSpec) -> str:
    """Frames as columns, shape (batch, n_fft, frames), put together from blocks of one hop."""
    hop = graph.integers([spec.hop_length])
    n_samples = graph.op("Gather", graph.op("Shape", waveform), graph.integers([1]), axis=0)
    whole = graph.op("Mul", graph.op("Div", n_samples, hop), hop)
    trimmed = graph.op("Slice", waveform, graph.integers([0]), whole, graph.integers([1]))

    blocks = graph.transpose(graph.reshape(trimmed, [0, -1, spec.hop_length]), [0, 2, 1])  # (batch, hop, blocks)
    n_parts = spec.n_fft // spec.hop_length
    if n_parts == 1:
        return blocks

    # Frame t is blocks t, t + 1 ... on top of each other: the same blocks, each time shifted by one.
    parts = []
    for n in range(n_parts):
        end = n + 1 - n_parts if n + 1 < n_parts else _TO_THE_END
        parts.append(graph.slice(blocks, 2, n, end))
    return graph.op("Concat", *parts, axis=1)


def _add_waves(
    graph: GraphBuilder,
    bins: NDArray[np.int64],
    samples: NDArray[np.int64],
    n_fft: int,
    turn: float,
    offset: float = 0.0,
) -> str:
    """Cosines (`turn` 0) or sines (0.25 of a turn later), shape (bins, samples); folded to a constant at load.

    With an `offset` of half a sample the table has a place between each two.
    """
    steps = 2 if offset else 1
    n_places = steps * n_fft
    table = graph.floats(np.cos(2.0 * np.pi * (np.arange(n_places) / n_places - turn)))
    places = steps * samples + int(steps * offset)
    products = graph.op("Mul", graph.integers(bins[:, None]), graph.integers(places))
    return graph.op("Gather", table, graph.op("Mod", products, graph.integers([n_places])), axis=0)


def _add_magnitude(graph: GraphBuilder, real: str, imaginary: str, spec: MelSpec) -> str:
    """Magnitudes to the power `spec.power`; the usual exponents avoid the slow `Pow`."""
    power = graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
    if spec.power == 2.0:
        return power
    if spec.power == 1.0:
        return graph.op("Sqrt", power)
    return graph.op("Pow", power, graph.floats(spec.power / 2))


def _add_scaling(graph: GraphBuilder, mel: str, spec: MelSpec) -> str:
    """Scale mel powers as `reference.compress` does."""
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

    # The loudest value of each row of the batch, not of the batch: a segment never depends on its neighbours.
    loudest = graph.op("ReduceMax", decibels, axes=[1, 2], keepdims=1)
    return graph.op("Max", decibels, graph.op("Sub", loudest, graph.floats(spec.top_db)))
