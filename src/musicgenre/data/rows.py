"""Rows of features on disk: memory-mapped, chosen and ordered without a copy, each with a checksum.

A file of rows is a `.npy` file with the CRC-32 of every row behind the array, where other readers of such files do not
look. Files of earlier versions have none. A row is compared the first time that a process reads it.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._npz import read_npy_header
from musicgenre._text import short_repr
from musicgenre.errors import DataError

_CHUNK_BYTES = 16 << 20  # of float64, read at a time while measuring
_SMALLEST_STD = 1e-8  # of the mean, or of 1: below is what rounding leaves of a constant

_MOST_AXES = 32  # of a row
_CHECKSUM = np.dtype("<u4")

Features = NDArray[np.float16] | NDArray[np.float32]
Change = Callable[[NDArray[np.float32], NDArray[np.int64], int], NDArray[np.float32]]
"""Turns raw features (batch, ...) of the given rows in the given epoch into what the model reads."""


class FeatureRows:
    """Rows that lie in one or several `.npy` files, read when they are asked for.

    Indexing with a number, a slice or an index array copies those rows out; nothing else is read. The files are
    mapped on first use in each process, so it travels to data loader workers as a few names and numbers.

    Parameters
    ----------
    files : sequence of Path
        The `.npy` files.
    shape : tuple of int
        Shape of one row.
    dtype : dtype
        Type of the values on disk.
    file_of, row_of : ndarray of int, shape (n_rows,)
        Which row of which file each row is.
    remedy : str
        What to do about a row that is damaged; empty for files without checksums, whose rows are believed.
    """

    def __init__(
        self,
        files: Sequence[Path],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        file_of: NDArray[np.int64],
        row_of: NDArray[np.int64],
        remedy: str = "",
    ) -> None:
        self.files = tuple(files)
        self.row_shape = shape
        self.dtype = dtype
        self._file_of = file_of
        self._row_of = row_of
        self._remedy = remedy
        self._maps: dict[int, _RowFile] = {}

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
        file_of, row_of = self._file_of[index], self._row_of[index]
        if isinstance(index, int | np.integer):
            row: Features = self._map(int(file_of)).read(np.array([row_of]))[0]
            return row

        # file by file, so that each is asked once however the rows are mixed
        files = [(number, self._map(int(number))) for number in np.unique(file_of)]  # before room is made for the rows
        gathered: Features = np.empty((len(row_of), *self.row_shape), self.dtype)
        for number, file in files:
            here = file_of == number
            gathered[here] = file.read(row_of[here])
        return gathered

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the open maps: pickling those would copy the data."""
        return {**self.__dict__, "_maps": {}}

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> FeatureRows:
        """Choose rows without reading them."""
        chosen = self._file_of[rows], self._row_of[rows]
        taken = FeatureRows(self.files, self.row_shape, self.dtype, *chosen, self._remedy)
        taken._maps = self._maps  # what was compared for one is compared for all
        return taken

    def _map(self, number: int) -> _RowFile:
        """Open a file, its values still on disk."""
        if number not in self._maps:
            self._maps[number] = _RowFile(self.files[number], self.row_shape, self.dtype, self._remedy)
        return self._maps[number]


class _RowFile:
    """One mapped file of rows, each compared with its checksum when it is read first.

    Raises
    ------
    DataError
        If it is damaged.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], remedy: str) -> None:
        self._path = path
        self._remedy = remedy
        try:
            with path.open("rb") as stream:
                read_npy_header(stream)  # tells every damage in one way
            self._values: Features = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise self._damaged(f"is damaged ({error})") from error
        if self._values.shape[1:] != shape or self._values.dtype != dtype or not self._values.flags.c_contiguous:
            raise self._damaged(f"is damaged: its rows are {self._values.dtype} of shape {self._values.shape[1:]}")

        self._checksums: NDArray[np.uint32] | None = None
        if remedy:
            self._checksums = _read_checksums(path, len(self._values))
            if self._checksums is None:
                raise self._damaged("is damaged: it has not one checksum a row")
        self._is_compared = np.zeros(len(self._values), np.bool_)

    def __len__(self) -> int:
        return len(self._values)

    def read(self, numbers: NDArray[np.int64]) -> Features:
        """Copy rows out, shape (n, *row_shape)."""
        if len(numbers) and numbers.max() >= len(self):
            raise self._damaged(f"is damaged: it has {len(self)} rows, and number {numbers.max()} is asked for")
        rows: Features = self._values[numbers]
        if self._checksums is None:
            return rows

        for place in np.flatnonzero(~self._is_compared[numbers]):
            number = numbers[place]
            if zlib.crc32(rows[place].tobytes()) != self._checksums[number]:
                raise self._damaged(f"is damaged in row {number}")
        self._is_compared[numbers] = True
        return rows

    def _damaged(self, problem: str) -> DataError:
        return DataError(f"{self._path} {problem}", next_step=self._remedy or "Make it again")


def is_whole(path: Path, n_rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether a file holds so many rows, every one as it was written; it is read from front to back."""
    step = max(1, _CHUNK_BYTES // max(1, math.prod(shape) * dtype.itemsize))
    try:
        file = _RowFile(path, shape, dtype, "Make it again")
        for start in range(0, n_rows, step):
            file.read(np.arange(start, min(start + step, n_rows)))
    except (DataError, OSError):
        return False
    return len(file) == n_rows


def read_rows(
    shared: tuple[FeatureRows, Change | None], wanted: tuple[NDArray[np.int64], int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Gather rows of an epoch as float32; it runs in a thread or, without torch, in a process of its own."""
    (features, change), (rows, epoch) = shared, wanted
    values = features[rows].astype(np.float32, copy=False)
    if change is not None:
        values = change(values, rows, epoch)
    return rows, values


def write_npy(stream: IO[bytes], pieces: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write pieces one after the other as the one `.npy` array that they are together; a checksum a row follows.

    These are plain writes: a full disk is an error then, where a mapped write would be a crash.

    Parameters
    ----------
    stream : binary file object
        Where to.
    pieces : iterable of ndarray
        Some rows each; one at a time is in memory.
    shape : tuple of int
        Shape of the whole.
    dtype : dtype
        Type of its values.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    checksums = []
    for piece in pieces:
        for row in np.ascontiguousarray(piece, dtype):
            content = row.tobytes()
            checksums.append(zlib.crc32(content))
            stream.write(content)
    stream.write(np.array(checksums, _CHECKSUM).tobytes())


def _read_checksums(path: Path, n_rows: int) -> NDArray[np.uint32] | None:
    """Read the checksums behind the rows of a file; `None` if they are not there, or more is."""
    with path.open("rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):  # as `write_npy` writes it
            return None
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        stream.seek(math.prod(shape) * dtype.itemsize, 1)
        content = stream.read()
    if len(content) != n_rows * _CHECKSUM.itemsize:
        return None
    return np.frombuffer(content, _CHECKSUM)


def draw_example(seed: int, track_id: str, count: int) -> int:
    """Draw one of `count` examples of a track, from the seed and the track's name alone.

    Other tracks, their number and their order do not matter, so a track keeps its example when the data grow.
    """
    digest = hashlib.sha256(f"{seed}:{track_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


@dataclass(frozen=True)
class Block:
    """Some values of a flat row that belong together, such as a spectrogram followed by something else.

    Parameters
    ----------
    shape : tuple of int
        Their shape before they were laid flat.
    row_axis : int or None
        Axis of it that is normalised entry by entry; `None`: all its values share one pair.
    """

    shape: tuple[int, ...]
    row_axis: int | None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def as_dict(self) -> dict[str, Any]:
        """Lists and numbers, for JSON."""
        return {"shape": list(self.shape), "row_axis": self.row_axis}


def blocks_of(description: Mapping[str, Any]) -> tuple[Block, ...]:
    """Read the blocks of a JSON object that may have some."""
    return tuple(Block(tuple(entry["shape"]), entry["row_axis"]) for entry in description.get("blocks", ()))


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of every band, coefficient or column.

    Parameters
    ----------
    mean, std : ndarray of float64, shape (n,)
        `n` is the length of `row_axis`, or 1 without one. A constant row has `std` 1. With blocks, those of all
        blocks one after the other.
    row_axis : int or None
        The axis of one row of features they belong to; `None`: all values share one pair.
    blocks : tuple of Block
        What a flat row consists of; they decide then, not `row_axis`.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    row_axis: int | None
    blocks: tuple[Block, ...] = ()

    def apply(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Subtract the mean and divide by the deviation; shape (n_rows, *row_shape) stays."""
        mean, std = self.broadcast(features.ndim - 1)
        return (features.astype(np.float32) - mean) / std

    def broadcast(self, n_dims: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation, shaped to meet rows of `n_dims` dimensions."""
        # in float32, as the features are: float64 would double what a batch takes
        mean, std = self.mean.astype(np.float32), self.std.astype(np.float32)
        if self.blocks:
            return _laid_flat(mean, self.blocks), _laid_flat(std, self.blocks)
        shape = _row_shape(n_dims, self.row_axis, len(self.mean))
        return mean.reshape(shape), std.reshape(shape)

    def as_dict(self) -> dict[str, Any]:
        """Lists and numbers, for JSON."""
        data: dict[str, Any] = {"mean": self.mean.tolist(), "std": self.std.tolist(), "row_axis": self.row_axis}
        if self.blocks:
            data["blocks"] = [block.as_dict() for block in self.blocks]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Normalisation:
        """Undo `as_dict`."""
        mean, std = np.array(data["mean"], np.float64), np.array(data["std"], np.float64)
        row_axis = data["row_axis"]
        if row_axis is not None and not (type(row_axis) is int and 0 <= row_axis < _MOST_AXES):
            raise ValueError(f"its row_axis is {short_repr(row_axis)}")
        return cls(mean, std, row_axis, blocks_of(data))


def measure_normalisation(features: FeatureRows, row_axis: int | None, blocks: Sequence[Block] = ()) -> Normalisation:
    """Measure mean and deviation in float64, a few megabytes at a time.

    Parameters
    ----------
    features : FeatureRows
        The rows.
    row_axis : int or None
        The axis of one row that is measured entry by entry; `None`: all values share one pair.
    blocks : sequence of Block, optional
        What a flat row consists of, each measured by itself; they decide then, not `row_axis`.
    """
    measured_blocks = tuple(blocks) or (Block(features.row_shape, row_axis),)
    moments = [_Moments() for _ in measured_blocks]

    row_bytes = max(1, math.prod(features.row_shape) * 8)
    step = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, len(features), step):
        chunk = features[start : start + step].astype(np.float64)
        flat = chunk.reshape(len(chunk), -1)
        begin = 0
        for block, of_block in zip(measured_blocks, moments, strict=True):
            values = flat[:, begin : begin + block.size].reshape(len(chunk), *block.shape)
            begin += block.size
            if block.row_axis is None:
                of_block.add(values.reshape(1, -1))
            else:
                axis = block.row_axis + 1  # behind the axis of the rows
                of_block.add(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1))

    mean = np.concatenate([of_block.mean for of_block in moments])
    std = np.concatenate([of_block.std for of_block in moments])
    return Normalisation(mean, std, row_axis, tuple(blocks))


class _Moments:
    """Mean and squared deviations of some rows of numbers, of which ever more arrive."""

    def __init__(self) -> None:
        self.count, self.mean, self._spread = 0, np.zeros(1), np.zeros(1)

    def add(self, values: NDArray[np.float64]) -> None:
        """Take further values in, shape (n_rows, n_values)."""
        n, mean = values.shape[1], values.mean(axis=1)
        spread = ((values - mean[:, None]) ** 2).sum(axis=1)

        # Joining means and squared deviations, unlike sums of squares, loses no digits to a large mean.
        delta = mean - self.mean
        self._spread = self._spread + spread + delta**2 * (self.count * n / (self.count + n))
        self.mean = self.mean + delta * (n / (self.count + n))
        self.count += n

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each row; 1 where it is constant."""
        std = np.sqrt(self._spread / max(self.count, 1))
        constant = std <= _SMALLEST_STD * np.maximum(1.0, np.abs(self.mean))
        return np.where(constant, 1.0, std)


def _row_shape(n_dims: int, row_axis: int | None, length: int) -> list[int]:
    """Shape in which `length` values meet rows of `n_dims` dimensions along `row_axis`."""
    shape = [1] * n_dims
    if row_axis is not None:
        shape[row_axis] = length
    return shape


def _laid_flat(values: NDArray[np.float32], blocks: Sequence[Block]) -> NDArray[np.float32]:
    """One value for every number of a flat row, from one for every row of every block."""
    parts, begin = [], 0
    for block in blocks:
        n_rows = 1
        if block.row_axis is not None:
            n_rows = block.shape[block.row_axis]
        own = values[begin : begin + n_rows].reshape(_row_shape(len(block.shape), block.row_axis, n_rows))
        parts.append(np.broadcast_to(own, block.shape).reshape(-1))
        begin += n_rows

    return np.concatenate(parts)
