from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import DataError
from musicgenre.evaluation.metrics import accuracy, class_metrics, confusion_matrix, majority_share, wilson_interval

LABEL_PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


def test_wilson_interval_of_a_textbook_case() -> None:
    low, high = wilson_interval(81, 263)
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=2e-4)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_interval_holds_the_share_and_stays_within_0_and_1(successes: int, trials: int) -> None:
    successes = min(successes, trials)
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    assert high - low < 1.0


def test_wilson_interval_without_trials_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2)])
def test_wilson_interval_refuses_what_is_no_share(successes: int, trials: int) -> None:
    with pytest.raises(DataError, match="not a share"):
        wilson_interval(successes, trials)


@given(LABEL_PAIRS)
def test_all_scores_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    truth, predicted = np.array(pairs).T
    confusion = confusion_matrix(truth, predicted, 5)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(truth, predicted, labels=range(5)))
    assert accuracy(truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    metrics = class_metrics(confusion)
    for mean, name in ((metrics.macro(), "macro"), (metrics.weighted(), "weighted")):
        expected = reference.precision_recall_fscore_support(
            truth, predicted, labels=range(5), average=name, zero_division=0
        )
        assert mean == pytest.approx(expected[:3])
    assert metrics.support.sum() == len(pairs)


def test_a_label_never_answered_scores_zero_and_not_nan() -> None:
    metrics = class_metrics([[0, 2], [0, 3]])
    assert metrics.precision.tolist() == [0.0, 0.6]
    assert metrics.f1[0] == 0.0


def test_majority_share() -> None:
    assert majority_share([0, 0, 1, 2]) == 0.5
    assert majority_share([]) == 0.0


def test_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="equal length"):
        accuracy([0, 1], [0])
    with pytest.raises(DataError, match="nothing"):
        accuracy([], [])
    with pytest.raises(DataError, match="0 to 1"):
        confusion_matrix([0, 2], [0, 1], 2)
