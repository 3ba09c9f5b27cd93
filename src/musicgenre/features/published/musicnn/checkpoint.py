"""A TensorFlow checkpoint, read without TensorFlow: a table of names in one file, the values in another.

Its own checksums are not looked at: whoever reads a published checkpoint compares the SHA-256 of both files before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from musicgenre._protobuf import ProtobufError, fields, read_varint
from musicgenre.errors import BundleError

_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # behind a block: how it is compressed, and its checksum
_FLOAT32 = 1  # DT_FLOAT

Kind = TypeVar("Kind", int, bytes)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one variable lies in the data file."""

    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    is_float32: bool


class Checkpoint:
    """The variables of one checkpoint, by name.

    Parameters
    ----------
    index, data : bytes
        Content of the `.index` and the `.data-00000-of-00001` file.

    Raises
    ------
    BundleError
        When the index is none.
    """

    def __init__(self, index: bytes, data: bytes) -> None:
        if len(index) < _FOOTER_BYTES or struct.unpack("<Q", index[-8:])[0] != _TABLE_MAGIC:
            raise _damaged("its index is not a TensorFlow checkpoint index")

        self._data = data
        self.entries: dict[str, Entry] = {}
        try:
            # A LevelDB table: the footer names the index block, which names the data blocks.
            footer = index[-_FOOTER_BYTES:]
            _, position = read_varint(footer, 0)  # the meta index's handle: offset, size
            _, position = read_varint(footer, position)
            for _, handle in _block(index, footer[position:]):
                for name, value in _block(index, handle):
                    if name:  # the nameless one describes the checkpoint as a whole
                        self.entries[name.decode("utf-8")] = _entry(value)
        except (ProtobufError, struct.error, UnicodeDecodeError) as error:
            raise _damaged(f"its index cannot be read ({error})") from error

    def read(self, name: str) -> NDArray[np.float32]:
        """Give one variable.

        Raises
        ------
        BundleError
            When there is none of that name, or not all of it.
        """
        entry = self.entries.get(name)
        if entry is None or not entry.is_float32:
            raise _damaged(f"it holds no float32 variable {name!r}")

        raw = self._data[entry.offset : entry.offset + entry.size_bytes]
        if len(raw) != entry.size_bytes or len(raw) != 4 * int(np.prod(entry.shape, dtype=np.int64)):
            raise _damaged(f"variable {name!r} is cut short")
        return np.frombuffer(raw, dtype="<f4").reshape(entry.shape).astype(np.float32)


def _block(content: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Entries of the block that a handle (offset, size) names; each key shares a prefix with the key before it."""
    offset, position = read_varint(handle, 0)
    size, _ = read_varint(handle, position)
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + _TRAILER_BYTES]
    compression, _ = struct.unpack("<BI", trailer)
    if compression != 0:
        raise _damaged("its index is compressed, which the published ones are not")

    n_restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 * (n_restarts + 1)  # behind the entries: places to begin reading at, which we need not

    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)

        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _entry(message: bytes) -> Entry:
    """Read a BundleEntryProto: 1 type, 2 shape, 3 shard, 4 offset, 5 size."""
    found = {number: value for number, value, _ in fields(message)}

    # A TensorShapeProto: 2 one message a dimension, whose 1 is the size.
    shape = []
    for number, dimension, _ in fields(_expect(bytes, found.get(2, b""))):
        if number == 2:
            sizes = {number: value for number, value, _ in fields(_expect(bytes, dimension))}
            shape.append(_expect(int, sizes.get(1, 0)))

    return Entry(
        shape=tuple(shape),
        offset=_expect(int, found.get(4, 0)),
        size_bytes=_expect(int, found.get(5, 0)),
        is_float32=found.get(1, 0) == _FLOAT32 and found.get(3, 0) == 0,
    )


def _expect(kind: type[Kind], value: int | bytes) -> Kind:
    """Give a field's value back if it is of a kind: a number, or bytes for text and messages."""
    if not isinstance(value, kind):
        raise ProtobufError(f"{kind.__name__} was expected")
    return value


def _damaged(problem: str) -> BundleError:
    """Make the error for a checkpoint that is not one."""
    return BundleError(
        f"the MusiCNN checkpoint is damaged: {problem}",
        next_step="Get the weights anew with: musicgenre bundles get",
    )
