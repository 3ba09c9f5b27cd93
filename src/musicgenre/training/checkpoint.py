"""Weights in the safetensors format: a JSON header and raw numbers, so that reading runs no code.

The layout is the published one (https://github.com/huggingface/safetensors): eight bytes with the header's length,
the header, the arrays one after another.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from musicgenre._files import parsed_json, replacing
from musicgenre.errors import RunError
from musicgenre.models._network import Network
from musicgenre.models.registry import create_to_restore
from musicgenre.runs.folder import RunFolder, read_description
from musicgenre.training.fit import restore
from musicgenre.training.inputs import Normalise, normalise_from_dict

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


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Parameters
    ----------
    network : Network
        Normalised arrays in, logits out; in evaluation mode.
    normalise : Normalise
        What stands in front of it.
    labels : tuple of str
        Labels in the order of the logits.
    representation : Mapping
        Settings of the representation; ``representation_from_settings`` makes it again.
    segment_s, hop_s : float or None
        How tracks were cut.
    scoring : str
        How the segments of a track score together.
    description : Mapping
        Content of ``run.json``.
    """

    network: Network
    normalise: Normalise
    labels: tuple[str, ...]
    representation: Mapping[str, Any]
    segment_s: float | None
    hop_s: float | None
    scoring: str
    description: Mapping[str, Any]

    def whole(self) -> nn.Sequential:
        """Representation arrays (batch, *shape) to logits (batch, n_classes), normalisation inside."""
        return nn.Sequential(self.normalise, self.network).eval()


def load_trained(folder: Path) -> Trained:
    """Load the model of a finished run.

    Raises
    ------
    RunError
        If the run is missing, unfinished, damaged or from a newer version.
    """
    described = read_description(folder)
    if described["status"] != "finished":
        raise RunError(
            f"the training in {folder} did not finish (status: {described['status']})",
            next_step="Resume it with 'musicgenre train --resume'",
        )
    run = RunFolder(folder)
    try:
        model = described["model"]
        shape = tuple(model["input_shape"])
        network = create_to_restore(model["name"], shape, model["n_classes"], model["options"])
        normalise = normalise_from_dict(parsed_json(run.normalisation.read_text(encoding="utf-8")), len(shape))
        arrays, _ = read_safetensors(run.weights)
        restore(network, arrays)
        return Trained(
            network=network.eval(),
            normalise=normalise.eval(),
            labels=tuple(described["labels"]),
            representation=described["representation"],
            segment_s=described["segment_s"],
            hop_s=described["hop_s"],
            scoring=described["scoring"],
            description=described,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"the run {folder} is damaged ({error})", next_step="Train it again") from error
