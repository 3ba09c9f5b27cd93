"""Exact running medians of many lanes at once.

Every lane keeps its window sorted. Stepping on by one value takes one pass over the window, without branches: with
w the sorted window, `old` the value that leaves and x the one that comes,

    v[k] = w[k] if w[k] < old else w[k + 1]          (the window without `old`, still sorted)
    w[k] = min(max(v[k - 1], x), v[k])               (x in its place)

Values are only ever moved, so the result is bit for bit that of `scipy.ndimage.median_filter(..., mode="reflect")`.
"""

from __future__ import annotations

import numpy as np

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32
from musicgenre.features.kernels.compiled import compiled
from musicgenre.features.kernels.lanes import load, splat, store, transpose_tile, where_less


def running_median(values: Float32, size: int, n_rows: int | None = None) -> Float32:
    """Median over `size` neighbouring rows, mirrored at both ends (the edge value twice).

    Parameters
    ----------
    values : ndarray of float32, shape (n, n_lanes)
        Finite values; `n_lanes` a multiple of 16 (others are padded, which costs a copy).
    size : int
        Odd number of rows.
    n_rows : int, optional
        Use the first rows only; the others of the result are zero.
    """
    if size < 1 or size % 2 == 0:
        raise UsageError(f"size={size} is not an odd number of rows")
    values = np.asarray(values, dtype=np.float32)
    n_lanes = values.shape[1]

    padded = np.ascontiguousarray(values)
    if n_lanes % 16:
        padded = np.pad(padded, ((0, 0), (0, -n_lanes % 16)))

    medians = np.zeros_like(padded)
    _fill_medians(padded, size, len(values) if n_rows is None else n_rows, medians)
    return medians[:, :n_lanes]  # a view of everything where nothing was padded


@compiled
def transposed(values: Float32) -> Float32:
    """Transpose a table whose sides are multiples of 16, tile by tile."""
    n_rows, n_columns = values.shape
    result = np.empty((n_columns, n_rows), np.float32)
    source, target = values.reshape(-1), result.reshape(-1)
    for row in range(0, n_rows, 16):
        for column in range(0, n_columns, 16):
            transpose_tile(source, row * n_columns + column, n_columns, target, column * n_rows + row, n_rows)
    return result


@compiled
def _mirrored(index: int, count: int) -> int:
    """Row that stands in for one outside the table; far outside, the mirror images repeat."""
    index %= 2 * count
    return index if index < count else 2 * count - 1 - index


@compiled
def _fill_medians(values: Float32, size: int, n_rows: int, medians: Float32) -> None:
    """Fill `medians` down every lane: the window slides by one row, losing one value and taking one in."""
    width = values.shape[1]
    source, target = values.reshape(-1), medians.reshape(-1)
    window = np.empty((size + 1) * 16, np.float32)
    middle = size // 2

    for lane in range(0, width, 16):
        _fill(window, source, lane, width, size, n_rows)
        if n_rows > 0:
            store(target, lane, load(window, middle * 16))

        for row in range(1, n_rows):
            old = load(source, _mirrored(row - 1 - middle, n_rows) * width + lane)
            new = load(source, _mirrored(row + middle, n_rows) * width + lane)
            _step(window, size, old, new)
            store(target, row * width + lane, load(window, middle * 16))


@compiled
def _fill(window: Float32, source: Float32, lane: int, width: int, size: int, n_rows: int) -> None:
    """Sort the first window of each lane by insertion; infinities keep the places that are not taken yet."""
    for k in range(size):
        store(window, k * 16, splat(np.float32(np.inf)))

    for k in range(size if n_rows > 0 else 0):
        moving = load(source, _mirrored(k - size // 2, n_rows) * width + lane)
        for place in range(k + 1):
            here = load(window, place * 16)
            store(window, place * 16, where_less(moving, here, moving, here))
            moving = where_less(moving, here, here, moving)


@compiled
def _step(window: Float32, size: int, old: Float32, new: Float32) -> None:
    """Take `old` out of the sorted window and put `new` in, in one pass (the formulas at the top)."""
    before = splat(np.float32(-np.inf))
    here = load(window, 0)
    for k in range(size - 1):
        after = load(window, (k + 1) * 16)
        kept = where_less(here, old, here, after)
        larger = where_less(before, new, new, before)
        store(window, k * 16, where_less(larger, kept, larger, kept))
        before, here = kept, after
    store(window, (size - 1) * 16, where_less(before, new, new, before))
