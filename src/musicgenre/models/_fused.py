"""Batch-norm, max-pool and ReLU in one pass while training on a CPU; the same numbers as the three layers.

Three layers read and write the whole picture nine times a step; together they read it three times and write it once,
and the normalised picture never exists. Everywhere else (evaluation, export, GPUs) the plain layers run.
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

from musicgenre.models import _fused_kernels as kernels

Float32 = NDArray[np.float32]


class FusedSequential(nn.Sequential):
    """A sequence of layers in which batch-norm, max-pool, ReLU in a row are computed as one where that is quick."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        layers = list(self)
        if x.ndim == 4 and x.shape[1] > 1:  # once here, not in the first layer's forward and again in its backward
            x = x.contiguous(memory_format=_layout_of(self))
        at = 0
        while at < len(layers):
            norm, pool = layers[at], layers[at + 1] if at + 1 < len(layers) else None
            followed = at + 2 < len(layers) and isinstance(layers[at + 2], nn.ReLU)
            if isinstance(norm, nn.BatchNorm2d) and isinstance(pool, nn.MaxPool2d) and followed and _suits(norm, x):
                x = _normalise_and_pool(norm, pool, x)
                at += 3
            else:
                x = norm(x)
                at += 1
        return x


def _layout_of(module: nn.Module) -> torch.memory_format:
    """Tell how the weights of the convolutions lie in memory."""
    flat = all(weight.is_contiguous() for weight in module.parameters() if weight.ndim == 4)
    return torch.contiguous_format if flat else torch.channels_last


def _suits(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    return (
        norm.training
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
    )


def _normalise_and_pool(norm: nn.BatchNorm2d, pool: nn.MaxPool2d, x: Tensor) -> Tensor:
    size, stride = int(pool.kernel_size), int(pool.stride)  # type: ignore[arg-type]
    made: Tensor
    made, mean, variance = _Fused.apply(x, norm.weight, norm.bias, norm.eps, size, stride)  # type: ignore[no-untyped-call]
    count = x.numel() // x.shape[1]
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        share = 0.1 if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance * (count / max(1, count - 1)), share)
        norm.num_batches_tracked.add_(1)
    return made


class _Fused(torch.autograd.Function):
    """ReLU(max-pool(batch-norm(x))), x (batch, channels, height, width) in channels-last memory."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, size: int, stride: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        images, width = _images(x)
        mean, variance = _moments(images, x.shape[1], width)
        inverse = 1.0 / np.sqrt(variance + eps)
        scale = weight.detach().numpy() * inverse
        offset = bias.detach().numpy() - mean * scale
        batch, channels, height, _ = x.shape
        shape = (batch, (height - size) // stride + 1, (width - size) // stride + 1, channels)
        out, chosen = np.empty(shape, np.float32), np.empty(shape, np.int32)
        _each(batch, kernels.pool_forward, images, *_tiles(width, scale, offset), size, stride, out, chosen)
        ctx.save_for_backward(x, weight, bias)
        ctx.kept = (out, chosen, mean, inverse, scale)
        moments = (torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(variance.astype(np.float32)))
        ctx.mark_non_differentiable(*moments)
        return torch.from_numpy(out).permute(0, 3, 1, 2), *moments

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        out, chosen, mean, inverse, scale = ctx.kept
        images, width = _images(x)
        batch, channels = x.shape[:2]
        flat = (batch, out.shape[1], out.shape[2] * channels)
        out, chosen = out.reshape(flat), chosen.reshape(flat)
        gradient = gradients[0].permute(0, 2, 3, 1).contiguous().numpy().reshape(flat)
        passed, sums, products = np.empty_like(gradient), np.zeros((batch, channels)), np.zeros((batch, channels))
        _each(batch, kernels.passed_gradient, out, gradient, passed, sums, products)
        total = sums.sum(axis=0)
        product = _times_normalised(products.sum(axis=0), total, weight, bias)
        count = x.numel() // channels
        slope = -scale * inverse * product / count
        level = -scale * total / count - mean * slope
        tiles = (*_tiles(flat[2] // channels, scale), *_tiles(width, slope, level))
        result = np.empty_like(images)
        _each(batch, kernels.scatter_gradient, images, chosen, passed, *tiles, result)
        towards_x = torch.from_numpy(result.reshape(batch, -1, width, channels)).permute(0, 3, 1, 2)
        return towards_x, _single(product), _single(total), None, None, None


def _times_normalised(
    products: NDArray[np.float64], total: NDArray[np.float64], weight: Tensor, bias: Tensor
) -> NDArray[np.float64]:
    """Turn sums of gradient * output into sums of gradient * normalised input: output = weight * that + bias."""
    scales = weight.detach().double().numpy()
    safe = np.where(scales == 0.0, 1.0, scales)
    return np.where(scales == 0.0, 0.0, (products - bias.detach().double().numpy() * total) / safe)


def _images(x: Tensor) -> tuple[Float32, int]:
    """View channels-last ``x`` as (batch, height, width * channels); the second value is the width."""
    batch, channels, height, width = x.shape
    return x.detach().permute(0, 2, 3, 1).numpy().reshape(batch, height, width * channels), width


def _moments(images: Float32, channels: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance per channel; sums are kept an image each, so that threads do not change them."""
    batch = len(images)
    shift = images[0, 0, :channels]  # near the mean: squares then lose no digits to it
    sums, squares = np.zeros((batch, channels)), np.zeros((batch, channels))
    _each(batch, kernels.add_moments, images, *_tiles(width, shift), sums, squares)
    count = batch * images.shape[1] * width
    mean = sums.sum(axis=0) / count
    return mean + shift, np.maximum(squares.sum(axis=0) / count - mean**2, 0.0)


def _tiles(width: int, *values: NDArray[Any]) -> list[Float32]:
    """Repeat per-channel values along a row of the picture."""
    return [kernels.tiled(array.astype(np.float32), width) for array in values]


def _single(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="fused")


def _each(count: int, kernel: Callable[..., None], *arrays: Any) -> None:
    """Run ``kernel`` over all images on as many threads as PyTorch uses; kernels let go of the lock."""
    n_threads = min(torch.get_num_threads(), count)
    if n_threads == 1:
        return kernel(0, count, *arrays)
    bounds = [count * thread // n_threads for thread in range(n_threads + 1)]
    list(_pool(n_threads).map(lambda span: kernel(*span, *arrays), pairwise(bounds)))
    return None
