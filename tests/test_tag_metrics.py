"""Scores of tags equal scikit-learn's, with and without weights; thresholds are the best there are."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from musicgenre.evaluation.metrics import areas, best_threshold, centred_estimate, correlation, decide

_ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=40
)


@given(rows=_ROWS)
def test_areas_are_those_of_scikit_learn(rows: list[tuple[float, int, int]]) -> None:
    truth, scores, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    known = ~np.isnan(truth)
    draws = np.stack([np.ones(len(rows)), weights])
    roc, average = areas(truth, scores / 8, draws.T)
    for found_roc, found_average, weight in zip(roc, average, draws, strict=True):
        present, absent = weight[known & (truth == 1)].sum(), weight[known & (truth == 0)].sum()
        if not present or not absent:
            assert np.isnan(found_roc) and np.isnan(found_average)
            continue
        drawn = (truth[known], scores[known] / 8)
        assert found_roc == pytest.approx(roc_auc_score(*drawn, sample_weight=weight[known]))
        assert found_average == pytest.approx(average_precision_score(*drawn, sample_weight=weight[known]))
    assert (areas(truth, scores)[0][0] == roc[0]) or np.isnan(roc[0])


def test_the_interval_of_an_area_ends_at_0_and_that_of_a_difference_at_minus_1() -> None:
    value_and_draws = np.array([0.1, 0.0, 0.0, 0.0, 0.6])  # centred on 0.1 they reach below 0
    area = centred_estimate(value_and_draws, 6)
    assert (area.value, area.low) == (0.1, 0.0) and area.high == pytest.approx(0.5, abs=0.1)
    assert centred_estimate(value_and_draws, 6, least=-1.0).low == pytest.approx(-0.05)


@given(rows=_ROWS)
def test_no_threshold_has_a_larger_f1(rows: list[tuple[float, int, int]]) -> None:
    truth, scores, _ = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    scores = scores / 8
    known = ~np.isnan(truth)
    threshold = best_threshold(truth, scores)
    if not (truth[known] == 1).any():
        assert threshold == 0.5
        return
    found = f1_score(truth[known], decide(scores[known, None], np.array([threshold]))[:, 0], zero_division=0)
    tried = [f1_score(truth[known], scores[known] >= value, zero_division=0) for value in np.unique(scores)]
    assert found == pytest.approx(max(tried))


@given(seed=st.integers(0, 1000))
def test_correlation_is_numpys(seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, 12))
    y[3] = np.nan
    known = ~np.isnan(y)
    draws = random.integers(0, 3, size=(2, 12)).astype(float)
    draws[0] = 1.0
    found = correlation(x, y, draws)
    assert found[0] == pytest.approx(np.corrcoef(x[known], y[known])[0, 1])
    repeated = np.repeat(np.flatnonzero(known), draws[1][known].astype(int))
    assert found[1] == pytest.approx(np.corrcoef(x[repeated], y[repeated])[0, 1])
    assert np.isnan(correlation(np.ones(12), y, draws)).all()


def test_the_real_labels_of_magnatagatune(shared_data: Path) -> None:
    """On 5,329 clips and 50 tags naming none is right in 95 of 100 decisions, and tells nothing apart."""
    lines = (shared_data / "mtat-labels" / "test_gt_mtt.tsv").read_text().splitlines()
    truth = np.array([ast.literal_eval(line.split("\t")[1]) for line in lines])
    assert truth.shape == (5_329, 50)
    assert 1 - truth.mean() == pytest.approx(0.9469, abs=1e-4)
    scores = truth[:, 0] + np.random.default_rng(0).normal(size=len(truth))
    roc, average = areas(truth[:, 0], scores)
    assert roc[0] == pytest.approx(roc_auc_score(truth[:, 0], scores))
    assert average[0] == pytest.approx(average_precision_score(truth[:, 0], scores))
    silent = areas(truth[:, 0], np.zeros(len(truth)))
    assert silent[0][0] == 0.5 and silent[1][0] == pytest.approx(truth[:, 0].mean())
