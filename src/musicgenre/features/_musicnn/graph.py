"""The MusiCNN and VGG networks as ONNX graphs, front end inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from musicgenre._onnx_graph import GraphBuilder
from musicgenre.features._musicnn.front import PATCH_FRAMES, Front, Read, add_front, batch_norm
from musicgenre.features._musicnn.published import SPEC, Family, output_width
from musicgenre.features._onnx import add_melspectrogram
from musicgenre.features.specification import MelSpec

Float64 = NDArray[np.float64]

_MIDDLE = (("conv2d_5", 6), ("conv2d_6", 7), ("conv2d_7", 8))
_POOLS = {"max": "ReduceMax", "mean": "ReduceMean"}
_VGG_POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))


def patch_graph(family: Family, read: Read, outputs: Sequence[str] = ("tags", "embedding")) -> bytes:
    """Write a network as an ONNX file: ``waveform`` (batch, samples) to the outputs of every patch.

    Parameters
    ----------
    family : {"musicnn", "vgg"}
        Which network.
    read : callable
        Gives its published variables by name.
    outputs : sequence of str
        What it is asked for, of :func:`~musicgenre.features._musicnn.published.outputs_of`; ``mean`` and ``max``
        alone.
    """
    graph = GraphBuilder(family)
    found = _add_network(graph, _add_patches(graph, _add_frames(graph, SPEC)), family, read, outputs)
    for name in outputs:
        graph.output(found[name], name, ["rows", output_width(family, name)])
    return graph.build()


def add_track_output(graph: GraphBuilder, waveform: str, family: Family, read: Read, output: str) -> str:
    """Add front end and network: waveforms (rows, samples), each a patch or longer, to the mean of their patches.

    Returns
    -------
    str
        Tensor of shape (rows, width).
    """
    patches = _add_patches(graph, add_melspectrogram(graph, waveform, SPEC))
    found = _add_network(graph, patches, family, read, (output,))[output]  # (rows x patches, width)
    n_rows = graph.op("Slice", graph.op("Shape", waveform), graph.integers([0]), graph.integers([1]))
    shape = graph.op("Concat", n_rows, graph.integers([-1, output_width(family, output)]), axis=0)
    return graph.op("ReduceMean", graph.op("Reshape", found, shape), axes=[1], keepdims=0)


def _add_network(
    graph: GraphBuilder, patches: str, family: Family, read: Read, wanted: Sequence[str]
) -> dict[str, str]:
    """Add a network: log-mel patches (rows, 187, 96) to the wanted outputs by name, each (rows, its width)."""
    return (_add_musicnn if family == "musicnn" else _add_vgg)(graph, patches, read, wanted)


def _add_musicnn(graph: GraphBuilder, patches: str, read: Read, wanted: Sequence[str]) -> dict[str, str]:
    front = add_front(graph, patches, read)
    hidden = _add_first_middle(graph, front, read)
    layers = [front.tensor, hidden]
    for name, norm in _MIDDLE[1:]:
        hidden = graph.op("Add", _add_middle(graph, hidden, read, name, norm), hidden)
        layers.append(hidden)
    everything = graph.op("Concat", *layers, axis=1)  # (rows, n_alive + 192, 187)
    if wanted[0] in _POOLS:
        pool = graph.op(_POOLS[wanted[0]], everything, axes=[2], keepdims=0)
        return {wanted[0]: _add_constants(graph, pool, front)}
    pooled = [graph.op(kind, everything, axes=[2], keepdims=0) for kind in _POOLS.values()]
    kernel, bias = _folded_dense(front, read)
    dense = graph.op("Gemm", graph.op("Concat", *pooled, axis=1), graph.floats(kernel), graph.floats(bias))
    embedding = _add_batch_norm(graph, graph.op("Relu", dense), read, 10)
    return _with_tags(graph, embedding, read, "dense_1", wanted)


def _add_vgg(graph: GraphBuilder, patches: str, read: Read, wanted: Sequence[str]) -> dict[str, str]:
    image = graph.op("Unsqueeze", patches, graph.integers([1]))  # (rows, 1, 187, 96)
    hidden = _add_batch_norm(graph, image, read, 0)
    for number, (size, stride) in enumerate(_VGG_POOLS):
        hidden = graph.op("Relu", _add_convolution(graph, hidden, read, f"{number + 1}CNN"))
        hidden = _add_batch_norm(graph, hidden, read, number + 1)
        hidden = graph.op("MaxPool", hidden, kernel_shape=list(size), strides=[stride, stride])
    embedding = graph.reshape(graph.transpose(hidden, [0, 2, 3, 1]), [-1, 256])
    return _with_tags(graph, embedding, read, "dense", wanted)


def _with_tags(graph: GraphBuilder, embedding: str, read: Read, dense: str, wanted: Sequence[str]) -> dict[str, str]:
    if "tags" not in wanted:
        return {"embedding": embedding}
    return {"embedding": embedding, "tags": graph.op("Sigmoid", _add_dense(graph, embedding, read, dense))}


def _add_patches(graph: GraphBuilder, bands: str) -> str:
    """Cut log-mel frames (batch, 96, frames) into whole patches of 187: (batch x patches, 187, 96)."""
    frames = graph.transpose(bands, [0, 2, 1])
    n_frames = graph.op("Gather", graph.op("Shape", frames), graph.integers([1]), axis=0)
    patch = graph.integers([PATCH_FRAMES])
    whole = graph.op("Mul", graph.op("Div", n_frames, patch), patch)
    kept = graph.op("Slice", frames, graph.integers([0]), whole, graph.integers([1]))
    return graph.reshape(kept, [-1, PATCH_FRAMES, SPEC.n_mels])


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


def _add_constants(graph: GraphBuilder, pool: str, front: Front) -> str:
    """Put the constant channels back among the pooled ones: (rows, n_alive + 192) to (rows, 753)."""
    n_alive, n_middle = int(front.alive.sum()), output_width("musicnn", "mean") - len(front.alive)
    places = np.concatenate([np.flatnonzero(front.alive), len(front.alive) + np.arange(n_middle)])
    spread = np.zeros((n_alive + n_middle, len(front.alive) + n_middle))
    spread[np.arange(len(places)), places] = 1.0
    constants = np.concatenate([front.constants, np.zeros(n_middle)])
    return graph.op("Gemm", pool, graph.floats(spread), graph.floats(constants))


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
