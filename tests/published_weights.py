"""Stand-ins for the published weights: random variables of the same shapes, as a TensorFlow checkpoint in a wheel."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from musicgenre._protobuf import bytes_field, write_varint
from musicgenre.bundle import musicnn
from musicgenre.bundle._tensorflow_checkpoint import masked_crc32c

Variables = dict[str, NDArray[np.float32]]

_MUSICNN_KERNELS = {
    "conv2d": (7, 38, 1, 204),
    "conv2d_1": (7, 67, 1, 204),
    "conv2d_2": (128, 1, 1, 51),
    "conv2d_3": (64, 1, 1, 51),
    "conv2d_4": (32, 1, 1, 51),
    "conv2d_5": (7, 561, 1, 64),
    "conv2d_6": (7, 64, 1, 64),
    "conv2d_7": (7, 64, 1, 64),
    "dense": (1506, 200),
    "dense_1": (200, 50),
}
_MUSICNN_NORMS = (1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200)
_VGG_KERNELS = {f"{n}CNN": (3, 3, 1 if n == 1 else 128, 128) for n in range(1, 6)} | {"dense": (256, 50)}
_VGG_NORMS = (1, 128, 128, 128, 128, 128)


def random_variables(family: str, rng: np.random.Generator, dead_share: float = 0.5) -> Variables:
    """Variables of a network; a share of the first layer's filters is all but zero, and many batch-norms fall."""
    kernels, norms = (_MUSICNN_KERNELS, _MUSICNN_NORMS) if family == "musicnn" else (_VGG_KERNELS, _VGG_NORMS)
    variables: Variables = {}
    for name, shape in kernels.items():
        kernel = rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        if family == "musicnn" and name in list(kernels)[:5]:
            kernel[..., rng.random(shape[-1]) < dead_share] *= 1e-29
        variables[f"{name}/kernel"] = kernel.astype(np.float32)
        variables[f"{name}/bias"] = rng.normal(0.1, 0.3, shape[-1]).astype(np.float32)
    for number, width in enumerate(norms):
        prefix = "batch_normalization" + (f"_{number}" if number else "")
        variables[f"{prefix}/gamma"] = rng.normal(0.5, 0.5, width).astype(np.float32)
        variables[f"{prefix}/beta"] = rng.normal(0.0, 0.3, width).astype(np.float32)
        variables[f"{prefix}/moving_mean"] = rng.normal(0.0, 0.3, width).astype(np.float32)
        variables[f"{prefix}/moving_variance"] = rng.choice([1e-36, 0.5, 2.0], width).astype(np.float32)
    return variables


def checkpoint_files(variables: Variables) -> tuple[bytes, bytes]:
    """The index and the data file of a checkpoint with these variables."""
    data = b"".join(variables[name].astype("<f4").tobytes() for name in sorted(variables))
    entries, offset = [(b"", bytes_field(3, b""))], 0
    for name in sorted(variables):
        raw = variables[name].astype("<f4").tobytes()
        shape = b"".join(bytes_field(2, b"\x08" + write_varint(n)) for n in variables[name].shape)
        place = b"\x20" + write_varint(offset) + b"\x28" + write_varint(len(raw))
        checksum = b"\x35" + struct.pack("<I", masked_crc32c(raw))
        entries.append((name.encode(), b"\x08\x01" + bytes_field(2, shape) + place + checksum))
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
    model = musicnn.published(name)
    index, data = checkpoint_files(variables)
    published = replace(
        model, index_sha256=hashlib.sha256(index).hexdigest(), data_sha256=hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setitem(musicnn.PUBLISHED, name, published)
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
    return content + struct.pack("<I", masked_crc32c(content))


def _handle(before: bytes, block: bytes) -> bytes:
    return write_varint(len(before)) + write_varint(len(block) - 5)
