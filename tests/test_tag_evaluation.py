"""Evaluating taggers: tags apart, absent ones left out and counted, thresholds from validation, honest words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.compare import compare
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.html import render_html
from musicgenre.evaluation.metrics import fitted_thresholds
from musicgenre.evaluation.report import LabelReport, TagReport
from musicgenre.evaluation.study import evaluate_study, write_reports
from musicgenre.runs.folder import open_run
from musicgenre.runs.predictions import (
    TagPredictions,
    concatenate,
    n_top_tags,
    read_tag_predictions,
    write_predictions,
)
from tests.make_run import make_run, random_answers
from tests.tag_run import make_tag_predictions, make_tag_run


def invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0
    return done.output


def rewrite(folder: Path, part: str, predictions: TagPredictions) -> None:
    write_predictions(predictions, folder / f"predictions_{part}.csv")


@pytest.mark.parametrize("soft", [False, True])
def test_predictions_round_trip(tmp_path: Path, soft: bool) -> None:
    written = make_tag_predictions(1, soft=soft)
    write_predictions(written, tmp_path / "p.csv")
    read = read_tag_predictions(tmp_path / "p.csv")
    assert (read.labels, read.track_ids, read.soft) == (written.labels, written.track_ids, soft)
    np.testing.assert_allclose(read.scores, written.scores, rtol=1e-7)
    np.testing.assert_allclose(read.truth, written.truth, rtol=1e-5)
    np.testing.assert_array_equal(read.starts_s, written.starts_s)


def test_segments_score_together_by_mean_or_maximum() -> None:
    segments = make_tag_predictions(1)
    tracks = segments.by_track("mean")
    assert len(tracks) == segments.n_tracks == 60
    np.testing.assert_allclose(tracks.scores[0], segments.scores[:2].mean(axis=0))
    np.testing.assert_allclose(segments.by_track("max").scores[0], segments.scores[:2].max(axis=0))
    with pytest.raises(UsageError, match="one of mean, max"):
        segments.by_track("vote")
    torn = replace(segments, truth=np.vstack([1 - np.nan_to_num(segments.truth[:1]), segments.truth[1:]]))
    with pytest.raises(RunError, match="different tags"):
        torn.by_track()
    with pytest.raises(RunError, match="predictions of different tags"):
        concatenate([segments, replace(segments, labels=("a", "b", "c"))])


def test_the_teachers_top_tags_count_as_present() -> None:
    truth = np.array([[0.9, 0.1, np.nan, 0.2, 0.3, 0.4, 0.5, 0.6]])
    tags = tuple("abcdefgh")
    soft = TagPredictions(tags, ("t",), np.zeros(1), truth, np.zeros((1, 8)), soft=True)
    assert [n_top_tags(count) for count in (2, 8, 12, 50, 188)] == [1, 2, 3, 5, 5]
    np.testing.assert_array_equal(soft.presence(), [[1, 0, np.nan, 0, 0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no predictions|the columns"),
        ("track_id,start_s,label,score_a\n", "the columns track_id, start_s, label"),
        ("track_id,start_s,labels,unknown,score_a,score_b\nx,0,c,,1,0\n", "row 2: unknown tag 'c'"),
        ("track_id,start_s,labels,unknown,score_a,score_b\nx,0,a,,1\n", "row 2 has 5 cells"),
        ("track_id,start_s,labels,unknown,score_a,score_b\nx,0,a,,1,much\n", "row 2: a cell is not a number"),
        ("track_id,start_s,labels,unknown,score_a,score_b\nx,0,a,,1,nan\n", "not finite"),
        ("track_id,start_s,labels,unknown,score_a,score_b\nx,0,a,,1,7.5\n", "row 2: the scores 7.5, 1 are no prob"),
        (
            "track_id,start_s,labels,unknown,score_a\nx,0,a,,1\nx,3,a,,-3\n",
            "row 3: the scores -3 are no probabilities",
        ),
        (
            "track_id,start_s,target_a,score_a\nx,0,0.5,1.5\n",
            "row 2: the scores 1.5 are no probabilities.*from 0 to 1",
        ),
        ("track_id,start_s,labels,unknown,score_a,score_a\nx,0,a,,1,1\n", "the columns track_id, start_s, labels"),
    ],
)
def test_damaged_predictions_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        read_tag_predictions(tmp_path / "p.csv")


def test_a_report_holds_scikit_learns_figures(tmp_path: Path) -> None:
    folder = make_tag_run(tmp_path / "run")
    report = evaluate(folder)
    tracks = open_run(folder).tag_predictions("test").by_track("mean")
    roc, pr = [], []
    for truth, scores in zip(tracks.truth.T, tracks.scores.T, strict=True):
        known = ~np.isnan(truth)
        roc.append(roc_auc_score(truth[known], scores[known]))
        pr.append(average_precision_score(truth[known], scores[known]))
    assert report.roc_auc.value == pytest.approx(np.mean(roc))
    assert report.pr_auc.value == pytest.approx(np.mean(pr))
    assert report.roc_auc.low < report.roc_auc.value < report.roc_auc.high <= 1.0
    assert [entry.roc_auc.value for entry in report.scores if entry.roc_auc] == pytest.approx(roc)
    assert report.scores[1].n_known == 60 - 7
    assert (report.n_tracks, report.n_segments, report.seeds, report.left_out) == (60, 120, (0,), ())
    known = ~np.isnan(tracks.truth)
    named = tracks.scores >= fitted_thresholds(open_run(folder).tag_predictions("validation").by_track())
    assert report.decisions.accuracy == pytest.approx((named == tracks.truth)[known].mean())
    assert report.decisions.zeros_accuracy == pytest.approx(1 - tracks.truth[known].mean())
    assert report.decisions.micro_f1 == pytest.approx(f1_score(tracks.truth[known], named[known]))


def test_intervals_hold_their_value_and_narrow_with_tracks(tmp_path: Path) -> None:
    report = evaluate(make_tag_run(tmp_path / "run"))
    for found in (report.roc_auc, report.pr_auc, *(entry.pr_auc for entry in report.scores if entry.pr_auc)):
        assert found.low <= found.value <= found.high
    assert report.roc_auc.low < report.roc_auc.value < report.roc_auc.high
    rare = make_tag_predictions(3, n_tracks=60)
    truth = np.nan_to_num(rare.truth)
    truth[4:] = 0.0  # two tracks have tags, and many draws neither
    truth[:4] = 1.0
    folder = make_tag_run(tmp_path / "rare")
    rewrite(folder, "test", replace(rare, truth=truth))
    found = evaluate(folder).pr_auc
    assert found.low <= found.value <= found.high
    widths = []
    for n_tracks in (60, 960):
        rewrite(folder, "test", make_tag_predictions(3, n_tracks=n_tracks))
        area = evaluate(folder).roc_auc
        widths.append(area.high - area.low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.35)  # sixteen times the tracks


def test_a_perfect_score_says_that_its_interval_is_none(tmp_path: Path) -> None:
    folder = make_tag_run(tmp_path / "run")
    tracks = open_run(folder).tag_predictions("test")
    rewrite(folder, "test", replace(tracks, scores=np.nan_to_num(tracks.truth) * 0.9))
    report = evaluate(folder)
    assert report.roc_auc.value == 1.0 and any("the interval says nothing" in text for text in report.warnings)
    assert not any("the interval says nothing" in text for text in evaluate(make_tag_run(tmp_path / "b")).warnings)


def test_thresholds_come_from_the_validation_part_alone(tmp_path: Path) -> None:
    folder = make_tag_run(tmp_path / "run")
    before = evaluate(folder)
    predictions = open_run(folder).tag_predictions("test")
    rewrite(folder, "test", replace(predictions, scores=predictions.scores / 3))
    after = evaluate(folder)
    assert [entry.threshold for entry in after.scores] == [entry.threshold for entry in before.scores]
    assert after.roc_auc.value == before.roc_auc.value
    assert after.decisions.micro_f1 < before.decisions.micro_f1


def test_tags_absent_from_the_test_part_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = make_tag_run(tmp_path / "run")
    predictions = open_run(folder).tag_predictions("test")
    truth = predictions.truth.copy()
    truth[:, 2] = 0.0
    rewrite(folder, "test", replace(predictions, truth=truth))
    report = evaluate(folder)
    assert report.left_out == ("slow",)
    assert report.scores[2].roc_auc is None
    assert report.roc_auc.value == pytest.approx(np.mean([e.roc_auc.value for e in report.scores if e.roc_auc]))
    assert "2 of 3 measured (not in this part, or everywhere: slow)" in report.to_text()
    truth[:] = 0.0
    rewrite(folder, "test", replace(predictions, truth=truth))
    with pytest.raises(RunError, match="tells nothing about any tag"):
        evaluate(folder)


def test_accuracy_never_stands_without_the_all_zeros_answer(tmp_path: Path) -> None:
    report = evaluate(make_tag_run(tmp_path / "run"))
    for page in (report.to_text(), render_html(report)):
        line = next(line for line in page.split("\n") if "right decisions" in line)
        assert f"never naming any tag: {report.decisions.zeros_accuracy:.4f}" in line
    assert json.loads(report.to_json())["decisions"]["zeros_accuracy"] == report.decisions.zeros_accuracy


def test_soft_targets_are_agreement_beside_the_mean_predictor(tmp_path: Path) -> None:
    report = evaluate(make_tag_run(tmp_path / "run", soft=True))
    tracks = make_tag_predictions(0, soft=True).by_track()
    assert report.agreement is not None
    known = ~np.isnan(tracks.truth)
    errors = np.where(known, np.abs(tracks.truth - tracks.scores), np.nan)
    assert report.agreement.mean_absolute_error.value == pytest.approx(np.nanmean(errors, axis=1).mean(), rel=1e-4)
    baseline = np.nanmean(np.abs(tracks.truth - 0.3), axis=1).mean()  # the training part says 0.3 throughout
    assert report.agreement.baseline_error == pytest.approx(baseline, rel=1e-4)
    assert report.agreement.improvement.value == pytest.approx(
        baseline - report.agreement.mean_absolute_error.value, abs=1e-4
    )
    assert 0.3 < report.agreement.pearson.value < 1.0
    text = report.to_text()
    assert "accuracy" not in text.replace("not accuracy", "").replace("nothing here is accuracy", "")
    assert "agreement" in render_html(report) and "always each tag's mean" in text
    assert dict(report.measures()).keys() == {"agreement with the teacher, Pearson, mean over tags"}


def test_seeds_and_folds(tmp_path: Path) -> None:
    children = [f"seed-{seed}" for seed in range(2)]
    for seed, child in enumerate(children):
        make_tag_run(tmp_path / "group" / child, seed=seed)
    (tmp_path / "group" / "group.json").write_text(json.dumps({"format_version": 1, "children": children}))
    report = evaluate(tmp_path / "group")
    singles = [evaluate(tmp_path / "group" / child) for child in children]
    assert report.roc_auc.value == pytest.approx(np.mean([single.roc_auc.value for single in singles]))
    assert report.roc_auc_sd == pytest.approx(np.std([single.roc_auc.value for single in singles], ddof=1))
    assert report.seeds == (0, 1)
    for fold, child in enumerate(children):  # now two folds of one seed that test the same tracks
        info = json.loads((tmp_path / "group" / child / "run.json").read_text())
        (tmp_path / "group" / child / "run.json").write_text(json.dumps({**info, "seed": 0, "fold": fold}))
    with pytest.raises(RunError, match="in the test part of two folds"):
        evaluate(tmp_path / "group")


def test_two_taggers_are_compared_by_track(tmp_path: Path) -> None:
    poor, good = make_tag_run(tmp_path / "poor", skill=0.2), make_tag_run(tmp_path / "good", skill=3.0, seed=1)
    found = compare(poor, good)
    assert [entry.measure for entry in found.differences] == ["mean ROC-AUC", "mean PR-AUC"]
    for entry in found.differences:
        assert 0 < entry.difference.low < entry.difference.value and entry.p_value < 0.01
    assert (found.n_tracks, found.n_tags) == (60, 3)
    back = compare(good, poor)
    assert back.differences[0].difference.value == pytest.approx(-found.differences[0].difference.value)
    assert compare(good, good).differences[0].p_value == 1.0
    assert "the two differ" in invoke("compare", poor, good)


def test_reports_are_written_by_task(tmp_path: Path) -> None:
    folder = make_tag_run(tmp_path / "run")
    (report,) = write_reports(folder)
    assert json.loads((folder / "report.json").read_text())["task"] == "multi_label"
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 4 and "ROC-AUC by tag" in page
    assert len(read_tag_predictions(folder / "predictions_test_tracks.csv")) == 60
    assert "mean PR-AUC" in invoke("evaluate", folder)
    assert report.short in invoke("evaluate", folder, "-o", tmp_path / "r.html")


def test_the_task_of_a_run_decides_what_is_measured(tmp_path: Path) -> None:
    tags = make_tag_run(tmp_path / "tags")
    labels = make_run(tmp_path / "labels", random_answers(1))
    assert isinstance(evaluate(tags), TagReport) and isinstance(evaluate(labels), LabelReport)
    assert evaluate(labels).short.startswith("track-level accuracy")
    with pytest.raises(UsageError, match="tags"):
        evaluate(tags, pooling="vote")
    with pytest.raises(RunError, match="names tags"):
        open_run(tags).predictions()


def test_runs_of_the_other_task_are_refused(tmp_path: Path) -> None:
    tags = make_tag_run(tmp_path / "tags")
    labels = make_run(tmp_path / "labels", random_answers(1))
    with pytest.raises(RunError, match="different tasks: multi_label against single_label"):
        compare(tags, labels)
    with pytest.raises(RunError, match="different tasks: single_label against multi_label"):
        compare(labels, tags)
    other = make_tag_run(tmp_path / "other", protocol="artist")
    with pytest.raises(RunError, match="different protocols"):
        compare(tags, other)


def test_a_leaky_protocol_flags_taggers_too(tmp_path: Path) -> None:
    runs = [make_tag_run(tmp_path / name, seed=seed, protocol="segment-leaky") for seed, name in enumerate("ab")]
    report = evaluate(runs[0])
    assert report.leaky and "(LEAKY)" in report.setting and report.warnings[0].startswith("LEAKY PROTOCOL")
    assert 'class="warning leaky"' in render_html(report)
    assert "LEAKY PROTOCOL" in compare(*runs).to_text()


def test_variants_of_a_study_are_held_against_the_first(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for name, skill in (("plain", 0.2), ("better", 2.0)):
        make_tag_run(study / name, skill=skill)
    content = {"format_version": 1, "recipe": "auto-pool", "children": ["plain", "better"]}
    (study / "study.json").write_text(json.dumps(content))
    text = invoke("evaluate", study)
    assert "auto-pool: 2 variants" in text and "mean PR-AUC, 95 %" in text
    (row,) = [line for line in text.splitlines() if line.strip().startswith("better")]
    assert "+0." in row and "p < 0.001" in row
    assert json.loads(invoke("evaluate", study, "--format", "json"))["task"] == "multi_label"
    assert all(isinstance(report, TagReport) for report in evaluate_study(study).reports)
