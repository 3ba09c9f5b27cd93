"""Just enough of the protobuf wire format to walk a message without its schema (and without importing onnx)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

Buffer = bytes | memoryview
Content = TypeVar("Content", bytes, memoryview)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) are long out of use


class ProtobufError(ValueError):
    """The bytes are not a protobuf message."""


def read_varint(data: Buffer, position: int) -> tuple[int, int]:
    """Read one variable-length integer; give it and the position behind it."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:  # ten bytes hold the largest number there is
            raise ProtobufError("a number runs over the end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def write_varint(value: int) -> bytes:
    """Encode one non-negative integer."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def fields(data: Content) -> Iterator[tuple[int, int | Content, tuple[int, int]]]:
    """Walk the fields of a message; those of a view are views, and nothing is copied.

    Yields
    ------
    tuple of int, (int or bytes-like), (int, int)
        Field number, value (numbers of any width as int), and where the whole field starts and ends.
    """
    position = 0
    while position < len(data):
        start = position
        tag, position = read_varint(data, position)
        number, kind = tag >> 3, tag & 7

        value: int | Content
        if kind == _VARINT:
            value, position = read_varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            width = 4 if kind == _FIXED32 else 8
            value, position = int.from_bytes(data[position : position + width], "little"), position + width
        elif kind == _BYTES:
            length, position = read_varint(data, position)
            part: Any = data[position : position + length]
            value, position = part, position + length
        else:
            raise ProtobufError(f"wire type {kind} is unknown")

        if number == 0 or position > len(data):
            raise ProtobufError("a field runs over the end")
        yield number, value, (start, position)


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode one length-delimited field."""
    return write_varint(number << 3 | _BYTES) + write_varint(len(value)) + value
