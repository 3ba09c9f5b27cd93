"""Weights in the safetensors format: a JSON header and raw numbers, so that reading runs no code.

The layout is the published one (https://github.com/huggingface/safetensors): eight bytes with the header's length,
the header, the arrays one after another.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import parsed_json, replacing
from musicgenre.errors import RunError

Array = NDArray[Any]

_CODES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: code for code, dtype in _CODES.items()}
_LONGEST_HEADER = 100_000_000
_ALIGNMENT = 8


def write_safetensors(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name, atomically; bfloat16 is not among the types that NumPy has."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    kept: list[Array] = []
    offset = 0
    for name, array in arrays.items():
        plain = np.asarray(array, order="C")
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
        if plain.dtype not in _NAMES:
            raise RunError(f"the array {name} has the type {array.dtype}", valid=f"Types: {', '.join(_CODES)}")
        header[name] = {
            "dtype": _NAMES[plain.dtype],
            "shape": list(plain.shape),
            "data_offsets": [offset, offset + plain.nbytes],
        }
        kept.append(plain)
        offset += plain.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)))
        stream.write(text)
        for plain in kept:
            stream.write(plain.tobytes())


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what :func:`write_safetensors` wrote.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays, in memory.
    metadata : dict of str to str
        The texts beside them.

    Raises
    ------
    RunError
        If the file is missing, cut short, or its header does not fit its content.
    """
    try:
        data = path.read_bytes()
        header, start = _header(data)
        metadata = dict(header.pop("__metadata__", {}))
        return {name: _array(data, start, entry) for name, entry in header.items()}, metadata
    except FileNotFoundError as error:
        raise RunError(f"there is no weights file {path}", next_step="Train again, or finish with --resume") from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise RunError(f"the weights file {path} is damaged ({error})", next_step="Train again") from error


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    (length,) = struct.unpack_from("<Q", data)
    if length > min(_LONGEST_HEADER, len(data) - 8):
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    header = parsed_json(data[8 : 8 + length].decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("the header is no mapping")
    return header, 8 + length


def _array(data: bytes, start: int, entry: Mapping[str, Any]) -> Array:
    dtype = _CODES[entry["dtype"]]
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if min(shape, default=0) < 0 or begin < 0 or end - begin != size or start + end > len(data):
        raise ValueError(f"offsets {begin}..{end} do not fit the shape {shape}")
    flat = np.frombuffer(data, dtype, count=size // dtype.itemsize, offset=start + begin)
    return np.array(flat.reshape(shape))
