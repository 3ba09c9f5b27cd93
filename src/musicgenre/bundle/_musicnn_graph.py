"""The MusiCNN and VGG networks as ONNX graphs, front end inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from musicgenre._onnx_graph import GraphBuilder
from musicgenre.bundle._musicnn_front import PATCH_FRAMES, Front, Read, add_front, batch_norm
from musicgenre.features._onnx import add_melspectrogram
from musicgenre.features.specification import MelSpec

Float64 = NDArray[np.float64]

_MIDDLE = (("conv2d_5", 6), ("conv2d_6", 7), ("conv2d_7", 8))
_VGG_POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))


def musicnn_graph(read: Read, spec: MelSpec) -> bytes:
    """MusiCNN as an ONNX file; ``read`` gives the published variables by name."""
    graph = GraphBuilder("musicnn")
    front = add_front(graph, _add_patches(graph, spec), read)
    hidden = _add_first_middle(graph, front, read)
    layers = [front.tensor, hidden]
    for name, norm in _MIDDLE[1:]:
        hidden = graph.op("Add", _add_middle(graph, hidden, read, name, norm), hidden)
        layers.append(hidden)
    everything = graph.op("Concat", *layers, axis=1)  # (rows, n_alive + 192, 187)
    pooled = [graph.op(kind, everything, axes=[2], keepdims=0) for kind in ("ReduceMax", "ReduceMean")]
    kernel, bias = _folded_dense(front, read)
    dense = graph.op("Gemm", graph.op("Concat", *pooled, axis=1), graph.floats(kernel), graph.floats(bias))
    embedding = _add_batch_norm(graph, graph.op("Relu", dense), read, 10)
    return _finish(graph, embedding, _add_dense(graph, embedding, read, "dense_1"), 200)


def vgg_graph(read: Read, spec: MelSpec) -> bytes:
    """Build the VGG tagger as an ONNX file; ``read`` gives the published variables by name."""
    graph = GraphBuilder("vgg")
    image = graph.op("Unsqueeze", _add_patches(graph, spec), graph.integers([1]))  # (rows, 1, 187, 96)
    hidden = _add_batch_norm(graph, image, read, 0)
    for number, (size, stride) in enumerate(_VGG_POOLS):
        hidden = graph.op("Relu", _add_convolution(graph, hidden, read, f"{number + 1}CNN"))
        hidden = _add_batch_norm(graph, hidden, read, number + 1)
        hidden = graph.op("MaxPool", hidden, kernel_shape=list(size), strides=[stride, stride])
    embedding = graph.reshape(graph.transpose(hidden, [0, 2, 3, 1]), [-1, 256])
    return _finish(graph, embedding, _add_dense(graph, embedding, read, "dense"), 256)


def _add_patches(graph: GraphBuilder, spec: MelSpec) -> str:
    """Hear a waveform, cut its frames into patches of 187: shape (rows, 187, 96)."""
    frames = graph.transpose(_add_frames(graph, spec), [0, 2, 1])  # (batch, frames, 96)
    n_frames = graph.op("Gather", graph.op("Shape", frames), graph.integers([1]), axis=0)
    patch = graph.integers([PATCH_FRAMES])
    whole = graph.op("Mul", graph.op("Div", n_frames, patch), patch)
    kept = graph.op("Slice", frames, graph.integers([0]), whole, graph.integers([1]))
    return graph.reshape(kept, [-1, PATCH_FRAMES, spec.n_mels])


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


def _add_first_middle(graph: GraphBuilder, front: Front, read: Read) -> str:
    """Convolve the channels that vary; what the constant ones add depends on the frame only near zero-padded edges."""
    name, norm = _MIDDLE[0]
    kernel = read(f"{name}/kernel").astype(np.float64)[:, :, 0]  # (7, 561, 64)
    inside = np.pad(np.ones(PATCH_FRAMES), 3)
    from_constants = np.einsum("tc,tco->to", np.broadcast_to(front.constants, (7, len(front.constants))), kernel)
    added = np.stack([np.convolve(inside, taps[::-1], mode="valid") for taps in from_constants.T])  # (64, 187)
    varying = graph.floats(kernel[:, front.alive].transpose(2, 1, 0))
    hidden = graph.op("Conv", front.tensor, varying, graph.floats(read(f"{name}/bias")), pads=[3, 3])
    return _add_batch_norm(graph, graph.op("Relu", graph.op("Add", hidden, graph.floats(added))), read, norm)


def _add_middle(graph: GraphBuilder, tensor: str, read: Read, name: str, norm: int) -> str:
    """Convolve over time, ReLU, batch-norm; (rows, 64, 187) in and out."""
    kernel = graph.floats(read(f"{name}/kernel")[:, :, 0].transpose(2, 1, 0))
    hidden = graph.op("Conv", tensor, kernel, graph.floats(read(f"{name}/bias")), pads=[3, 3])
    return _add_batch_norm(graph, graph.op("Relu", hidden), read, norm)


def _folded_dense(front: Front, read: Read) -> tuple[Float64, Float64]:
    """Kernel and bias of the dense layer with the batch-norm before it and the constant channels folded in.

    Published inputs are max0, mean0, max1, mean1 ...; ours are the maxima, then the means, of the varying channels.
    """
    scale, shift = batch_norm(read, 9)
    kernel = read("dense/kernel").astype(np.float64)
    n_middle = len(scale) // 2 - len(front.alive)
    constants = np.concatenate([front.constants, np.zeros(n_middle)]).repeat(2)
    bias = read("dense/bias") + (shift + scale * constants) @ kernel
    alive = np.flatnonzero(np.concatenate([front.alive, np.ones(n_middle, dtype=bool)]))
    taken = np.concatenate([2 * alive, 2 * alive + 1])
    return (scale[:, None] * kernel)[taken], bias


def _add_convolution(graph: GraphBuilder, tensor: str, read: Read, name: str) -> str:
    """Convolve over (time, frequency) with 3 x 3 filters, same size out."""
    kernel = graph.floats(read(f"{name}/kernel").transpose(3, 2, 0, 1))
    return graph.op("Conv", tensor, kernel, graph.floats(read(f"{name}/bias")), pads=[1, 1, 1, 1])


def _add_batch_norm(graph: GraphBuilder, tensor: str, read: Read, number: int) -> str:
    """Batch-norm over axis 1."""
    scale, shift = batch_norm(read, number)
    zeros, ones = np.zeros(len(scale)), np.ones(len(scale))
    values = [graph.floats(column) for column in (scale, shift, zeros, ones)]
    return graph.op("BatchNormalization", tensor, *values, epsilon=0.0)


def _add_dense(graph: GraphBuilder, tensor: str, read: Read, name: str) -> str:
    return graph.op("Gemm", tensor, graph.floats(read(f"{name}/kernel")), graph.floats(read(f"{name}/bias")))


def _finish(graph: GraphBuilder, embedding: str, logits: str, width: int) -> bytes:
    graph.output(graph.op("Sigmoid", logits), "tags", ["rows", 50])
    graph.output(embedding, "embedding", ["rows", width])
    return graph.build()
