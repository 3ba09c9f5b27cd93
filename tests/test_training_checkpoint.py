"""Weights on disk: exact, readable without running code, and refused when damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from musicgenre.errors import RunError
from musicgenre.training.checkpoint import read_safetensors, write_safetensors

DTYPES = ("<f4", "<f8", "<f2", "<i8", "<i4", "i1", "u1", "?")


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_round_trip_is_exact(data: st.DataObject, dtype: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    array = data.draw(hnp.arrays(np.dtype(dtype), shape))
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    write_safetensors(path, {"a": array, "b": np.arange(3)}, {"note": "hé"})
    arrays, metadata = read_safetensors(path)
    np.testing.assert_array_equal(arrays["a"], array)
    assert arrays["a"].dtype == array.dtype
    assert arrays["a"].shape == array.shape
    assert arrays["b"].tolist() == [0, 1, 2]
    assert metadata == {"note": "hé"}


def test_layout_is_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": np.array([[1.0, 2.0]], np.float32)})
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {"a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
    assert np.frombuffer(data[8 + length :], "<f4").tolist() == [1.0, 2.0]


def test_a_transposed_array_is_stored_in_order(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": np.arange(6).reshape(2, 3).T})
    np.testing.assert_array_equal(read_safetensors(path)[0]["a"], np.arange(6).reshape(2, 3).T)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no weights file"):
        read_safetensors(tmp_path / "w.safetensors")


def test_types_without_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="complex64"):
        write_safetensors(tmp_path / "w.safetensors", {"a": np.zeros(1, np.complex64)})


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-8, -4]},
        {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1]},
        [],
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path: Path, entry: object) -> None:
    text = json.dumps({"a": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 8)
    with pytest.raises(RunError, match="damaged"):
        read_safetensors(path)


@given(st.binary(max_size=64))
def test_any_other_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + data)
    with pytest.raises(RunError, match="damaged"):
        read_safetensors(path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": np.arange(100.0)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RunError, match="damaged"):
        read_safetensors(path)
