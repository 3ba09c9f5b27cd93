from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre._numbers import softmax
from musicgenre.errors import DataError
from musicgenre.evaluation.calibration import (
    apply_threshold,
    calibration_error,
    choose_threshold,
    fit_temperature,
    fit_temperature_by_count,
    log_loss,
)
from musicgenre.evaluation.metrics import wilson_interval

OUTCOMES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80)


def drawn_labels(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels drawn from the very probabilities that the logits claim."""
    return np.array([rng.choice(len(row), p=row) for row in softmax(logits)])


def test_log_loss_agrees_with_scikit_learn(rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, truth = rng.normal(size=(40, 5)) * 3, rng.integers(0, 5, 40)
    assert log_loss(logits, truth) == pytest.approx(metrics.log_loss(truth, softmax(logits), labels=range(5)))


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_fit_temperature_finds_how_much_too_sure_the_logits_are(factor: float, rng: np.random.Generator) -> None:
    honest = rng.normal(size=(4000, 4)) * 2
    truth = drawn_labels(honest, rng)
    assert fit_temperature(honest * factor, truth) == pytest.approx(factor, rel=0.08)


def test_fit_temperature_by_count_finds_both_ends(rng: np.random.Generator) -> None:
    honest = rng.normal(size=(9000, 4)) * 2
    truth, counts = drawn_labels(honest, rng), rng.choice([1, 2, 4, 10], size=9000)
    temperature = 1.5 + (4.0 - 1.5) / counts
    limit, single = fit_temperature_by_count(honest * temperature[:, np.newaxis], truth, counts)
    assert (limit, single) == (pytest.approx(1.5, rel=0.1), pytest.approx(4.0, rel=0.1))


def test_calibrated_probabilities_have_a_small_error(rng: np.random.Generator) -> None:
    honest = rng.normal(size=(4000, 4)) * 2
    truth = drawn_labels(honest, rng)
    good, bad = softmax(honest), softmax(honest * 5)
    right = good.argmax(axis=1) == truth
    assert calibration_error(good.max(axis=1), right) < 0.03
    assert calibration_error(bad.max(axis=1), right) > 0.1


@given(OUTCOMES, st.floats(0.5, 1.0))
def test_a_chosen_threshold_reaches_the_target_and_none_lower_does(
    outcomes: list[tuple[float, bool]], target: float
) -> None:
    confidence, right = (np.array(values) for values in zip(*outcomes, strict=True))
    chosen = choose_threshold(confidence, right, target=target, fewest=3)
    lower = [apply_threshold(confidence, right, value) for value in confidence[confidence < chosen.threshold]]
    assert all(answered.accuracy < target or answered.n_answered < 3 for answered in lower)
    if chosen.n_answered:
        assert chosen.accuracy >= target
        assert chosen.n_answered >= 3
    else:
        assert chosen.threshold > 1.0


def test_a_threshold_by_lower_bound_is_stricter_and_counts_tracks(rng: np.random.Generator) -> None:
    confidence = rng.uniform(size=400)
    right = rng.uniform(size=400) < 0.6 + 0.4 * confidence
    estimate = choose_threshold(confidence, right)
    bound = choose_threshold(confidence, right, z=1.645)
    assert bound.threshold > estimate.threshold
    assert wilson_interval(bound.n_right, bound.n_answered, z=1.645)[0] >= 0.9
    three_seeds = choose_threshold(np.tile(confidence, 3), np.tile(right, 3), z=1.645, repeats=3)
    assert three_seeds.threshold == bound.threshold


def test_answered_reads_as_a_sentence() -> None:
    answered = apply_threshold([0.9, 0.8, 0.3, 0.2], [True, False, True, False], 0.5)
    assert (answered.accuracy, answered.coverage) == (0.5, 0.5)
    assert str(answered).startswith("accuracy 0.500 [")
    assert "(2 of 4)" in str(answered)
    assert apply_threshold([0.1], [True], 0.5).accuracy == 0.0


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="shapes"):
        log_loss([[0.0, 1.0]], [0, 1])
    with pytest.raises(DataError, match="equal length"):
        choose_threshold([0.5], [True, False])
    with pytest.raises(DataError, match="nothing"):
        calibration_error([], [])
