"""Products of float16 rows with a vector, several times faster than NumPy's own conversion to float32.

A float16 becomes a float32 by moving its bits: sign to the top, exponent and mantissa 13 places up. The exponent's
other bias makes every value smaller by exactly 2**112, which the vector makes good; subnormal values come out right
too. Three passes of integer work over a block that stays in the processor's cache do what NumPy does value by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]

_SCALE = np.float32(2.0**112)
_MANTISSA_SHIFT = 13
_KEPT_BITS = np.int32(0x8FFFE000 - (1 << 32))  # without the copies of the sign that widening an int16 leaves
_MAGNITUDE = np.int16(0x7FFF)
_INFINITY = 0x7C00  # magnitudes from here on are infinite or no numbers
_BLOCK_VALUES = 200_000  # 800 kB of float32


def products(rows: Float16, vector: Float32, threads: int = 1) -> Float32:
    """Multiply finite rows (n, width) with a vector (width,); float32 (n,), the same for any number of threads."""
    result = np.empty(len(rows), dtype=np.float32)
    scaled = vector * _SCALE

    def multiply(first: int, last: int) -> None:
        for start, block in _widened(rows[first:last]):
            np.dot(block, scaled, out=result[first + start : first + start + len(block)])

    step = _step(rows)
    bounds = [step * (len(rows) // step * part // threads) for part in range(threads)] + [len(rows)]
    if threads == 1:
        multiply(*bounds)
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="products") as pool:
            list(pool.map(multiply, bounds, bounds[1:]))
    return result


def lengths(rows: Float16) -> Float32:
    """Euclidean length of each finite row (n, width); gives float32 (n,)."""
    result = np.empty(len(rows), dtype=np.float32)
    for start, block in _widened(rows):
        np.multiply(block, _SCALE, out=block)
        np.einsum("ij,ij->i", block, block, out=result[start : start + len(block)])
    return np.sqrt(result, out=result)


def first_unusable(rows: Float16) -> int | None:
    """Find the first row (n, width) that holds a value which is infinite or no number."""
    bits = rows.view(np.int16)
    for start, stop in _blocks(rows):
        bad = (bits[start:stop] & _MAGNITUDE) >= _INFINITY
        if bad.any():
            return start + int(bad.any(axis=1).argmax())
    return None


def _step(rows: Float16) -> int:
    return max(1, _BLOCK_VALUES // int(rows.shape[1]))


def _blocks(rows: Float16) -> Iterator[tuple[int, int]]:
    step = _step(rows)
    for start in range(0, len(rows), step):
        yield start, min(start + step, len(rows))


def _widened(rows: Float16) -> Iterator[tuple[int, Float32]]:
    """Give blocks as float32, 2**112 times too small, in a buffer that the next block overwrites."""
    bits = rows.view(np.int16)
    buffer: NDArray[np.int32] | None = None
    for start, stop in _blocks(rows):
        if buffer is None:
            buffer = np.empty((stop - start, rows.shape[1]), dtype=np.int32)
        block = buffer[: stop - start]
        block[...] = bits[start:stop]
        np.left_shift(block, _MANTISSA_SHIFT, out=block)
        np.bitwise_and(block, _KEPT_BITS, out=block)
        yield start, block.view(np.float32)
