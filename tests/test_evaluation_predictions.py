"""Predictions: the CSV round-trips, damage is named by row, segments score together as told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from musicgenre.errors import RunError, UsageError
from musicgenre.models.pooling import POOLINGS
from musicgenre.runs.predictions import Predictions, concatenate, read_predictions, write_predictions
from tests.make_run import make_predictions

MIXED = {"a": ("blues", ["blues", "blues", "pop"]), "b": ("jazz", ["pop"])}


def _segments(scores: list[list[float]]) -> Predictions:
    n = len(scores)
    return Predictions(("x", "y"), ("t",) * n, np.arange(n) * 1.0, np.zeros(n, dtype=np.intp), np.array(scores))


@given(
    shares=npst.arrays(np.float64, (4, 3), elements=st.floats(0, 1)).filter(
        lambda found: (found.sum(axis=1) > 1e-6).all()
    ),
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=3, max_size=3, unique=True
    ),
)
def test_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, shares: np.ndarray, names: list[str]) -> None:
    scores = shares / shares.sum(axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("csv") / "p.csv"
    truth = np.array([0, 1, 2, 0])
    written = Predictions(tuple(names), ("a", 'b,"', "ç", "a"), np.array([0, 0, 0, 3.0]), truth, scores)
    write_predictions(written, path)
    read = read_predictions(path)
    assert read.labels == written.labels and read.track_ids == written.track_ids
    assert np.array_equal(read.truth, truth) and np.array_equal(read.starts_s, written.starts_s)
    assert np.allclose(read.scores, scores, rtol=1e-7, atol=0)


def test_mean_max_and_vote_can_disagree() -> None:
    segments = _segments([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    assert segments.by_track("mean").predicted.tolist() == [0]  # 1.7 against 1.3
    assert segments.by_track("max").predicted.tolist() == [0]  # 0.9 against 0.6
    assert segments.by_track("vote").predicted.tolist() == [1]  # 1 vote against 2


def test_equal_votes_are_decided_by_the_mean() -> None:
    assert _segments([[0.9, 0.1], [0.45, 0.55]]).by_track("vote").predicted.tolist() == [0]
    assert _segments([[0.55, 0.45], [0.1, 0.9]]).by_track("vote").predicted.tolist() == [1]


@pytest.mark.parametrize("how", POOLINGS)
def test_track_scores_are_probabilities(how: str) -> None:
    tracks = make_predictions(MIXED).by_track(how)  # type: ignore[arg-type]
    assert tracks.track_ids == ("a", "b") and tracks.n_tracks == 2
    assert np.allclose(tracks.scores.sum(axis=1), 1.0)
    assert tracks.truth.tolist() == [0, 1]


@given(order=st.permutations(range(6)))
def test_the_order_of_segments_does_not_matter(order: list[int]) -> None:
    random = np.random.default_rng(3)
    ids, scores = ("a", "a", "b", "b", "b", "c"), random.dirichlet(np.ones(3), 6)
    truth = np.array([0, 0, 1, 1, 1, 2])
    straight = Predictions(("x", "y", "z"), ids, np.zeros(6), truth, scores)
    mixed = Predictions(("x", "y", "z"), tuple(ids[i] for i in order), np.zeros(6), truth[order], scores[order])
    for how in POOLINGS:
        one, other = straight.by_track(how), mixed.by_track(how)
        positions = [other.track_ids.index(track_id) for track_id in one.track_ids]
        assert np.allclose(one.scores, other.scores[positions])


def test_an_unknown_way_to_score_together_is_refused() -> None:
    with pytest.raises(UsageError, match=r"median.*mean, max, vote"):
        make_predictions(MIXED).by_track("median")  # type: ignore[arg-type]


def test_a_track_with_two_labels_is_refused() -> None:
    torn = Predictions(("x", "y"), ("t", "t"), np.zeros(2), np.array([0, 1]), np.full((2, 2), 0.5))
    with pytest.raises(RunError, match="'t' has two different labels"):
        torn.by_track()


def test_nan_scores_are_refused() -> None:
    with pytest.raises(RunError, match="not finite"):
        _segments([[float("nan"), 1.0]])


def test_concatenate_refuses_different_labels_and_nothing() -> None:
    one = make_predictions(MIXED)
    assert len(concatenate([one, one])) == 2 * len(one)
    with pytest.raises(RunError, match="different labels"):
        concatenate([one, _segments([[0.5, 0.5]])])
    with pytest.raises(RunError, match="no predictions"):
        concatenate([])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns"),
        ("track_id,start_s,label\n", "score_<label>"),
        ("track_id,start_s,label,x\n", "score_<label>"),
        ("track_id,start_s,label,score_a,score_a\n", "score_<label>"),
        ("track_id,start_s,label,score_a\nt,0,b,1\n", "row 2: unknown label 'b'"),
        ("track_id,start_s,label,score_a\nt,0,a,1\nt,0,a\n", "row 3 has 3 cells"),
        ("track_id,start_s,label,score_a\nt,zero,a,1\n", "row 2: a cell is not a number"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=words):
        read_predictions(path)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no predictions at"):
        read_predictions(tmp_path / "absent.csv")
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="damaged"):
        read_predictions(tmp_path / "p.csv")
