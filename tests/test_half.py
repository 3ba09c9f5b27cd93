"""Products of float16 rows: the same as NumPy's, for every value there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.embedding.similar import first_unusable, lengths, products

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_every_finite_value_becomes_itself() -> None:
    finite = ALL[np.isfinite(ALL)]
    np.testing.assert_array_equal(products(finite[:, None], np.ones(1, np.float32)), finite.astype(np.float32))
    np.testing.assert_array_equal(lengths(finite[:, None]), np.abs(finite.astype(np.float32)))


def test_every_other_value_is_found() -> None:
    for value in ALL[~np.isfinite(ALL)]:
        rows = np.zeros((3000, 100), np.float16)
        rows[2500, 7] = value
        assert first_unusable(rows) == 2500
    assert first_unusable(ALL[np.isfinite(ALL)][:, None]) is None


@given(st.integers(0, 3000), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_products_and_lengths_are_those_of_float64(n: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, width)).astype(np.float16)
    vector = rng.standard_normal(width).astype(np.float32)
    exact = rows.astype(np.float64) @ vector
    tolerance = width * 1.2e-7 * (np.abs(rows.astype(np.float64)) @ np.abs(vector)) + 1e-12
    assert (np.abs(products(rows, vector) - exact) <= tolerance).all()
    np.testing.assert_allclose(lengths(rows), np.linalg.norm(rows.astype(np.float64), axis=1), rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 5_000])
def test_threads_change_nothing(n: int) -> None:
    rng = np.random.default_rng(n)
    rows, vector = rng.standard_normal((n, 200)).astype(np.float16), rng.standard_normal(200).astype(np.float32)
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(products(rows, vector, threads), products(rows, vector))


@pytest.mark.parametrize("width", [1, 200_001])
def test_rows_of_any_width(width: int) -> None:
    rows = np.ones((3, width), np.float16)
    np.testing.assert_allclose(products(rows, np.ones(width, np.float32)), width, rtol=1e-6)
