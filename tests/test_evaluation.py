"""Evaluating run folders: the unit is the track, folds pool, seeds average, leaks are named, damage is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from musicgenre.data.splits import list_protocols
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.metrics import Estimate, estimate_accuracy, wilson_interval
from musicgenre.evaluation.protocols import SplitCheck, caveats
from musicgenre.runs.folder import open_run, open_runs
from musicgenre.runs.predictions import Predictions
from tests.make_run import LABELS, make_group, make_predictions, make_run, random_answers

FOUR = {
    "a": ("blues", ["blues", "blues", "pop"]),
    "b": ("jazz", ["pop", "pop", "jazz"]),
    "c": ("pop", ["pop", "pop", "pop"]),
    "d": ("pop", ["jazz", "jazz", "jazz"]),
}


def test_one_run_by_hand(tmp_path: Path) -> None:
    report = evaluate(make_run(tmp_path / "run", FOUR))
    low, high = wilson_interval(2, 4)
    assert report.accuracy == Estimate(0.5, low, high, "Wilson", 4)
    assert report.accuracy_sd is None and report.n_segments == 12 and report.has_segments
    assert report.segment_accuracy.value == pytest.approx(6 / 12)
    assert report.segment_accuracy.method == "bootstrap over tracks"
    assert report.confusion.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]
    pop = report.classes[2]
    assert (pop.label, pop.precision, pop.recall, pop.f1, pop.support) == ("pop", 0.5, 0.5, 0.5, 2)
    assert report.macro.recall == pytest.approx((1 + 0 + 0.5) / 3)
    assert report.weighted.recall == pytest.approx(0.5)
    assert report.majority_share == 0.5 and report.parameter_count == 1234
    assert report.balance["train"] == {"blues": 1, "jazz": 1, "pop": 1}
    assert report.curves[0].columns["validation_accuracy"] == [0.2, None]


def test_folds_pool_so_that_each_track_counts_once(tmp_path: Path) -> None:
    answers = list(random_answers(1, n_tracks=30).items())
    children = {f"fold-{k}": {"test": dict(answers[k::5]), "fold": k, "protocol": "kfold"} for k in range(5)}
    pooled = evaluate(make_group(tmp_path / "group", children))
    whole = evaluate(make_run(tmp_path / "run", dict(answers), protocol="kfold"))
    assert pooled.n_folds == 5 and pooled.n_tracks == 30
    assert pooled.accuracy == whole.accuracy
    assert np.array_equal(pooled.confusion, whole.confusion)


def test_a_track_in_two_folds_is_refused(tmp_path: Path) -> None:
    children = {f"fold-{k}": {"test": FOUR, "fold": k} for k in range(2)}
    with pytest.raises(RunError, match="two folds"):
        evaluate(make_group(tmp_path / "group", children))


def test_validation_parts_of_folds_may_overlap(tmp_path: Path) -> None:
    children = {f"fold-{k}": {"test": FOUR, "fold": k} for k in range(2)}
    report = evaluate(make_group(tmp_path / "group", children), part="validation")
    assert report.accuracy.value == 0.5 and report.n_tracks == 4
    assert "flattered" in report.warnings[0]


def test_seeds_average_and_the_interval_stays_as_wide_as_the_tracks_ask(tmp_path: Path) -> None:
    children = {f"seed-{s}": {"test": random_answers(s, right=0.5), "seed": s} for s in range(3)}
    report = evaluate(make_group(tmp_path / "group", children))
    values = [entry.accuracy.value for entry in report.seeds]
    assert report.accuracy.value == pytest.approx(np.mean(values))
    assert report.accuracy_sd == pytest.approx(np.std(values, ddof=1))
    assert report.accuracy.method == "bootstrap over tracks" and report.accuracy.n_tracks == 60
    assert report.accuracy.low < report.accuracy.value < report.accuracy.high
    assert report.confusion.sum() == pytest.approx(60)
    same = {f"seed-{s}": {"test": random_answers(7, right=0.5), "seed": s} for s in range(3)}
    copies = evaluate(make_group(tmp_path / "copies", same)).accuracy
    low, high = wilson_interval(copies.value * 60, 60)
    assert copies.high - copies.low == pytest.approx(high - low, rel=0.15)  # copies teach nothing new


def test_bootstrap_matches_wilson_where_both_apply() -> None:
    tracks = make_predictions(random_answers(3, n_tracks=300, n_segments=1, right=0.6))
    once, twice = estimate_accuracy([tracks]), estimate_accuracy([tracks, tracks])
    assert once.method == "Wilson" and twice.method == "bootstrap over tracks"
    assert twice.value == once.value
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=0.01)


def test_perfect_scores_still_have_an_interval() -> None:
    perfect = make_predictions({str(n): ("pop", ["pop"]) for n in range(10)})
    estimate = estimate_accuracy([perfect, perfect])
    assert estimate.value == 1.0 and estimate.low == pytest.approx(wilson_interval(10, 10)[0])
    with pytest.raises(RunError, match="no predictions"):
        estimate_accuracy([])


def test_seeds_with_different_test_tracks(tmp_path: Path) -> None:
    one, other = dict(list(FOUR.items())[:2]), dict(list(FOUR.items())[1:])
    group = make_group(tmp_path / "g", {"s0": {"test": one, "seed": 0}, "s1": {"test": other, "seed": 1}})
    report = evaluate(group)
    assert report.n_tracks == 4
    assert report.accuracy.value == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_leaks_are_named(tmp_path: Path) -> None:
    leaky = evaluate(make_run(tmp_path / "leaky", FOUR, protocol="segment-leaky"))
    assert leaky.leaky and leaky.warnings[0].startswith("LEAKY PROTOCOL")
    shared = evaluate(make_run(tmp_path / "shared", {**FOUR, "train-blues-copy": ("blues", ["blues"])}))
    assert not shared.leaky
    manifest = tmp_path / "shared" / "manifest.csv"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("train,,train-blues,false,train-blues", "train,,a,true,a"), encoding="utf-8")
    found = evaluate(tmp_path / "shared")
    assert found.leaky and found.warnings[0].startswith("LEAK: 1 of 5 test tracks")


def test_a_group_on_both_sides_is_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", FOUR)
    manifest = folder / "manifest.csv"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("test,,d,false", "test,,train-pop,false"), encoding="utf-8")
    warnings = evaluate(folder).warnings
    assert any("1 of 4 test tracks (25%)" in warning for warning in warnings)
    assert any("few" in warning for warning in warnings)


def test_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no part 'train'"):
        evaluate(make_run(tmp_path / "run", FOUR), part="train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 99}, "newer musicgenre"),
        ({"format_version": "one"}, "no format version"),
        ({"status": "failed: the loss became NaN"}, "did not finish .*NaN"),
        ({"recipe": "../e3"}, "says recipe='../e3'.*without slashes"),
        ({"recipe": ".."}, "says recipe='..'"),
        ({"labels": ["blues", "jazz"]}, "has the labels blues, jazz, pop"),
    ],
)
def test_runs_that_cannot_be_read(tmp_path: Path, change: dict[str, object], words: str) -> None:
    folder = make_run(tmp_path / "run", FOUR)
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**info, **change}), encoding="utf-8")
    with pytest.raises(RunError, match=words):
        evaluate(folder)


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        evaluate(tmp_path)
    folder = make_run(tmp_path / "run", FOUR)
    (folder / "predictions_test.csv").unlink()
    with pytest.raises(RunError, match="no predictions at"):
        evaluate(folder)
    (folder / "run.json").write_text('{"format_version": 1, "labels": []}', encoding="utf-8")
    with pytest.raises(RunError, match="lacks recipe, seed"):
        open_run(folder)
    (folder / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        open_run(folder)


@pytest.mark.parametrize(
    ("group", "words"),
    [({"children": []}, "lists no children"), ({"children": ["../elsewhere"]}, "lies outside"), ({}, "lists no")],
)
def test_damaged_groups(tmp_path: Path, group: dict[str, object], words: str) -> None:
    (tmp_path / "group.json").write_text(json.dumps({"format_version": 1, **group}), encoding="utf-8")
    with pytest.raises(RunError, match=words):
        open_runs(tmp_path)


def test_a_group_of_unlike_runs_is_refused(tmp_path: Path) -> None:
    group = make_group(tmp_path, {"a": {"test": FOUR}, "b": {"test": FOUR, "seed": 1, "protocol": "artist"}})
    with pytest.raises(RunError, match="differ in recipe, labels or protocol"):
        open_runs(group)


def test_nested_groups_come_sorted(tmp_path: Path) -> None:
    for seed in (1, 0):
        folds = {f"fold-{k}": {"test": FOUR, "seed": seed, "fold": k} for k in (1, 0)}
        make_group(tmp_path / f"seed-{seed}", folds)
    outer = {"format_version": 1, "children": ["seed-1", "seed-0"]}
    (tmp_path / "group.json").write_text(json.dumps(outer), encoding="utf-8")
    assert [(run.seed, run.fold) for run in open_runs(tmp_path)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", FOUR)
    empty = ",".join(["track_id", "start_s", "label", *(f"score_{label}" for label in LABELS)])
    (folder / "predictions_test.csv").write_text(empty + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="no rows"):
        evaluate(folder)


def test_shapes_must_fit() -> None:
    with pytest.raises(RunError, match="do not fit together"):
        Predictions(("a", "b"), ("t",), np.zeros(1), np.zeros(1, dtype=np.intp), np.zeros((1, 3)))


def test_every_protocol_says_what_its_numbers_mean() -> None:
    check = SplitCheck(n_test=10, n_shared_tracks=0, n_shared_groups=0, n_shared_songs=2)
    for protocol in list_protocols():
        said = caveats(protocol.name, check)
        assert "none of ours" not in said[0], f"{protocol.name} has no caveat"
        assert protocol.leaky or said[1].startswith("2 of 10 test clips are of a song")


def test_a_report_on_the_validation_part_counts_its_own_tracks(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", FOUR)
    manifest = folder / "manifest.csv"
    text = manifest.read_text(encoding="utf-8").replace("test,,a,", "validation,,train-blues,")
    manifest.write_text(text, encoding="utf-8")
    said = " ".join(evaluate(folder, part="validation").warnings)
    assert "1 of 1 validation tracks (100%) have their group in training" in said and "test tracks" not in said


def test_a_model_that_is_fitted_in_one_go_chose_no_weights(tmp_path: Path) -> None:
    forest = make_run(tmp_path / "forest", FOUR, parameters=None)
    assert "chose" not in " ".join(evaluate(forest, part="validation").warnings)
    network = make_run(tmp_path / "network", FOUR)
    assert "chose the checkpoint" in evaluate(network, part="validation").warnings[0]
    (forest / "recipe.yaml").write_text("training: {fit_on: train+validation}\n", encoding="utf-8")
    assert "fitted to its validation tracks" in evaluate(forest, part="validation").warnings[0]
