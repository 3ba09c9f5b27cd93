"""The MusiCNN and VGG networks as ONNX graphs, front end inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from musicgenre._onnx_graph import GraphBuilder
from musicgenre.features._onnx import add_melspectrogram
from musicgenre.features.specification import MelSpec

Float64 = NDArray[np.float64]
Read = Callable[[str], NDArray[np.float32]]

PATCH_FRAMES = 187
_BATCH_NORM_EPSILON = 1e-3
_TIMBRAL = (("conv2d", 1), ("conv2d_1", 2))
_TEMPORAL = (("conv2d_2", 3), ("conv2d_3", 4), ("conv2d_4", 5))
_MIDDLE = (("conv2d_5", 6), ("conv2d_6", 7), ("conv2d_7", 8))
_VGG_POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))


def musicnn_graph(read: Read, spec: MelSpec) -> bytes:
    """MusiCNN as an ONNX file; ``read`` gives the published variables by name."""
    graph = GraphBuilder("musicnn")
    patches = _add_patches(graph, spec)  # (rows, 1, 187, 96)
    normed = _add_batch_norm(graph, patches, read, 0)
    parts = [_add_timbral(graph, normed, read, *layer) for layer in _TIMBRAL]
    parts += [_add_temporal(graph, normed, read, *layer) for layer in _TEMPORAL]
    front = graph.op("Concat", *parts, axis=1)  # (rows, 561, 187)
    layers = [front]
    for name, norm in _MIDDLE:
        hidden = _add_convolution(graph, layers[-1], read, name, pads=[3, 3])
        hidden = _add_batch_norm(graph, graph.op("Relu", hidden), read, norm)
        layers.append(hidden if len(layers) == 1 else graph.op("Add", hidden, layers[-1]))
    everything = graph.op("Concat", *layers, axis=1)  # (rows, 753, 187)
    pooled = [graph.op(kind, everything, axes=[2], keepdims=1) for kind in ("ReduceMax", "ReduceMean")]
    both = graph.reshape(graph.op("Concat", *pooled, axis=2), [-1, 1506])
    hidden = _add_dense(graph, _add_batch_norm(graph, both, read, 9), read, "dense")
    embedding = _add_batch_norm(graph, graph.op("Relu", hidden), read, 10)
    return _finish(graph, embedding, _add_dense(graph, embedding, read, "dense_1"), 200)


def vgg_graph(read: Read, spec: MelSpec) -> bytes:
    """Build the VGG tagger as an ONNX file; ``read`` gives the published variables by name."""
    graph = GraphBuilder("vgg")
    hidden = _add_batch_norm(graph, _add_patches(graph, spec), read, 0)
    for number, (size, stride) in enumerate(_VGG_POOLS):
        hidden = graph.op("Relu", _add_convolution(graph, hidden, read, f"{number + 1}CNN", pads=[1, 1, 1, 1]))
        hidden = _add_batch_norm(graph, hidden, read, number + 1)
        hidden = graph.op("MaxPool", hidden, kernel_shape=list(size), strides=[stride, stride])
    embedding = graph.reshape(graph.transpose(hidden, [0, 2, 3, 1]), [-1, 256])
    return _finish(graph, embedding, _add_dense(graph, embedding, read, "dense"), 256)


def _add_patches(graph: GraphBuilder, spec: MelSpec) -> str:
    """Hear a waveform, cut its frames into patches of 187: shape (rows, 1, 187, 96)."""
    frames = graph.transpose(_add_frames(graph, spec), [0, 2, 1])  # (batch, frames, 96)
    n_frames = graph.op("Gather", graph.op("Shape", frames), graph.integers([1]), axis=0)
    patch = graph.integers([PATCH_FRAMES])
    whole = graph.op("Mul", graph.op("Div", n_frames, patch), patch)
    kept = graph.op("Slice", frames, graph.integers([0]), whole, graph.integers([1]))
    return graph.reshape(kept, [-1, 1, PATCH_FRAMES, spec.n_mels])


def _add_frames(graph: GraphBuilder, spec: MelSpec) -> str:
    """Mel frames of the waveform with ``padding`` zeros on both sides, and at least one patch of them."""
    waveform = graph.input("waveform", "float32", ["batch", "samples"])
    padding = graph.reshape(graph.optional_input("padding", np.array(spec.n_fft // 2, dtype=np.int64)), [1])
    n_samples = graph.op("Gather", graph.op("Shape", waveform), graph.integers([1]), axis=0)
    shortest = graph.integers([(PATCH_FRAMES - 1) * spec.hop_length + spec.n_fft])
    missing = graph.op("Sub", graph.op("Sub", shortest, n_samples), graph.op("Add", padding, padding))
    zero = graph.integers([0])
    behind = graph.op("Add", padding, graph.op("Max", missing, zero))
    padded = graph.op("Pad", waveform, graph.op("Concat", zero, padding, zero, behind, axis=0))
    return add_melspectrogram(graph, padded, replace(spec, center=False))


def _add_timbral(graph: GraphBuilder, normed: str, read: Read, name: str, norm: int) -> str:
    padded = graph.op("Pad", normed, graph.integers([0, 0, 3, 0, 0, 0, 3, 0]))
    hidden = graph.op("Relu", _add_convolution(graph, padded, read, name, pads=[0, 0, 0, 0]))
    return graph.op("ReduceMax", _add_batch_norm(graph, hidden, read, norm), axes=[3], keepdims=0)


def _add_temporal(graph: GraphBuilder, normed: str, read: Read, name: str, norm: int) -> str:
    length = read(f"{name}/kernel").shape[0]
    hidden = _add_convolution(graph, normed, read, name, pads=[(length - 1) // 2, 0, length // 2, 0])
    hidden = _add_batch_norm(graph, graph.op("Relu", hidden), read, norm)
    return graph.op("ReduceMax", hidden, axes=[3], keepdims=0)


def _add_convolution(graph: GraphBuilder, tensor: str, read: Read, name: str, pads: list[int]) -> str:
    """A convolution over (time, frequency), or over time alone where two pads are given."""
    kernel = read(f"{name}/kernel").transpose(3, 2, 0, 1)
    if len(pads) == 2:
        kernel = kernel.transpose(0, 3, 2, 1)[..., 0] if kernel.shape[1] == 1 else kernel[..., 0]
    return graph.op("Conv", tensor, graph.floats(kernel), graph.floats(read(f"{name}/bias")), pads=pads)


def _add_batch_norm(graph: GraphBuilder, tensor: str, read: Read, number: int) -> str:
    prefix = "batch_normalization" + (f"_{number}" if number else "")
    values = [graph.floats(read(f"{prefix}/{part}")) for part in ("gamma", "beta", "moving_mean", "moving_variance")]
    return graph.op("BatchNormalization", tensor, *values, epsilon=_BATCH_NORM_EPSILON)


def _add_dense(graph: GraphBuilder, tensor: str, read: Read, name: str) -> str:
    return graph.op("Gemm", tensor, graph.floats(read(f"{name}/kernel")), graph.floats(read(f"{name}/bias")))


def _finish(graph: GraphBuilder, embedding: str, logits: str, width: int) -> bytes:
    graph.output(graph.op("Sigmoid", logits), "tags", ["rows", 50])
    graph.output(embedding, "embedding", ["rows", width])
    return graph.build()
