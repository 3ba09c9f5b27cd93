"""The MusiCNN and VGG networks as ONNX graphs, front end inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from musicgenre._onnx import GraphBuilder
from musicgenre.features.mel.onnx import add_melspectrogram
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.published.musicnn.published import SPEC, Family, output_width

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
        What it is asked for, of `musicgenre.features.published.musicnn.published.outputs_of`; `mean` and `max` alone.
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


Read = Callable[[str], NDArray[np.float32]]

PATCH_FRAMES = 187
N_BANDS = 96
_N_BINS = 1 + N_BANDS // 2
_BLOCK_FRAMES = 17  # 11 blocks make a patch
_FILTERS_AT_ONCE = 32  # keeps the spectra of a few filters within the processor's cache
_BATCH_NORM_EPSILON = 1e-3
_NEGLIGIBLE = 1e-6  # change of a channel per unit of its inputs that counts as none

_TIMBRAL = (("conv2d", 1), ("conv2d_1", 2))
_TEMPORAL = (("conv2d_2", 3), ("conv2d_3", 4), ("conv2d_4", 5))


@dataclass(frozen=True, slots=True)
class _Layer:
    """One convolution of the first layer with all its channels; ``alive`` marks those that are not constant."""

    kernel: Float64  # (frames, bands, channels), negated where the batch-norm falls
    sign: Float64
    bias: Float64
    scale: Float64
    shift: Float64
    alive: NDArray[np.bool_]

    @property
    def constants(self) -> Float64:
        """Value of every channel whose filter is zero."""
        return np.asarray(self.scale * np.maximum(self.bias, 0.0) + self.shift)

    @property
    def kernels(self) -> Float64:
        """Filters that are not zero."""
        return self.kernel[..., self.alive]


@dataclass(frozen=True, slots=True)
class Front:
    """The first layer's result.

    Attributes
    ----------
    tensor : str
        The channels that vary, shape (rows, n_alive, 187).
    alive : ndarray of bool, shape (561,)
        Which channels these are.
    constants : ndarray, shape (561,)
        Values of the others; zero where alive.
    """

    tensor: str
    alive: NDArray[np.bool_]
    constants: Float64


def batch_norm(read: Read, number: int) -> tuple[Float64, Float64]:
    """Scale and shift that a batch-norm amounts to."""
    prefix = "batch_normalization" + (f"_{number}" if number else "")
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (read(f"{prefix}/{name}").astype(np.float64) for name in names)
    scale = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
    return scale, beta - mean * scale


def add_front(graph: GraphBuilder, patches: str, read: Read) -> Front:
    """Add the first layer.

    Parameters
    ----------
    graph : GraphBuilder
        Receives the nodes.
    patches : str
        Log-mel patches, shape (rows, 187, 96).
    read : callable
        Gives the published variables by name.
    """
    scale, shift = batch_norm(read, 0)
    normed = graph.op("Add", graph.op("Mul", patches, graph.floats(scale)), graph.floats(shift))
    timbral = [_layer(read, *names) for names in _TIMBRAL]
    temporal = [_layer(read, *names) for names in _TEMPORAL]
    maxima = [*_add_timbral(graph, normed, timbral), *_add_temporal(graph, normed, temporal)]
    layers = timbral + temporal
    alive = np.concatenate([layer.alive for layer in layers])
    constants = np.where(alive, 0.0, np.concatenate([layer.constants for layer in layers]))

    def column(name: str) -> str:
        values = np.concatenate([getattr(layer, name)[layer.alive] for layer in layers])
        return graph.floats(values[:, None])

    loudest = graph.op("Concat", *maxima, axis=1)  # (rows, n_alive, 187)
    raised = graph.op("Add", graph.op("Mul", loudest, column("sign")), column("bias"))
    normed = graph.op("Add", graph.op("Mul", graph.op("Relu", raised), column("scale")), column("shift"))
    return Front(normed, alive, constants)


def _layer(read: Read, name: str, norm: int) -> _Layer:
    kernel = read(f"{name}/kernel").astype(np.float64)[:, :, 0, :]
    scale, shift = batch_norm(read, norm)
    sign = np.where(scale < 0, -1.0, 1.0)
    alive = np.abs(kernel).sum(axis=(0, 1)) * np.abs(scale) > _NEGLIGIBLE
    return _Layer(kernel * sign, sign, read(f"{name}/bias").astype(np.float64), scale, shift, alive)


def _add_timbral(graph: GraphBuilder, normed: str, layers: list[_Layer]) -> Iterator[str]:
    """Maxima of the timbral filters over frequency, each tensor of shape (rows, n, 187)."""
    turns = 2.0 * np.pi * np.arange(_N_BINS)[:, None] * np.arange(N_BANDS) / N_BANDS
    transform = np.stack([np.cos(turns), -np.sin(turns)], axis=1).reshape(2 * _N_BINS, N_BANDS)
    bands_first = graph.op("Pad", graph.transpose(normed, [0, 2, 1]), graph.integers([0, 0, 3, 0, 0, 3]))
    spectrum = graph.op("MatMul", graph.floats(transform), bands_first)  # (rows, 98, 193): real, imaginary, ...
    for layer in layers:
        kernels = layer.kernels
        for start in range(0, kernels.shape[-1], _FILTERS_AT_ONCE):
            yield _add_spectral_maximum(graph, spectrum, kernels[..., start : start + _FILTERS_AT_ONCE])


def _add_spectral_maximum(graph: GraphBuilder, spectrum: str, kernels: Float64) -> str:
    """Maximum over frequency of a valid convolution, from the spectrum of its input; kernels (frames, bands, n)."""
    n_frames, n_bands, n_filters = kernels.shape
    n_outputs = N_BANDS - n_bands + 1
    bins = np.arange(_N_BINS)
    centre = (n_outputs - 1) / 2
    waves = np.exp(2j * np.pi * bins[:, None] * (np.arange(n_bands) + centre) / N_BANDS)
    weights = np.einsum("kb,tbn->knt", waves, kernels)  # (bins, filters, frames)
    offsets = np.arange((n_outputs + 1) // 2) + (0.0 if n_outputs % 2 else 0.5)
    angles = 2.0 * np.pi * offsets[:, None] * bins / N_BANDS
    shares = np.where((bins == 0) | (bins == N_BANDS // 2), 1.0, 2.0) / N_BANDS
    parts = (
        (np.cos(angles) * shares, np.stack([weights.real, -weights.imag], axis=2)),
        (np.sin(angles) * shares, np.stack([weights.imag, weights.real], axis=2)),
    )
    sums = []
    for back, filters in parts:
        rows = graph.floats(filters.reshape(_N_BINS * n_filters, 2, n_frames))
        products = graph.op("Conv", spectrum, rows, group=_N_BINS)  # (rows, bins x filters, 187)
        flat = graph.reshape(products, [0, _N_BINS, n_filters * PATCH_FRAMES])
        sums.append(graph.op("MatMul", graph.floats(back), flat))  # (rows, offsets, filters x 187)
    both = graph.op("Add", sums[0], graph.op("Abs", sums[1]))
    return graph.reshape(graph.op("ReduceMax", both, axes=[1], keepdims=0), [0, n_filters, PATCH_FRAMES])


def _add_temporal(graph: GraphBuilder, normed: str, layers: list[_Layer]) -> Iterator[str]:
    """Maxima of the temporal filters over the bands, each tensor of shape (rows, n, 187)."""
    n_blocks = PATCH_FRAMES // _BLOCK_FRAMES
    for layer in layers:
        kernels = layer.kernels[:, 0, :].T  # (filters, taps)
        n_filters, n_taps = kernels.shape
        if n_filters == 0:
            continue
        length = _BLOCK_FRAMES + n_taps - 1
        padded = graph.op("Pad", normed, graph.integers([0, (n_taps - 1) // 2, 0, 0, n_taps // 2, 0]))
        places = np.arange(n_blocks)[:, None] * _BLOCK_FRAMES + np.arange(length)
        windows = graph.op("Gather", padded, graph.integers(places), axis=1)  # (rows, blocks, length, 96)
        results = graph.op("MatMul", _add_toeplitz(graph, kernels), windows)  # (rows, blocks, filters x 17, 96)
        loudest = graph.op("ReduceMax", results, axes=[3], keepdims=0)
        blocks = graph.reshape(loudest, [0, n_blocks, n_filters, _BLOCK_FRAMES])
        yield graph.reshape(graph.transpose(blocks, [0, 2, 1, 3]), [0, n_filters, PATCH_FRAMES])


def _add_toeplitz(graph: GraphBuilder, kernels: Float64) -> str:
    """Matrices that slide every filter over one block, shape (filters x 17, length); folded to a constant at load.

    Repeating a row of ``length + 1`` and cutting the repetition into rows of ``length`` shifts each row by one.
    """
    n_filters, n_taps = kernels.shape
    length = _BLOCK_FRAMES + n_taps - 1
    row = graph.floats(np.pad(kernels, ((0, 0), (0, length + 1 - n_taps))))
    repeated = graph.op("Tile", row, graph.integers([1, _BLOCK_FRAMES]))
    return graph.reshape(graph.slice(repeated, 1, 0, _BLOCK_FRAMES * length), [n_filters * _BLOCK_FRAMES, length])
