"""Stand-ins for the published weights: random variables of the same shapes, as a TensorFlow checkpoint in a wheel."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicgenre._protobuf import bytes_field, write_varint
from musicgenre.features.published.musicnn.published import PUBLISHED, Family, published
from musicgenre.features.published.musicnn.weights import Variables, variable_shapes

_FIRST_LAYER = ("conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4")


def random_variables(family: Family, rng: np.random.Generator, dead_share: float = 0.5) -> Variables:
    """Variables of a network; a share of the first layer's filters is all but zero, and many batch-norms fall."""
    variables: Variables = {}
    for name, shape in variable_shapes(family).items():
        layer, _, part = name.partition("/")
        if part == "kernel":
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
            if layer in _FIRST_LAYER:
                values[..., rng.random(shape[-1]) < dead_share] *= 1e-29
        elif part == "moving_variance":
            values = rng.choice([1e-36, 0.5, 2.0], shape)
        else:
            mean, deviation = {"bias": (0.1, 0.3), "gamma": (0.5, 0.5)}.get(part, (0.0, 0.3))
            values = rng.normal(mean, deviation, shape)
        variables[name] = values.astype(np.float32)
    return variables


def checkpoint_files(variables: Variables) -> tuple[bytes, bytes]:
    """The index and the data file of a checkpoint with these variables."""
    data = b"".join(variables[name].astype("<f4").tobytes() for name in sorted(variables))
    entries, offset = [(b"", bytes_field(3, b""))], 0
    for name in sorted(variables):
        raw = variables[name].astype("<f4").tobytes()
        shape = b"".join(bytes_field(2, b"\x08" + write_varint(n)) for n in variables[name].shape)
        place = b"\x20" + write_varint(offset) + b"\x28" + write_varint(len(raw))
        entries.append((name.encode(), b"\x08\x01" + bytes_field(2, shape) + place))
        offset += len(raw)
    index = b""
    handles = []
    for start in range(0, len(entries), 8):
        chunk = entries[start : start + 8]
        handles.append((chunk[-1][0], _handle(index, block := _block(chunk))))
        index += block
    top = _block(handles)
    footer = b"\x00\x00" + _handle(index, top)
    return index + top + footer.ljust(40, b"\x00") + struct.pack("<Q", 0xDB4775248B80FB57), data


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, variables: Variables) -> Path:
    """Write a wheel with these variables and make it the published one of that name."""
    model = published(name)
    index, data = checkpoint_files(variables)
    other = replace(
        model, index_sha256=hashlib.sha256(index).hexdigest(), data_sha256=hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setitem(PUBLISHED, name, other)
    wheel = folder / "musicnn-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(f"musicnn/{model.folder}/.index", index)
        archive.writestr(f"musicnn/{model.folder}/.data-00000-of-00001", data)
    return wheel


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """One table block; keys share what they have in common with the key before."""
    content, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        content += write_varint(shared) + write_varint(len(key) - shared) + write_varint(len(value))
        content += key[shared:] + value
        before = key
    content += struct.pack("<II", 0, 1) + b"\x00"
    return content + struct.pack("<I", 0)  # its checksum, which nobody reads


def _handle(before: bytes, block: bytes) -> bytes:
    return write_varint(len(before)) + write_varint(len(block) - 5)
