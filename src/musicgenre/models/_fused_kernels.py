"""Compiled loops of the fused batch-norm, max-pool and ReLU; images as (height, width * channels).

Inner loops run over whole rows (width * channels), which is what makes them quick; per-channel numbers come tiled to
that length. The functions without underscore work on the images ``first`` up to ``last`` of a batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.kernels.compiled import compiled

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


@compiled
def tiled(values: Float32, width: int) -> Float32:
    """Repeat ``values`` ``width`` times."""
    out = np.empty(len(values) * width, np.float32)
    for k in range(len(out)):
        out[k] = values[k % len(values)]
    return out


@compiled
def _add_moments(image: Float32, shift: Float32, sums: Float64, squares: Float64) -> None:
    """Add up ``image - shift`` and its square per channel; ``image`` (height, width * channels), shift tiled."""
    height, length = image.shape
    n_channels = len(sums)
    total = np.zeros(length, np.float32)
    total_square = np.zeros(length, np.float32)
    for row in range(height):
        line = image[row]
        for k in range(length):
            value = line[k] - shift[k]
            total[k] += value
            total_square[k] += value * value
    for k in range(length):
        sums[k % n_channels] += total[k]
        squares[k % n_channels] += total_square[k]


@compiled
def _pool_forward(
    image: Float32, scale: Float32, offset: Float32, size: int, stride: int, out: Float32, chosen: Int32
) -> None:
    """Write ReLU(max-pool(scale * image + offset)) and where in the flat image the largest value of a window stands.

    ``image`` (height, width * channels), ``scale`` and ``offset`` tiled; ``out`` and ``chosen``
    (out_height, out_width, channels).
    """
    out_height, _, n_channels = out.shape
    length = image.shape[1]
    best, place = np.empty(length, np.float32), np.empty(length, np.int32)
    for i in range(out_height):
        _largest_down(image, scale, offset, i * stride, size, best, place)
        _largest_right(best, place, size, stride, n_channels, out[i].reshape(-1), chosen[i].reshape(-1))


@compiled
def _largest_down(
    image: Float32, scale: Float32, offset: Float32, top: int, size: int, best: Float32, place: Int32
) -> None:
    """Largest of ``size`` rows from ``top`` on, and its position in the flat image."""
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
    """Largest of ``size`` pixels in a row of them, every ``stride`` pixels, behind a ReLU.

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
def _passed_gradient(out: Float32, gradient: Float32, passed: Float32, sums: Float64, products: Float64) -> None:
    """Write the gradient that passes the ReLU; add it up, and its product with ``out``, per channel.

    All (out_height, out_width * channels) but the sums.
    """
    height, length = out.shape
    n_channels = len(sums)
    total = np.zeros(length, np.float32)
    total_product = np.zeros(length, np.float32)
    for row in range(height):
        value, given, kept = out[row], gradient[row], passed[row]
        for k in range(length):
            through = given[k] if value[k] > 0.0 else np.float32(0.0)
            kept[k] = through
            total[k] += through
            total_product[k] += through * value[k]
    for k in range(length):
        sums[k % n_channels] += total[k]
        products[k % n_channels] += total_product[k]


@compiled
def _scatter_gradient(
    image: Float32, chosen: Int32, passed: Float32, scale: Float32, slope: Float32, level: Float32, result: Float32
) -> None:
    """Write the gradient of ``image``: ``slope * image + level`` everywhere, and what lands at the chosen places.

    ``scale``, ``slope`` and ``level`` are tiled; ``chosen`` and ``passed`` (out_height, out_width * channels).
    """
    height, length = image.shape
    for row in range(height):
        line, made = image[row], result[row]
        for k in range(length):
            made[k] = slope[k] * line[k] + level[k]
    flat = result.reshape(height * length)
    for row in range(len(chosen)):
        where, given = chosen[row], passed[row]
        for k in range(len(where)):
            flat[np.uint32(where[k])] += scale[k] * given[k]


@compiled
def add_moments(first: int, last: int, images: Float32, shift: Float32, sums: Float64, squares: Float64) -> None:
    """Run :func:`_add_moments` for every image; sums and squares (batch, channels)."""
    for n in range(first, last):
        _add_moments(images[n], shift, sums[n], squares[n])


@compiled
def pool_forward(
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
    """Run :func:`_pool_forward` for every image."""
    for n in range(first, last):
        _pool_forward(images[n], scale, offset, size, stride, out[n], chosen[n])


@compiled
def passed_gradient(
    first: int, last: int, out: Float32, gradient: Float32, passed: Float32, sums: Float64, products: Float64
) -> None:
    """Run :func:`_passed_gradient` for every image; sums and products (batch, channels)."""
    for n in range(first, last):
        _passed_gradient(out[n], gradient[n], passed[n], sums[n], products[n])


@compiled
def scatter_gradient(
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
    """Run :func:`_scatter_gradient` for every image."""
    for n in range(first, last):
        _scatter_gradient(images[n], chosen[n], passed[n], scale, slope, level, result[n])
