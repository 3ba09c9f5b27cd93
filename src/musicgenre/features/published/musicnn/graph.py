"""The MusiCNN and VGG networks as ONNX graphs, front end inside.

The graph computes what the published network does, in another order where that saves time: the maximum over frequency
comes before bias, ReLU and batch-norm, wide filters are applied to spectra of the bands, and channels whose filters
died in training are constants, worked out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from musicgenre._onnx import GraphBuilder
from musicgenre.features.mel.onnx import add_melspectrogram
from musicgenre.features.mel.specification import MelSpec
from musicgenre.features.published.musicnn.published import PATCH_FRAMES, SPEC, Family, output_width

Float64 = NDArray[np.float64]
Read = Callable[[str], NDArray[np.float32]]
"""Gives a published variable by name."""

# Layers of MusiCNN by their published names, each with the number of the batch-norm behind it.
TIMBRAL = (("conv2d", 1), ("conv2d_1", 2))
TEMPORAL = (("conv2d_2", 3), ("conv2d_3", 4), ("conv2d_4", 5))
_MIDDLE = (("conv2d_5", 6), ("conv2d_6", 7), ("conv2d_7", 8))
_POOLS = {"max": "ReduceMax", "mean": "ReduceMean"}
_VGG_POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))  # size, stride

BATCH_NORM_EPSILON = 1e-3
NEGLIGIBLE = 1e-6
"""Change of a channel per unit of its inputs that counts as none."""

FILTERS_AT_ONCE = 32
"""Keeps the spectra of a few filters within the processor's cache."""

N_BANDS = SPEC.n_mels
_N_BINS = 1 + N_BANDS // 2
_BLOCK_FRAMES = 17  # 11 blocks make a patch


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution of the first layer with all its channels; `alive` marks those that are not constant."""

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


def patch_graph(
    family: Family, read: Read, outputs: Sequence[str] = ("tags", "embedding"), *, spec: MelSpec = SPEC
) -> bytes:
    """Write a network as an ONNX file: `waveform` (batch, samples) to the outputs of every patch.

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
    waveform = graph.input("waveform", "float32", ["batch", "samples"])
    padding = graph.reshape(graph.optional_input("padding", np.array(SPEC.n_fft // 2, dtype=np.int64)), [1])

    # Zeros on both sides, and as many more behind as the shortest waveform of a patch lacks.
    n_samples = graph.op("Gather", graph.op("Shape", waveform), graph.integers([1]), axis=0)
    shortest = graph.integers([(PATCH_FRAMES - 1) * SPEC.hop_length + SPEC.n_fft])
    missing = graph.op("Sub", graph.op("Sub", shortest, n_samples), graph.op("Add", padding, padding))
    zero = graph.integers([0])
    behind = graph.op("Add", padding, graph.op("Max", missing, zero))
    padded = graph.op("Pad", waveform, graph.op("Concat", zero, padding, zero, behind, axis=0))
    bands = add_melspectrogram(graph, padded, replace(spec, center=False))

    tensors = _add_network(graph, bands, family, read, outputs)
    for name in outputs:
        graph.output(tensors[name], name, ["rows", output_width(family, name)])
    return graph.build()


def add_track_output(graph: GraphBuilder, waveform: str, family: Family, read: Read, output: str) -> str:
    """Add front end and network: waveforms (rows, samples), each a patch or longer, to the mean of their patches.

    Returns
    -------
    str
        Tensor of shape (rows, width).
    """
    bands = add_melspectrogram(graph, waveform, SPEC)
    by_patch = _add_network(graph, bands, family, read, (output,))[output]  # (rows x patches, width)

    n_rows = graph.op("Slice", graph.op("Shape", waveform), graph.integers([0]), graph.integers([1]))
    shape = graph.op("Concat", n_rows, graph.integers([-1, output_width(family, output)]), axis=0)
    return graph.op("ReduceMean", graph.op("Reshape", by_patch, shape), axes=[1], keepdims=0)


def add_front(graph: GraphBuilder, patches: str, read: Read) -> Front:
    """Add MusiCNN's first layer.

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

    timbral = [layer_of(read, *names) for names in TIMBRAL]
    temporal = [layer_of(read, *names) for names in TEMPORAL]
    maxima = [*_add_timbral(graph, normed, timbral), *_add_temporal(graph, normed, temporal)]

    layers = timbral + temporal
    alive = np.concatenate([layer.alive for layer in layers])
    constants = np.where(alive, 0.0, np.concatenate([layer.constants for layer in layers]))

    def column(name: str) -> str:
        values = np.concatenate([getattr(layer, name)[layer.alive] for layer in layers])
        return graph.floats(values[:, None])

    # What rises with its input may come after the maximum: a fraction of the work, and the same values.
    loudest = graph.op("Concat", *maxima, axis=1)  # (rows, n_alive, 187)
    raised = graph.op("Add", graph.op("Mul", loudest, column("sign")), column("bias"))
    front = graph.op("Add", graph.op("Mul", graph.op("Relu", raised), column("scale")), column("shift"))
    return Front(front, alive, constants)


def layer_of(read: Read, name: str, norm: int) -> Layer:
    """Take one convolution of the first layer, and the batch-norm behind it, from the published variables."""
    kernel = read(f"{name}/kernel").astype(np.float64)[:, :, 0, :]
    bias = read(f"{name}/bias").astype(np.float64)
    scale, shift = batch_norm(read, norm)

    # Where the batch-norm falls, the maximum of its output is the minimum of its input: the filter is turned over.
    sign = np.where(scale < 0, -1.0, 1.0)
    alive = np.abs(kernel).sum(axis=(0, 1)) * np.abs(scale) > NEGLIGIBLE
    return Layer(kernel * sign, sign, bias, scale, shift, alive)


def batch_norm(read: Read, number: int) -> tuple[Float64, Float64]:
    """Scale and shift that a batch-norm amounts to."""
    prefix = f"batch_normalization_{number}" if number else "batch_normalization"
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (read(f"{prefix}/{name}").astype(np.float64) for name in names)

    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    return scale, beta - mean * scale


def _add_network(graph: GraphBuilder, bands: str, family: Family, read: Read, wanted: Sequence[str]) -> dict[str, str]:
    """Add a network: log-mel frames (batch, 96, frames) to the wanted outputs of whole patches, each (rows, width)."""
    frames = graph.transpose(bands, [0, 2, 1])
    n_frames = graph.op("Gather", graph.op("Shape", frames), graph.integers([1]), axis=0)
    patch = graph.integers([PATCH_FRAMES])
    whole = graph.op("Mul", graph.op("Div", n_frames, patch), patch)
    in_patches = graph.op("Slice", frames, graph.integers([0]), whole, graph.integers([1]))
    patches = graph.reshape(in_patches, [-1, PATCH_FRAMES, N_BANDS])

    if family == "vgg":
        embedding, dense = _add_vgg(graph, patches, read), "dense"
    else:
        layers, front = _add_musicnn(graph, patches, read)
        if wanted[0] in _POOLS:
            pool = graph.op(_POOLS[wanted[0]], layers, axes=[2], keepdims=0)
            return {wanted[0]: _add_constants(graph, pool, front)}
        layer = _add_dense(graph, layers, front, read)
        if wanted[0] == "dense":
            return {"dense": layer}
        embedding, dense = _add_batch_norm(graph, graph.op("Relu", layer), read, 10), "dense_1"

    outputs = {"embedding": embedding}
    if "tags" in wanted:
        kernel, bias = graph.floats(read(f"{dense}/kernel")), graph.floats(read(f"{dense}/bias"))
        outputs["tags"] = graph.op("Sigmoid", graph.op("Gemm", embedding, kernel, bias))
    return outputs


def _add_vgg(graph: GraphBuilder, patches: str, read: Read) -> str:
    """Add the VGG: patches (rows, 187, 96) to embeddings (rows, 256)."""
    image = graph.op("Unsqueeze", patches, graph.integers([1]))  # (rows, 1, 187, 96)
    hidden = _add_batch_norm(graph, image, read, 0)
    for number, (size, stride) in enumerate(_VGG_POOLS, start=1):
        kernel = graph.floats(read(f"{number}CNN/kernel").transpose(3, 2, 0, 1))
        bias = graph.floats(read(f"{number}CNN/bias"))
        hidden = graph.op("Relu", graph.op("Conv", hidden, kernel, bias, pads=[1, 1, 1, 1]))
        hidden = _add_batch_norm(graph, hidden, read, number)
        hidden = graph.op("MaxPool", hidden, kernel_shape=list(size), strides=[stride, stride])

    return graph.reshape(graph.transpose(hidden, [0, 2, 3, 1]), [-1, 256])


def _add_musicnn(graph: GraphBuilder, patches: str, read: Read) -> tuple[str, Front]:
    """Add MusiCNN's convolutions: patches (rows, 187, 96) to all channels that vary, (rows, n_alive + 192, 187)."""
    front = add_front(graph, patches, read)
    name, norm = _MIDDLE[0]
    kernel = read(f"{name}/kernel").astype(np.float64)[:, :, 0]  # (7, 561, 64)

    # What the constant channels add depends on the frame only near the zero-padded edges.
    inside = np.pad(np.ones(PATCH_FRAMES), 3)
    by_frame = np.broadcast_to(front.constants, (7, len(front.constants)))
    from_constants = np.einsum("tc,tco->to", by_frame, kernel)
    added = np.stack([np.convolve(inside, taps[::-1], mode="valid") for taps in from_constants.T])  # (64, 187)

    varying = graph.floats(kernel[:, front.alive].transpose(2, 1, 0))
    hidden = graph.op("Conv", front.tensor, varying, graph.floats(read(f"{name}/bias")), pads=[3, 3])
    hidden = graph.op("Relu", graph.op("Add", hidden, graph.floats(added)))
    hidden = _add_batch_norm(graph, hidden, read, norm)

    layers = [front.tensor, hidden]
    for name, norm in _MIDDLE[1:]:
        weights = graph.floats(read(f"{name}/kernel")[:, :, 0].transpose(2, 1, 0))
        further = graph.op("Conv", hidden, weights, graph.floats(read(f"{name}/bias")), pads=[3, 3])
        further = _add_batch_norm(graph, graph.op("Relu", further), read, norm)
        hidden = graph.op("Add", further, hidden)
        layers.append(hidden)

    return graph.op("Concat", *layers, axis=1), front


def _add_dense(graph: GraphBuilder, layers: str, front: Front, read: Read) -> str:
    """Add what follows the convolutions, up to the dense layer in front of its ReLU (rows, 200).

    The dense layer's kernel and bias take the batch-norm before it and the constant channels in. Published inputs are
    max0, mean0, max1, mean1 ...; ours are the maxima, then the means, of the varying channels.
    """
    scale, shift = batch_norm(read, 9)
    kernel = read("dense/kernel").astype(np.float64)
    n_middle = len(scale) // 2 - len(front.alive)
    constants = np.concatenate([front.constants, np.zeros(n_middle)]).repeat(2)
    bias = read("dense/bias") + (shift + scale * constants) @ kernel

    alive = np.flatnonzero(np.concatenate([front.alive, np.ones(n_middle, dtype=bool)]))
    places = np.concatenate([2 * alive, 2 * alive + 1])
    folded = (scale[:, None] * kernel)[places]

    pools = [graph.op(kind, layers, axes=[2], keepdims=0) for kind in _POOLS.values()]
    return graph.op("Gemm", graph.op("Concat", *pools, axis=1), graph.floats(folded), graph.floats(bias))


def _add_constants(graph: GraphBuilder, pool: str, front: Front) -> str:
    """Put the constant channels back among the pooled ones: (rows, n_alive + 192) to (rows, 753)."""
    n_alive, n_middle = int(front.alive.sum()), output_width("musicnn", "mean") - len(front.alive)
    places = np.concatenate([np.flatnonzero(front.alive), len(front.alive) + np.arange(n_middle)])
    spread = np.zeros((n_alive + n_middle, len(front.alive) + n_middle))
    spread[np.arange(len(places)), places] = 1.0

    constants = np.concatenate([front.constants, np.zeros(n_middle)])
    return graph.op("Gemm", pool, graph.floats(spread), graph.floats(constants))


def _add_timbral(graph: GraphBuilder, normed: str, layers: list[Layer]) -> Iterator[str]:
    """Maxima of the timbral filters over frequency, each tensor of shape (rows, n, 187).

    A filter of 38 or 67 bands slides over 96: as a product in the Fourier domain, bin by bin, that takes a fraction
    of the multiplications.
    """
    turns = 2.0 * np.pi * np.arange(_N_BINS)[:, None] * np.arange(N_BANDS) / N_BANDS
    transform = np.stack([np.cos(turns), -np.sin(turns)], axis=1).reshape(2 * _N_BINS, N_BANDS)
    bands_first = graph.op("Pad", graph.transpose(normed, [0, 2, 1]), graph.integers([0, 0, 3, 0, 0, 3]))
    spectrum = graph.op("MatMul", graph.floats(transform), bands_first)  # (rows, 98, 193): real, imaginary, ...

    for layer in layers:
        kernels = layer.kernels
        for start in range(0, kernels.shape[-1], FILTERS_AT_ONCE):
            yield _add_spectral_maximum(graph, spectrum, kernels[..., start : start + FILTERS_AT_ONCE])


def _add_spectral_maximum(graph: GraphBuilder, spectrum: str, kernels: Float64) -> str:
    """Maximum over frequency of a valid convolution, from the spectrum of its input; kernels (frames, bands, n)."""
    n_frames, n_bands, n_filters = kernels.shape
    n_outputs = N_BANDS - n_bands + 1
    bins = np.arange(_N_BINS)

    # Spectra of the filters about the middle of all places they can take.
    centre = (n_outputs - 1) / 2
    waves = np.exp(2j * np.pi * bins[:, None] * (np.arange(n_bands) + centre) / N_BANDS)
    weights = np.einsum("kb,tbn->knt", waves, kernels)  # (bins, filters, frames)

    # Places as far above as below the middle share their cosines and sines: one sum and one difference give both.
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

    # The larger of the sum and the difference of two numbers is one plus the size of the other.
    both = graph.op("Add", sums[0], graph.op("Abs", sums[1]))
    return graph.reshape(graph.op("ReduceMax", both, axes=[1], keepdims=0), [0, n_filters, PATCH_FRAMES])


def _add_temporal(graph: GraphBuilder, normed: str, layers: list[Layer]) -> Iterator[str]:
    """Maxima of the temporal filters over the bands, each tensor of shape (rows, n, 187).

    A filter slides over a block of 17 frames as one matrix product.
    """
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

        # Matrices of all shifts, (filters x 17, length), folded to a constant at load so that the file stays small:
        # repeating a row of `length + 1` and cutting the repetition into rows of `length` shifts each row by one.
        row = graph.floats(np.pad(kernels, ((0, 0), (0, length + 1 - n_taps))))
        repeated = graph.op("Tile", row, graph.integers([1, _BLOCK_FRAMES]))
        shifted = graph.slice(repeated, 1, 0, _BLOCK_FRAMES * length)
        toeplitz = graph.reshape(shifted, [n_filters * _BLOCK_FRAMES, length])

        results = graph.op("MatMul", toeplitz, windows)  # (rows, blocks, filters x 17, 96)
        loudest = graph.op("ReduceMax", results, axes=[3], keepdims=0)
        blocks = graph.reshape(loudest, [0, n_blocks, n_filters, _BLOCK_FRAMES])
        yield graph.reshape(graph.transpose(blocks, [0, 2, 1, 3]), [0, n_filters, PATCH_FRAMES])


def _add_batch_norm(graph: GraphBuilder, tensor: str, read: Read, number: int) -> str:
    """Batch-norm over axis 1."""
    scale, shift = batch_norm(read, number)
    zeros, ones = np.zeros(len(scale)), np.ones(len(scale))
    values = [graph.floats(column) for column in (scale, shift, zeros, ones)]
    return graph.op("BatchNormalization", tensor, *values, epsilon=0.0)
