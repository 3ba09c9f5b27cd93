from __future__ import annotations

import numpy as np
import pytest

from musicgenre._numbers import softmax
from musicgenre.errors import DataError
from musicgenre.models import discriminant
from musicgenre.models.discriminant import FitSettings, _fit_logistic, fit_discriminant, track_weights


def blobs(rng: np.random.Generator, n: int = 60, width: int = 6, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % k
    return rng.normal(size=(n, width)) + 4 * np.eye(k, width)[labels], labels


def test_it_tells_separate_blobs_apart(rng: np.random.Generator) -> None:
    features, labels = blobs(rng)
    fresh, truth = blobs(rng)
    linear = fit_discriminant(features, labels, 3)
    assert (linear.logits(fresh).argmax(axis=1) == truth).mean() > 0.95


def test_the_unit_of_a_feature_does_not_matter(rng: np.random.Generator) -> None:
    features, labels = blobs(rng)
    scales, offsets = np.array([1, 1000, 0.01, 1, 5, 7.0]), np.arange(6.0)
    first = fit_discriminant(features, labels, 3).logits(features)
    second = fit_discriminant(features * scales + offsets, labels, 3).logits(features * scales + offsets)
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize(("n", "width"), [(4, 50), (3, 2), (40, 1)])
def test_few_tracks_and_odd_widths_give_finite_logits(n: int, width: int, rng: np.random.Generator) -> None:
    labels = np.arange(n) % 2
    linear = fit_discriminant(rng.normal(size=(n, width)), labels, 2)
    assert np.isfinite(linear.logits(rng.normal(size=(5, width)))).all()


def test_tracks_that_are_all_equal_give_finite_logits() -> None:
    linear = fit_discriminant(np.ones((6, 4)), np.arange(6) % 2, 2)
    assert np.isfinite(linear.logits(np.ones((1, 4)))).all()


def test_logistic_part_agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    features, labels = blobs(rng, n=90)
    weight, ridge = rng.uniform(0.5, 1.5, 90), 4.0
    ours = _fit_logistic(features, labels, 3, weight, ridge)
    theirs = sklearn.LogisticRegression(C=1 / ridge, max_iter=5000, tol=1e-9).fit(features, labels, weight)
    np.testing.assert_allclose(softmax(ours.logits(features)), theirs.predict_proba(features), atol=2e-3)


def test_a_fit_of_many_labels_that_lie_close_has_ended(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(240) % 12
    features = rng.normal(size=(12, 11))[labels] + rng.normal(size=(240, 11))
    fits = []
    for n_steps in (discriminant._LOGISTIC_STEPS, 10_000):
        monkeypatch.setattr(discriminant, "_LOGISTIC_STEPS", n_steps)
        fits.append(_fit_logistic(features, labels, 12, np.ones(240), ridge=4.0))
    np.testing.assert_array_equal(fits[0].weights, fits[1].weights)


def test_weights_are_fair_to_labels_and_grow_slowly_in_groups() -> None:
    labels, groups = np.array([0, 0, 0, 0, 0, 1]), np.array([1, 1, 1, 1, 2, 3])
    weight = track_weights(labels, groups, 0.5)
    assert weight.mean() == pytest.approx(1.0)
    assert weight[:5].sum() == pytest.approx(weight[5:].sum())
    assert weight[:4].sum() / weight[4] == pytest.approx(2.0)  # four tracks of one artist count as two
    assert track_weights(labels, groups, 1.0)[:4].sum() == pytest.approx(track_weights(labels, groups, 1.0)[4])


def test_a_prior_speaks_for_its_label(rng: np.random.Generator) -> None:
    features, labels = blobs(rng)
    prior = np.zeros((6, 3))
    prior[5, 2] = 1.0
    plain = fit_discriminant(features, labels, 3)
    told = fit_discriminant(features, labels, 3, prior=prior, settings=FitSettings(prior_strength=0.5))
    difference = told.weights - plain.weights
    assert difference[5, 2] > 0
    assert np.count_nonzero(np.abs(difference) > 1e-12) == 1


def test_a_label_without_tracks_and_bad_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels \[1\]"):
        fit_discriminant(np.zeros((3, 2)), np.array([0, 0, 2]), 3)
    with pytest.raises(DataError, match="not finite"):
        fit_discriminant(np.full((2, 2), np.nan), np.array([0, 1]), 2)


def test_few_tracks_of_many_features_fit_as_many_tracks_do(rng: np.random.Generator) -> None:
    # Each track six times over is the same fit, with more tracks than features and a ridge to match.
    features, labels = rng.standard_normal((12, 40)), np.arange(12) % 3
    few = fit_discriminant(features, labels, 3, settings=FitSettings(shrinkage=0.3, ridge=10.0))
    many = fit_discriminant(
        np.tile(features, (6, 1)), np.tile(labels, 6), 3, settings=FitSettings(shrinkage=0.3, ridge=60.0)
    )
    others = rng.standard_normal((5, 40))
    np.testing.assert_allclose(few.logits(others), many.logits(others), rtol=1e-6, atol=1e-6)
