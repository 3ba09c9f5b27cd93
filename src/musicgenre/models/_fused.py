"""Batch-norm, max-pool and ReLU in one pass while training on a CPU; the same numbers as the three layers.

Three layers read and write the whole picture nine times a step; together they read it three times and write it once,
and the normalised picture never exists. Everywhere else (evaluation, export, GPUs) the plain layers run.

The compiled loops see images as (batch, height, width * channels) and work on those from `first` up to `last`. Inner
loops run over whole rows, which is what makes them quick; per-channel numbers come tiled to that length.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from musicgenre.features.kernels.compiled import compiled

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

_DEFAULT_MOMENTUM = 0.1  # what we take for the cumulative average, which PyTorch calls None


class FusedSequential(nn.Sequential):
    """A sequence of layers in which batch-norm, max-pool, ReLU in a row are computed as one where that is quick."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        layers = list(self)
        if x.ndim == 4 and x.shape[1] > 1:  # once here, not in the first layer's forward and again in its backward
            flat = all(weight.is_contiguous() for weight in self.parameters() if weight.ndim == 4)
            x = x.contiguous(memory_format=torch.contiguous_format if flat else torch.channels_last)

        at = 0
        while at < len(layers):
            norm, *behind = layers[at : at + 3]
            match norm, behind:
                case nn.BatchNorm2d(), [nn.MaxPool2d() as pool, nn.ReLU()] if _suits(norm, x):
                    x = _normalise_and_pool(norm, pool, x)
                    at += 3
                case _:
                    x = norm(x)
                    at += 1

        return x


def _suits(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether the three layers are training here on what the compiled loops can read."""
    return (
        norm.training
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
    )


def _normalise_and_pool(norm: nn.BatchNorm2d, pool: nn.MaxPool2d, x: Tensor) -> Tensor:
    """Run the three layers as one, and let the batch-norm's running statistics learn as it would itself."""
    size, stride = int(pool.kernel_size), int(pool.stride)  # type: ignore[arg-type]
    pooled: Tensor
    pooled, mean, variance = _Fused.apply(x, norm.weight, norm.bias, norm.eps, size, stride)  # type: ignore[no-untyped-call]

    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        share = _DEFAULT_MOMENTUM if norm.momentum is None else norm.momentum
        count = x.numel() // x.shape[1]
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance * (count / max(1, count - 1)), share)  # without bias, as PyTorch keeps it
        norm.num_batches_tracked.add_(1)

    return pooled


class _Fused(torch.autograd.Function):
    """ReLU(max-pool(batch-norm(x))), x (batch, channels, height, width) in channels-last memory."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, size: int, stride: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give the pooled picture, and mean and variance per channel."""
        images, width = _images(x)
        batch, channels, height, _ = x.shape

        # mean and variance; sums are kept an image each, so that the number of threads does not change them
        shift = images[0, 0, :channels]  # near the mean: squares then lose no digits to it
        sums, squares = np.zeros((batch, channels)), np.zeros((batch, channels))
        _each(batch, _add_moments, images, *_tiles(width, shift), sums, squares)
        count = x.numel() // channels
        mean = sums.sum(axis=0) / count
        variance = np.maximum(squares.sum(axis=0) / count - mean**2, 0.0)
        mean = mean + shift

        # normalising is one product and one sum
        inverse = 1.0 / np.sqrt(variance + eps)
        scale = weight.detach().numpy() * inverse
        offset = bias.detach().numpy() - mean * scale
        shape = (batch, (height - size) // stride + 1, (width - size) // stride + 1, channels)
        out, chosen = np.empty(shape, np.float32), np.empty(shape, np.int32)
        _each(batch, _pool_forward, images, *_tiles(width, scale, offset), size, stride, out, chosen)

        ctx.save_for_backward(x, weight, bias)
        ctx.kept = (out, chosen, mean, inverse, scale)
        moments = (_single(mean), _single(variance))
        ctx.mark_non_differentiable(*moments)
        return torch.from_numpy(out).permute(0, 3, 1, 2), *moments

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients towards x, weight and bias."""
        x, weight, bias = ctx.saved_tensors
        out, chosen, mean, inverse, scale = ctx.kept
        images, width = _images(x)
        batch, channels = x.shape[:2]

        # back through the ReLU, with sums per channel of the gradient and of its product with the output
        flat = (batch, out.shape[1], out.shape[2] * channels)
        out, chosen = out.reshape(flat), chosen.reshape(flat)
        gradient = gradients[0].permute(0, 2, 3, 1).contiguous().numpy().reshape(flat)
        passed, sums, products = np.empty_like(gradient), np.zeros((batch, channels)), np.zeros((batch, channels))
        _each(batch, _pass_gradient, out, gradient, passed, sums, products)

        # output = weight * normalised input + bias, so its sums of products give those of the normalised input
        total = sums.sum(axis=0)
        weights, biases = weight.detach().double().numpy(), bias.detach().double().numpy()
        is_dead = weights == 0.0
        safe = np.where(is_dead, 1.0, weights)
        product = np.where(is_dead, 0.0, (products.sum(axis=0) - biases * total) / safe)

        # back through the batch-norm, whose mean and variance depend on every value, and the pool
        count = x.numel() // channels
        slope = -scale * inverse * product / count
        level = -scale * total / count - mean * slope
        tiles = (*_tiles(flat[2] // channels, scale), *_tiles(width, slope, level))
        result = np.empty_like(images)
        _each(batch, _scatter_gradient, images, chosen, passed, *tiles, result)

        towards_x = torch.from_numpy(result.reshape(batch, -1, width, channels)).permute(0, 3, 1, 2)
        return towards_x, _single(product), _single(total), None, None, None


def _images(x: Tensor) -> tuple[Float32, int]:
    """View channels-last `x` as (batch, height, width * channels); the second value is the width."""
    batch, channels, height, width = x.shape
    return x.detach().permute(0, 2, 3, 1).numpy().reshape(batch, height, width * channels), width


def _tiles(width: int, *values: NDArray[Any]) -> list[Float32]:
    """Repeat per-channel values along a row of the picture."""
    return [np.tile(array.astype(np.float32), width) for array in values]


def _single(values: Float64) -> Tensor:
    """Turn float64 values into a tensor of float32."""
    return torch.from_numpy(values.astype(np.float32))


def _each(count: int, kernel: Callable[..., None], *arrays: Any) -> None:
    """Run `kernel` over all images on as many threads as PyTorch uses; kernels let go of the lock."""
    n_threads = min(torch.get_num_threads(), count)
    if n_threads == 1:
        kernel(0, count, *arrays)
        return

    bounds = [count * thread // n_threads for thread in range(n_threads + 1)]
    list(_pool(n_threads).map(lambda span: kernel(*span, *arrays), pairwise(bounds)))


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Threads that live as long as the process: to start them at every step would cost more than they save."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="fused")


@compiled
def _add_moments(first: int, last: int, images: Float32, shift: Float32, sums: Float64, squares: Float64) -> None:
    """Add up `images - shift` and its square per channel; `shift` tiled, sums and squares (batch, channels)."""
    _, height, length = images.shape
    n_channels = sums.shape[1]
    for n in range(first, last):
        total = np.zeros(length, np.float32)
        total_square = np.zeros(length, np.float32)
        for row in range(height):
            line = images[n, row]
            for k in range(length):
                value = line[k] - shift[k]
                total[k] += value
                total_square[k] += value * value

        for k in range(length):
            sums[n, k % n_channels] += total[k]
            squares[n, k % n_channels] += total_square[k]


@compiled
def _pool_forward(
    first: int,
    last: int,
    images: Float32,
    scale: Float32,
    offset: Float32,
    size: int,
    stride: int,
    out: Float32,
    chosen: Int32,
) -> None:
    """Write ReLU(max-pool(scale * images + offset)) and where in the flat image the largest value of a window stands.

    `scale` and `offset` tiled; `out` and `chosen` (batch, out_height, out_width, channels).
    """
    _, out_height, _, n_channels = out.shape
    length = images.shape[2]
    best, place = np.empty(length, np.float32), np.empty(length, np.int32)
    for n in range(first, last):
        for i in range(out_height):
            _largest_down(images[n], scale, offset, i * stride, size, best, place)
            _largest_right(best, place, size, stride, n_channels, out[n, i].reshape(-1), chosen[n, i].reshape(-1))


@compiled
def _largest_down(
    image: Float32, scale: Float32, offset: Float32, top: int, size: int, best: Float32, place: Int32
) -> None:
    """Largest of `size` rows from `top` on, and its position in the flat image."""
    length = image.shape[1]
    line, start = image[top], np.int32(top * length)
    for k in range(length):
        best[k] = scale[k] * line[k] + offset[k]
        place[k] = start + np.int32(k)

    for down in range(1, size):
        line, start = image[top + down], np.int32((top + down) * length)
        for k in range(length):
            value = scale[k] * line[k] + offset[k]
            larger = value > best[k]
            place[k] = start + np.int32(k) if larger else place[k]
            best[k] = value if larger else best[k]


@compiled
def _largest_right(
    best: Float32, place: Int32, size: int, stride: int, n_channels: int, out: Float32, chosen: Int32
) -> None:
    """Largest of `size` pixels in a row of them, every `stride` pixels, behind a ReLU.

    Unsigned positions: numba then checks none for being negative, and the inner loops become vector code.
    """
    channels = np.uintp(n_channels)
    for j in range(np.uintp(len(out) // n_channels)):
        to, first = j * channels, j * np.uintp(stride) * channels
        for c in range(channels):
            out[to + c] = max(best[first + c], np.float32(0.0))
            chosen[to + c] = place[first + c]

        for right in range(np.uintp(1), np.uintp(size)):
            start = first + right * channels
            for c in range(channels):
                larger = best[start + c] > out[to + c]
                chosen[to + c] = place[start + c] if larger else chosen[to + c]
                out[to + c] = best[start + c] if larger else out[to + c]


@compiled
def _pass_gradient(
    first: int, last: int, out: Float32, gradient: Float32, passed: Float32, sums: Float64, products: Float64
) -> None:
    """Write the gradient that passes the ReLU; add it up, and its product with `out`, per channel.

    All (batch, out_height, out_width * channels) but sums and products, (batch, channels).
    """
    _, height, length = out.shape
    n_channels = sums.shape[1]
    for n in range(first, last):
        total = np.zeros(length, np.float32)
        total_product = np.zeros(length, np.float32)
        for row in range(height):
            value, given, kept = out[n, row], gradient[n, row], passed[n, row]
            for k in range(length):
                through = given[k] if value[k] > 0.0 else np.float32(0.0)
                kept[k] = through
                total[k] += through
                total_product[k] += through * value[k]

        for k in range(length):
            sums[n, k % n_channels] += total[k]
            products[n, k % n_channels] += total_product[k]


@compiled
def _scatter_gradient(
    first: int,
    last: int,
    images: Float32,
    chosen: Int32,
    passed: Float32,
    scale: Float32,
    slope: Float32,
    level: Float32,
    result: Float32,
) -> None:
    """Write the gradient of the images: `slope * images + level` everywhere, and what lands at the chosen places.

    `scale`, `slope` and `level` are tiled; `chosen` and `passed` (batch, out_height, out_width * channels).
    """
    _, height, length = images.shape
    for n in range(first, last):
        for row in range(height):
            line, towards = images[n, row], result[n, row]
            for k in range(length):
                towards[k] = slope[k] * line[k] + level[k]

        flat = result[n].reshape(height * length)
        for row in range(chosen.shape[1]):
            where, given = chosen[n, row], passed[n, row]
            for k in range(len(where)):
                flat[np.uint32(where[k])] += scale[k] * given[k]
