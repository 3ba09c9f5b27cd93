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

from musicgenre._files import replacing
from musicgenre._json import parsed_json
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
_LENGTH_BYTES = 8  # the number in front of the header
_LONGEST_HEADER_BYTES = 100_000_000  # the format's own limit
_ALIGNMENT_BYTES = 8


def write_safetensors(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name, atomically.

    Raises
    ------
    RunError
        If an array has a type that the format, or NumPy, does not have (bfloat16).
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    contents: list[Array] = []
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
        contents.append(plain)
        offset += plain.nbytes

    # blanks behind the header let the arrays begin where processors like to read them
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)))
        stream.write(text)
        for plain in contents:
            stream.write(plain.tobytes())


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what `write_safetensors` wrote.

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
        (length,) = struct.unpack_from("<Q", data)
        if length > min(_LONGEST_HEADER_BYTES, len(data) - _LENGTH_BYTES):
            raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
        start = _LENGTH_BYTES + length
        header = parsed_json(data[_LENGTH_BYTES:start].decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("the header is no mapping")

        metadata = dict(header.pop("__metadata__", {}))
        arrays = {}
        for name, entry in header.items():
            dtype = _CODES[entry["dtype"]]
            shape = tuple(int(size) for size in entry["shape"])
            begin, end = (int(offset) for offset in entry["data_offsets"])

            # numpy would read whatever lies at a wrong place, so the place is held against the shape first
            n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            if min(shape, default=0) < 0 or begin < 0 or end - begin != n_bytes or start + end > len(data):
                raise ValueError(f"offsets {begin}..{end} do not fit the shape {shape}")
            flat = np.frombuffer(data, dtype, count=n_bytes // dtype.itemsize, offset=start + begin)
            arrays[name] = np.array(flat.reshape(shape))  # a copy, which the model may change
        return arrays, metadata
    except FileNotFoundError as error:
        raise RunError(f"there is no weights file {path}", next_step="Train again, or finish with --resume") from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise RunError(f"the weights file {path} is damaged ({error})", next_step="Train again") from error
