from __future__ import annotations

import numpy as np
import pytest

from musicgenre.errors import BundleError
from musicgenre.features.published.musicnn.weights import Checkpoint, masked_crc32c
from tests.published_weights import checkpoint_files


@pytest.fixture(scope="module")
def files() -> tuple[bytes, bytes]:
    rng = np.random.default_rng(1)
    shapes = {f"layer_{n}/kernel": (n + 1, 3) for n in range(20)} | {"scalar": (), "layer_3/bias": (7,)}
    return checkpoint_files({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


def test_crc_of_the_standard_check_string() -> None:
    crc = 0xE3069283  # CRC-32C of "123456789"
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_variables_come_back(files: tuple[bytes, bytes]) -> None:
    checkpoint = Checkpoint(*files)
    rng = np.random.default_rng(1)
    assert len(checkpoint.entries) == 22
    for number in range(20):
        expected = rng.standard_normal((number + 1, 3)).astype(np.float32)
        np.testing.assert_array_equal(checkpoint.read(f"layer_{number}/kernel"), expected)
    assert checkpoint.read("scalar").shape == ()


def test_a_changed_value_is_noticed(files: tuple[bytes, bytes]) -> None:
    index, data = files
    changed = bytearray(data)
    changed[Checkpoint(index, data).entries["layer_5/kernel"].offset] ^= 1
    with pytest.raises(BundleError, match="does not match its checksum"):
        Checkpoint(index, bytes(changed)).read("layer_5/kernel")


def test_a_changed_index_is_noticed(files: tuple[bytes, bytes]) -> None:
    index, data = files
    with pytest.raises(BundleError, match="index does not match its checksum"):
        Checkpoint(bytes([index[0]]) + bytes([index[1] ^ 1]) + index[2:], data)


@pytest.mark.parametrize("index", [b"", b"short", b"x" * 100])
def test_not_an_index(index: bytes) -> None:
    with pytest.raises(BundleError, match="not a TensorFlow checkpoint index"):
        Checkpoint(index, b"")


def test_a_cut_data_file_and_an_unknown_variable(files: tuple[bytes, bytes]) -> None:
    index, data = files
    with pytest.raises(BundleError, match="cut short"):
        Checkpoint(index, data[:8]).read("scalar")
    with pytest.raises(BundleError, match="no float32 variable 'nothing'"):
        Checkpoint(index, data).read("nothing")
