"""Read a TensorFlow checkpoint (format V2) with NumPy alone.

The ``.index`` file is an uncompressed LevelDB table that maps a variable's name to its type, shape, place in the data
file and masked CRC-32C; the ``.data`` file is the values, little-endian, one after another. Only float32 is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre._protobuf import ProtobufError, fields, read_varint
from musicgenre.errors import BundleError

Float32 = NDArray[np.float32]

_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_FLOAT32 = 1  # DT_FLOAT
_CRC_MASK_DELTA = 0xA282EAD8
_CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli, bit-reversed


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one variable lies in the data file."""

    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    masked_crc32c: int
    is_float32: bool


class Checkpoint:
    """The variables of one checkpoint, by name.

    Parameters
    ----------
    index, data : bytes
        Content of the ``.index`` and the ``.data-00000-of-00001`` file.
    """

    def __init__(self, index: bytes, data: bytes) -> None:
        self._data = data
        try:
            self.entries = {name: _entry(value) for name, value in _table(index) if name}
        except (ProtobufError, struct.error, UnicodeDecodeError) as error:
            raise _damaged(f"its index cannot be read ({error})") from error

    def read(self, name: str) -> Float32:
        """Give one variable, checked against its checksum."""
        entry = self.entries.get(name)
        if entry is None or not entry.is_float32:
            raise _damaged(f"it holds no float32 variable {name!r}")
        raw = self._data[entry.offset : entry.offset + entry.size_bytes]
        if len(raw) != entry.size_bytes or len(raw) != 4 * int(np.prod(entry.shape, dtype=np.int64)):
            raise _damaged(f"variable {name!r} is cut short")
        if masked_crc32c(raw) != entry.masked_crc32c:
            raise _damaged(f"variable {name!r} does not match its checksum")
        return np.frombuffer(raw, dtype="<f4").reshape(entry.shape).astype(np.float32)


def masked_crc32c(data: bytes) -> int:
    """CRC-32C as TensorFlow stores it: rotated and shifted by a constant."""
    crc = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CRC_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_CRC_TABLE = _crc_table()


def _table(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Walk a LevelDB table: the footer names the index block, which names the data blocks."""
    if len(content) < _FOOTER_BYTES or struct.unpack("<Q", content[-8:])[0] != _TABLE_MAGIC:
        raise _damaged("its index is not a TensorFlow checkpoint index")
    footer = content[-_FOOTER_BYTES:]
    _, position = read_varint(footer, 0)  # the meta index's handle: offset, size
    _, position = read_varint(footer, position)
    for _, handle in _block(content, footer[position:]):
        for key, value in _block(content, handle):
            yield key.decode("utf-8"), value


def _block(content: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Entries of one block; each key shares a prefix with the key before it."""
    offset, position = read_varint(handle, 0)
    size, _ = read_varint(handle, position)
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + 5]
    kind, crc = struct.unpack("<BI", trailer)
    if kind != 0:
        raise _damaged("its index is compressed, which the published ones are not")
    if masked_crc32c(block + trailer[:1]) != crc:
        raise _damaged("its index does not match its checksum")
    n_restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 * (n_restarts + 1)
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
    """Read a BundleEntryProto: 1 type, 2 shape, 3 shard, 4 offset, 5 size, 6 masked crc32c."""
    found = {number: value for number, value, _ in fields(message)}
    shape = found.get(2, b"")
    if not isinstance(shape, bytes):
        raise ProtobufError("a shape is not a message")
    return Entry(
        shape=tuple(_dimension(value) for number, value, _ in fields(shape) if number == 2),
        offset=_number(found.get(4, 0)),
        size_bytes=_number(found.get(5, 0)),
        masked_crc32c=_number(found.get(6, 0)),
        is_float32=found.get(1, 0) == _FLOAT32 and found.get(3, 0) == 0,
    )


def _dimension(message: int | bytes) -> int:
    if not isinstance(message, bytes):
        raise ProtobufError("a dimension is not a message")
    return next((_number(value) for number, value, _ in fields(message) if number == 1), 0)


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ProtobufError("a number was expected")
    return value


def _damaged(problem: str) -> BundleError:
    return BundleError(
        f"the MusiCNN checkpoint is damaged: {problem}",
        next_step="Get the weights anew with: musicgenre bundles get",
    )
