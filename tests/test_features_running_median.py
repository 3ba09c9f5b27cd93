"""The running median is scipy's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.errors import UsageError
from musicgenre.features.kernels.running_median import running_median, transposed


@settings(max_examples=60)
@given(
    n_rows=st.integers(1, 90),
    n_lanes=st.integers(1, 50),
    half=st.integers(0, 20),
    levels=st.sampled_from([2, 5, 10**6]),
    seed=st.integers(0, 999),
)
def test_equals_scipy(n_rows: int, n_lanes: int, half: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-levels, levels, (n_rows, n_lanes)).astype(np.float32) / np.float32(3)
    size = 2 * half + 1
    got = running_median(values, size)
    mirrored = np.pad(values, ((half, half), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, size, axis=0)
    assert np.array_equal(got, np.median(windows, axis=-1))
    if half < 4 * n_rows:  # scipy 1.17 loses count of the mirrors in tables of 2 and 4 rows beyond that
        assert np.array_equal(got, scipy.ndimage.median_filter(values, size=(size, 1), mode="reflect"))


def test_only_the_first_rows(rng: np.random.Generator) -> None:
    values = rng.random((40, 32), dtype=np.float32)
    got = running_median(values, 5, n_rows=30)
    assert np.array_equal(got[:30], running_median(values[:30], 5))
    assert not got[30:].any()


@pytest.mark.parametrize("size", [0, 4, -1])
def test_the_size_is_odd(size: int) -> None:
    with pytest.raises(UsageError, match="odd"):
        running_median(np.zeros((3, 3), np.float32), size)


def test_transposed(rng: np.random.Generator) -> None:
    values = rng.random((48, 80), dtype=np.float32)
    assert np.array_equal(transposed(values), values.T)


def test_any_memory_order_and_number_type(rng: np.random.Generator) -> None:
    values = rng.random((40, 33)).astype(np.float32)
    expected = running_median(values, 5)
    assert np.array_equal(running_median(np.asfortranarray(values), 5), expected)
    assert np.array_equal(running_median(values.astype(np.float64), 5), expected)
