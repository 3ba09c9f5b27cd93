"""Rows of features on disk: memory-mapped, chosen and ordered without a copy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK_BYTES = 16 << 20
_SMALLEST_STD = 1e-8

Features = NDArray[np.float16] | NDArray[np.float32]
Change = Callable[[NDArray[np.float32], NDArray[np.int64], int], NDArray[np.float32]]
"""Turns raw features (batch, ...) of the given rows in the given epoch into what the model reads."""


class FeatureRows:
    """Rows that lie in one or several ``.npy`` files, read when they are asked for.

    Indexing with a number, a slice or an index array copies those rows out; nothing else is read. The files are
    mapped on first use in each process, so it travels to data loader workers as a few names and numbers.

    Parameters
    ----------
    files : sequence of Path
        The ``.npy`` files.
    shape : tuple of int
        Shape of one row.
    dtype : dtype
        Type of the values on disk.
    file_of, row_of : ndarray of int, shape (n_rows,)
        Which row of which file each row is.
    """

    def __init__(
        self,
        files: Sequence[Path],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        file_of: NDArray[np.int64],
        row_of: NDArray[np.int64],
    ) -> None:
        self.files = tuple(files)
        self.row_shape = shape
        self.dtype = dtype
        self._file_of = file_of
        self._row_of = row_of
        self._maps: dict[int, Features] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_rows, *row_shape)."""
        return (len(self._row_of), *self.row_shape)

    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of the file of each row, and number of the row in it."""
        return self._file_of, self._row_of

    def __len__(self) -> int:
        return len(self._row_of)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]) -> Features:
        if isinstance(index, int | np.integer):
            found: Features = np.array(self._map(int(self._file_of[index]))[self._row_of[index]])
            return found
        return self._gather(self._file_of[index], self._row_of[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the open maps: pickling those would copy the data."""
        return {**self.__dict__, "_maps": {}}

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> FeatureRows:
        """Choose rows without reading them."""
        return FeatureRows(self.files, self.row_shape, self.dtype, self._file_of[rows], self._row_of[rows])

    def _gather(self, file_of: NDArray[np.int64], row_of: NDArray[np.int64]) -> Features:
        gathered: Features = np.empty((len(row_of), *self.row_shape), self.dtype)
        for number in np.unique(file_of):
            here = file_of == number
            gathered[here] = self._map(int(number))[row_of[here]]
        return gathered

    def _map(self, number: int) -> Features:
        if number not in self._maps:
            self._maps[number] = np.load(self.files[number], mmap_mode="r", allow_pickle=False)
        return self._maps[number]


def read_rows(
    shared: tuple[FeatureRows, Change | None], wanted: tuple[NDArray[np.int64], int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Gather rows of an epoch as float32; it runs in a thread or, without torch, in a process of its own."""
    (features, change), (rows, epoch) = shared, wanted
    raw = features[rows].astype(np.float32, copy=False)
    return rows, raw if change is None else change(raw, rows, epoch)


def draw_example(seed: int, track_id: str, count: int) -> int:
    """Draw one of ``count`` examples of a track, from the seed and the track's name alone.

    Other tracks, their number and their order do not matter, so a track keeps its example when the data grow.
    """
    digest = hashlib.sha256(f"{seed}:{track_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of every band, coefficient or column.

    Parameters
    ----------
    mean, std : ndarray of float64, shape (n,)
        ``n`` is the length of ``row_axis``, or 1 without one. A constant row has ``std`` 1.
    row_axis : int or None
        The axis of one row of features they belong to; ``None``: all values share one pair.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    row_axis: int | None

    def apply(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Subtract the mean and divide by the deviation; shape (n_rows, *row_shape) stays."""
        mean, std = self.broadcast(features.ndim - 1)
        return (features.astype(np.float32) - mean) / std

    def broadcast(self, n_dims: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation, shaped to meet rows of ``n_dims`` dimensions."""
        shape = [1] * n_dims
        if self.row_axis is not None:
            shape[self.row_axis] = len(self.mean)
        return self.mean.astype(np.float32).reshape(shape), self.std.astype(np.float32).reshape(shape)

    def as_dict(self) -> dict[str, Any]:
        """Lists and numbers, for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "row_axis": self.row_axis}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Normalisation:
        """Undo :meth:`as_dict`."""
        return cls(np.array(data["mean"], np.float64), np.array(data["std"], np.float64), data["row_axis"])


def measure_normalisation(features: FeatureRows, row_axis: int | None) -> Normalisation:
    """Measure mean and deviation in float64, a few megabytes at a time."""
    row_bytes = max(1, int(np.prod(features.row_shape)) * 8)
    step = max(1, _CHUNK_BYTES // row_bytes)
    count, mean, spread = 0, np.zeros(1), np.zeros(1)
    for start in range(0, len(features), step):
        values = _by_row(features[start : start + step], row_axis)  # (n, values)
        n, chunk_mean = values.shape[1], values.mean(axis=1)
        chunk_spread = ((values - chunk_mean[:, None]) ** 2).sum(axis=1)
        # Joining means and squared deviations, unlike sums of squares, loses no digits to a large mean.
        delta = chunk_mean - mean
        spread = spread + chunk_spread + delta**2 * (count * n / (count + n))
        mean = mean + delta * (n / (count + n))
        count += n
    std = np.sqrt(spread / max(count, 1))
    constant = std <= _SMALLEST_STD * np.maximum(1.0, np.abs(mean))
    return Normalisation(mean, np.where(constant, 1.0, std), row_axis)


def _by_row(features: Features, row_axis: int | None) -> NDArray[np.float64]:
    """(n_rows, *row_shape) to float64 (length of the axis, all other values)."""
    values = features.astype(np.float64)
    if row_axis is None:
        return values.reshape(1, -1)
    return np.moveaxis(values, row_axis + 1, 0).reshape(values.shape[row_axis + 1], -1)
