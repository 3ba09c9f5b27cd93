"""Probabilities and logarithms, with SciPy as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from musicgenre._numbers import check_finite, log_odds, log_probabilities, sigmoid, softmax
from musicgenre.errors import DataError

EXTREME = np.array([[-1e4, 0.0, 1e4], [3.0, 3.0, 3.0], [-2.5, 0.1, 0.7]])


@pytest.mark.filterwarnings("error")
def test_softmax_and_sigmoid_are_scipys_and_never_overflow() -> None:
    np.testing.assert_allclose(softmax(EXTREME), special.softmax(EXTREME, axis=-1), atol=1e-15)
    np.testing.assert_allclose(sigmoid(EXTREME), special.expit(EXTREME), atol=1e-15)
    assert softmax([0.0, 0.0]).tolist() == [0.5, 0.5]


def test_single_precision_is_computed_in_double() -> None:
    values = EXTREME.astype(np.float32)
    for function in (softmax, sigmoid, log_probabilities, log_odds):
        assert function(values).dtype == np.float64


def test_logarithms_are_turned_back() -> None:
    probabilities = softmax(EXTREME[2])
    np.testing.assert_allclose(softmax(log_probabilities(probabilities)), probabilities, atol=1e-15)
    np.testing.assert_allclose(sigmoid(log_odds(probabilities)), probabilities, atol=1e-15)


@pytest.mark.filterwarnings("error")
def test_certainty_is_kept_finite() -> None:
    np.testing.assert_allclose(log_probabilities([0.0, 1.0]), [np.log(1e-9), 0.0])
    np.testing.assert_allclose(log_probabilities([0.0], smallest=1e-6), [np.log(1e-6)])
    np.testing.assert_allclose(log_odds([0.0, 1.0], smallest=1e-4), special.logit([1e-4, 1 - 1e-4]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    check_finite([[0.0, 1.0]], "features")
    with pytest.raises(DataError, match="features hold values that are not finite"):
        check_finite([0.0, bad], "features")
