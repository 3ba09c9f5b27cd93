"""How models answer together: weights and stacking, kept as plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import DataError
from musicgenre.models.pooling import POOLINGS, Stacked, Weighted, mixture_from_settings, pool_scores, pool_tag_scores


def members_of(seed: int, n_models: int, n_labels: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_labels), (n_models, 5))


def test_equal_weights_are_the_mean() -> None:
    members = members_of(6, 2, 4)
    assert np.allclose(Weighted([0.5, 0.5])(members), members.mean(axis=0))


@given(st.integers(0, 99), st.integers(1, 4), st.integers(2, 5), st.booleans())
def test_settings_make_the_same_mixture_again(seed: int, n_models: int, n_labels: int, stacks: bool) -> None:
    rng = np.random.default_rng(seed)
    made: Stacked | Weighted = Weighted(rng.dirichlet(np.ones(n_models)))
    if stacks:
        made = Stacked(rng.normal(size=(n_labels, n_models * n_labels)), rng.normal(size=n_labels))
    members = members_of(seed, n_models, n_labels)
    mixed = made(members)
    assert np.allclose(mixed.sum(axis=1), 1.0) and (mixed >= 0).all()
    assert np.array_equal(mixture_from_settings(made.settings(), n_models, n_labels)(members), mixed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "cannot be weighted by"),
        ({"weights": [1.0]}, "2 models over 2 labels cannot be mixed"),
        ({"weights": [0.7, 0.7]}, "cannot be weighted by"),
        ({"weights": [1.5, -0.5]}, "cannot be weighted by"),
        ({"weights": ["a", "b"]}, "no table of numbers"),
        ({"weights": [float("nan"), 1.0]}, "not finite"),
        ({"coefficients": [[1.0, 2.0]], "intercepts": [0.0]}, "cannot be mixed"),
        ({"coefficients": [[1.0] * 4] * 2, "intercepts": [0.0]}, "a regression cannot have"),
        ({"coefficients": [[1.0] * 4, [1.0]], "intercepts": [0.0, 0.0]}, "no table of numbers"),
        ({"coefficients": [[1.0] * 4] * 2}, "a regression cannot have"),
        ({"coefficients": [[float("inf")] * 4] * 2, "intercepts": [0.0, 0.0]}, "not finite"),
    ],
)
def test_what_is_no_mixture_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mixture_from_settings(settings, 2, 2)


@pytest.mark.parametrize("how", POOLINGS)
def test_segments_score_together(how: Any) -> None:
    segments = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.0, 1.0, 0.0]])
    expected = {"mean": segments.mean(axis=0), "max": np.array([0.6, 1.0, 0.1]) / 1.7, "vote": [2 / 3, 1 / 3, 0.0]}
    assert np.allclose(pool_scores(segments, how), expected[how], atol=1e-3)


def test_tags_score_together() -> None:
    segments = np.array([[0.6, 0.3], [0.5, 0.9]])
    assert pool_tag_scores(segments, "max").tolist() == [0.6, 0.9]
    assert pool_tag_scores(segments, "mean") == pytest.approx([0.55, 0.6])
