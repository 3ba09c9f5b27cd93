from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import DataError
from musicgenre.evaluation.folds import ALWAYS_TRAIN, grouped_folds

TRACKS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60)


@given(TRACKS, st.integers(2, 6), st.integers(0, 5))
def test_groups_stay_whole_and_every_fit_knows_every_label(
    tracks: list[tuple[int, int]], n_folds: int, seed: int
) -> None:
    labels, groups = (np.array(values) for values in zip(*tracks, strict=True))
    folds = grouped_folds(labels, groups, n_folds, seed)
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    for fold in set(folds.tolist()) - {ALWAYS_TRAIN}:
        assert set(labels[folds == fold]) <= set(labels[folds != fold])
    np.testing.assert_array_equal(folds, grouped_folds(labels, groups, n_folds, seed))


def test_single_tracks_are_spread_evenly() -> None:
    labels = np.repeat([0, 1, 2], [50, 25, 10])
    folds = grouped_folds(labels, np.arange(85), 5, seed=1)
    for label, expected in ((0, 10), (1, 5), (2, 2)):
        assert np.bincount(folds[labels == label], minlength=5).tolist() == [expected] * 5


def test_seeds_deal_differently() -> None:
    labels, groups = np.zeros(40, dtype=int), np.arange(40)
    assert (grouped_folds(labels, groups, 4, seed=0) != grouped_folds(labels, groups, 4, seed=1)).any()


def test_a_label_of_one_group_always_trains() -> None:
    folds = grouped_folds([0, 0, 0, 1, 1, 1], [7, 7, 7, 1, 2, 3], 2, seed=0)
    assert (folds[:3] == ALWAYS_TRAIN).all()
    assert set(folds[3:]) == {0, 1}


def test_one_fold_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2 folds"):
        grouped_folds([0, 1], [0, 1], 1, seed=0)
