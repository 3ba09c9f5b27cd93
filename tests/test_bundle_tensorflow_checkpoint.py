from __future__ import annotations

import numpy as np
import pytest

from musicgenre.errors import BundleError
from musicgenre.features.published.musicnn.checkpoint import Checkpoint
from tests.published_weights import checkpoint_files


@pytest.fixture(scope="module")
def files() -> tuple[bytes, bytes]:
    rng = np.random.default_rng(1)
    shapes = {f"layer_{n}/kernel": (n + 1, 3) for n in range(20)} | {"scalar": (), "layer_3/bias": (7,)}
    return checkpoint_files({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


def test_variables_come_back(files: tuple[bytes, bytes]) -> None:
    checkpoint = Checkpoint(*files)
    rng = np.random.default_rng(1)
    assert len(checkpoint.entries) == 22
    for number in range(20):
        expected = rng.standard_normal((number + 1, 3)).astype(np.float32)
        np.testing.assert_array_equal(checkpoint.read(f"layer_{number}/kernel"), expected)
    assert checkpoint.read("scalar").shape == ()


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
