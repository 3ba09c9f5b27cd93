"""Short-time Fourier transforms of sixteen frames at once, in float32.

A frame of n real samples is read as n/2 complex ones (even samples real, odd imaginary), transformed by radix-4 passes
in place, and untangled into the 1 + n/2 bins of the real transform. Every number is a vector of sixteen neighbouring
frames, so nothing is shuffled after the frames are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.features.base import Float32
from musicgenre.features.kernels.compiled import compiled
from musicgenre.features.kernels.lanes import load, splat, store, transpose_tile

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Constants of the transform of one length."""

    n_fft: int
    twiddles: Float32  # for every stage and j: w^j, w^2j, w^3j as (real, imaginary)
    order: Int64  # where bin k of the complex transform ends up
    unpack: Float32  # exp(-2 pi i k / n_fft) for k <= n_fft / 4, as (real, imaginary)


def fits(n_fft: int) -> bool:
    """Whether these transforms handle the length: powers of two from 16 on."""
    return n_fft >= 16 and n_fft & (n_fft - 1) == 0


@lru_cache(maxsize=8)
def plan(n_fft: int) -> Plan:
    """Constants for `n_fft`, kept for the next call."""
    half = n_fft // 2

    # Every radix-4 stage has a quarter of the butterflies of the one before, each with three factors of its own.
    twiddles = []
    size = half
    while size >= 4:
        turns = np.arange(size // 4)[:, None] * np.array([1, 2, 3]) / size
        twiddles.append(_unit_circle(turns))
        size //= 4

    order = np.array([_position(k, half) for k in range(half)], dtype=np.int64)
    unpack = _unit_circle(np.arange(half // 2 + 1) / n_fft)
    return Plan(n_fft, np.concatenate(twiddles), order, unpack)


def _unit_circle(turns: NDArray[np.float64]) -> Float32:
    """Points exp(-2 pi i turn) as one flat row: real, imaginary, real, imaginary ..."""
    angles = -2.0 * np.pi * turns
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(-1).astype(np.float32)


def _position(k: int, size: int) -> int:
    """Place of bin `k` after decimation in frequency in place."""
    if size == 1:
        return 0
    radix = 4 if size >= 4 else 2
    return (k % radix) * (size // radix) + _position(k // radix, size // radix)


@compiled
def _radix4(re: Float32, im: Float32, start: int, size: int, twiddles: Float32, offset: int) -> None:
    """One pass of butterflies over `size` vectors from `start`: each joins four values a quarter apart, in place."""
    step = size // 4 * 16
    for j in range(size // 4):
        a = (start + j) * 16
        b, c, d = a + step, a + 2 * step, a + 3 * step
        ar, ai, br, bi = load(re, a), load(im, a), load(re, b), load(im, b)
        cr, ci, dr, di = load(re, c), load(im, c), load(re, d), load(im, d)

        sum_r, sum_i, difference_r, difference_i = ar + cr, ai + ci, ar - cr, ai - ci
        other_r, other_i = br + dr, bi + di
        turned_r, turned_i = bi - di, dr - br  # (b - d) times -i

        # The first of the four needs no factor: it is turned by nothing.
        store(re, a, sum_r + other_r)
        store(im, a, sum_i + other_i)
        t = offset + 6 * j
        _store_turned(re, im, b, difference_r + turned_r, difference_i + turned_i, twiddles, t)
        _store_turned(re, im, c, sum_r - other_r, sum_i - other_i, twiddles, t + 2)
        _store_turned(re, im, d, difference_r - turned_r, difference_i - turned_i, twiddles, t + 4)


@compiled
def _store_turned(re: Float32, im: Float32, place: int, r: Any, i: Any, twiddles: Float32, t: int) -> None:
    """Store a value times the twiddle factor at `t`."""
    wr, wi = splat(twiddles[t]), splat(twiddles[t + 1])
    store(re, place, r * wr - i * wi)
    store(im, place, r * wi + i * wr)


@compiled
def _radix2(re: Float32, im: Float32, start: int) -> None:
    """Join two neighbours: what is left where the length is twice a power of four."""
    a, b = start * 16, start * 16 + 16
    ar, ai, br, bi = load(re, a), load(im, a), load(re, b), load(im, b)
    store(re, a, ar + br)
    store(im, a, ai + bi)
    store(re, b, ar - br)
    store(im, b, ai - bi)


@compiled
def complex_transform(re: Float32, im: Float32, size: int, twiddles: Float32) -> None:
    """Transform `size` complex vectors in place; bin k ends up at `plan.order[k]`.

    After the first pass every quarter is finished on its own, while it lies in the fastest cache.
    """
    _radix4(re, im, 0, size, twiddles, 0)
    quarter = size // 4
    for part in range(4):
        part_size, offset = quarter, 6 * quarter
        while part_size >= 4:
            for start in range(part * quarter, (part + 1) * quarter, part_size):
                _radix4(re, im, start, part_size, twiddles, offset)
            offset += 6 * (part_size // 4)
            part_size //= 4
        if part_size == 2:
            for start in range(part * quarter, (part + 1) * quarter, 2):
                _radix2(re, im, start)


@compiled
def load_frames(samples: Float32, hop: int, first: int, window: Float32, re: Float32, im: Float32) -> None:
    """Read and window the sixteen frames from `first` on as half as many complex samples."""
    tile = np.empty(256, np.float32)
    for s in range(0, len(window), 16):
        transpose_tile(samples, first * hop + s, hop, tile, 0, 16)
        for pair in range(8):
            even, odd = 2 * pair, 2 * pair + 1
            place = (s // 2 + pair) * 16
            store(re, place, load(tile, even * 16) * splat(window[s + even]))
            store(im, place, load(tile, odd * 16) * splat(window[s + odd]))


@compiled
def untangled(re: Float32, im: Float32, p: int, q: int, wr: Any, wi: Any) -> tuple[Any, ...]:
    """Bins k and n/2 - k of the real transform, from those at places p and q of the complex one."""
    pr, pi, qr, qi = load(re, p), load(im, p), load(re, q), load(im, q)
    half = splat(np.float32(0.5))
    even_r, even_i = (pr + qr) * half, (pi - qi) * half
    odd_r, odd_i = (pi + qi) * half, (qr - pr) * half
    turned_r, turned_i = odd_r * wr - odd_i * wi, odd_r * wi + odd_i * wr
    return even_r + turned_r, even_i + turned_i, even_r - turned_r, turned_i - even_i


@compiled
def power_of_frames(re: Float32, im: Float32, order: Int64, unpack: Float32, power: Float32) -> None:
    """Squared magnitudes of sixteen transformed frames, bin k at `power[16 * k:]`."""
    half = len(order)
    for k in range(half // 2 + 1):
        p = order[k] * 16
        q = order[(half - k) % half] * 16
        low_r, low_i, high_r, high_i = untangled(re, im, p, q, splat(unpack[2 * k]), splat(unpack[2 * k + 1]))
        store(power, k * 16, low_r * low_r + low_i * low_i)
        store(power, (half - k) * 16, high_r * high_r + high_i * high_i)


@compiled
def masked(
    re: Float32,
    im: Float32,
    order: Int64,
    unpack: Float32,
    k: int,
    low_mask: Any,
    high_mask: Any,
    back_re: Float32,
    back_im: Float32,
) -> None:
    """Bins k and n/2 - k of the real transform times a mask, tangled again for the way back (undoes `untangled`)."""
    half = len(order)
    wr, wi = splat(unpack[2 * k]), splat(unpack[2 * k + 1])
    place, mirror = k, (half - k) % half

    low_r, low_i, high_r, high_i = untangled(re, im, order[place] * 16, order[mirror] * 16, wr, wi)
    low_r, low_i, high_r, high_i = low_r * low_mask, low_i * low_mask, high_r * high_mask, high_i * high_mask

    # The same steps backwards: even and odd parts, then both as one complex value. The inverse transform that follows
    # is the forward one with real and imaginary exchanged, so the places are mirrored.
    factor = splat(np.float32(0.5))
    even_r, even_i = (low_r + high_r) * factor, (low_i - high_i) * factor
    turned_r, turned_i = (low_r - high_r) * factor, (low_i + high_i) * factor
    odd_r, odd_i = turned_r * wr + turned_i * wi, turned_i * wr - turned_r * wi

    store(back_re, mirror * 16, even_r + odd_i)
    store(back_im, mirror * 16, odd_r - even_i)
    store(back_re, place * 16, even_r - odd_i)
    store(back_im, place * 16, even_i + odd_r)


@compiled
def overlap_frames(
    re: Float32, im: Float32, order: Int64, window: Float32, out: Float32, width: int, hop: int, first: int
) -> None:
    """Window sixteen frames that were transformed back, and add them to a table of hops.

    Sample s of frame t belongs at [s % hop, t + s // hop], where neighbouring frames are neighbours in memory.
    """
    row, column = 0, first
    scale = np.float32(1.0 / len(order))  # what an inverse transform is divided by

    for s in range(len(window)):
        place = order[s // 2] * 16
        value = load(re, place) if s % 2 == 0 else load(im, place)
        target = row * width + column
        store(out, target, load(out, target) + value * splat(window[s] * scale))
        row += 1
        if row == hop:
            row, column = 0, column + 1
