"""MusiCNN's first layer, the costly one, in the form that needs the fewest multiplications.

Every filter here ends in a maximum over the frequency axis, and these rewritings are exact:

- Weight decay drove most filters to zero (norms near 1e-29). Such a filter's channel is a constant: it is left out and
  its value folded into the layers behind it.
- Bias, ReLU and batch-norm act on each channel alone and are monotonic, so they come after the maximum; where the
  batch-norm falls, the filter is negated first.
- The timbral filters (7 frames x 38 or 67 bands) run in the Fourier domain of the 96 bands, where a filter costs one
  complex product a bin. Outputs are placed symmetrically about their centre, c + m and c - m, so that the way back is
  cosine part +- sine part, and their maximum is cosine part + |sine part|: half the work.
- The temporal filters (128, 64 or 32 frames x 1 band) run as matrix products with small Toeplitz matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre._onnx_graph import GraphBuilder

Float64 = NDArray[np.float64]
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
