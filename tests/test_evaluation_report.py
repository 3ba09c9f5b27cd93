"""Reports: text, JSON and the HTML page say protocol, tracks, seeds and interval, and flag leaks, in every form."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.errors import UsageError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.html import render_html
from musicgenre.evaluation.plots import heat_map, interval_chart, line_chart, stacked_bars
from musicgenre.evaluation.report import Report
from musicgenre.evaluation.study import write_reports
from musicgenre.features.representations.table import COLUMNS
from musicgenre.runs.predictions import read_predictions
from tests.labelled_music import make_table
from tests.make_run import LABELS, make_group, make_run, random_answers


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    children = {f"seed-{s}": {"test": random_answers(s, right=0.5), "seed": s} for s in range(3)}
    return make_group(tmp_path / "group", children)


def _forms(report: Report) -> dict[str, str]:
    return {"text": report.to_text(), "json": report.to_json(), "html": render_html(report)}


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_every_form_says_what_the_number_stands_on(seeds: Path, form: str) -> None:
    report = evaluate(seeds)
    text = _forms(report)[form]
    numbers = (report.accuracy.value, report.accuracy.low, report.accuracy.high, report.accuracy_sd or 0.0)
    assert all(f"{number:.3f}"[:5] in text or str(number) in text for number in numbers)
    assert "track" in text and "60" in text and "bootstrap over tracks" in text
    assert all(label in text for label in LABELS)


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_every_form_flags_a_leak(tmp_path: Path, form: str) -> None:
    report = evaluate(make_run(tmp_path / "run", random_answers(1), protocol="segment-leaky"))
    assert "LEAKY PROTOCOL" in _forms(report)[form]
    assert "(LEAKY)" in report.setting


def test_the_page_needs_nothing_else_and_is_well_formed(seeds: Path) -> None:
    page = render_html(evaluate(seeds))
    assert not re.search(r"(src|href)=|@import|url\(", page)
    assert page.count("<svg") == 5  # seeds, confusion, loss, accuracy, balance
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)
    HTMLParser().feed(page)
    assert "averaged over 3 seeds" in page and "Largest confusion" in page


def test_labels_are_escaped(tmp_path: Path) -> None:
    labels = ("drum & bass", "<script>", "r'n'b")
    report = evaluate(make_run(tmp_path / "run", random_answers(1, labels=labels), labels=labels))
    page = render_html(report)
    assert "<script>" not in page and "drum &amp; bass" in page
    assert "<script>" in report.to_text()


def test_json_holds_the_whole_report(seeds: Path) -> None:
    report = evaluate(seeds)
    content = json.loads(report.to_json())
    assert content["format_version"] == 1 and content["accuracy"]["n_tracks"] == 60
    assert np.allclose(content["confusion"], report.confusion)
    assert [entry["seed"] for entry in content["seeds"]] == [0, 1, 2]
    assert content["curves"][0]["columns"]["train_loss"] == [2.0, 1.0]


def test_a_run_without_log_manifest_or_segments(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {"a": ("pop", ["pop"]), "b": ("jazz", ["jazz"])})
    (folder / "logs" / "metrics.csv").unlink()
    (folder / "manifest.csv").unlink()
    report = evaluate(folder)
    assert not report.has_segments and "segment-level" not in report.to_text()
    page = render_html(report)
    assert "Learning curves" not in page and "Class balance" not in page
    assert "No track was taken for another label" in page


def test_plots_survive_gaps_and_odd_values() -> None:
    chart = line_chart("loss", [("train", [1.0, None, float("nan"), 2.0, 3.0], "#000")], x_label="epoch")
    assert chart.count("<polyline") == 2
    assert line_chart("loss", [("train", [None], "#000")], x_label="epoch") == ""
    assert stacked_bars("none", {}, LABELS) == ""
    flat = line_chart("loss", [("train", [0.0, 0.0], "#000")], x_label="epoch")
    for drawing in (chart, flat, heat_map("m", ["a"], np.zeros((1, 1))), interval_chart("i", [("a", 0.5, 0.1, 0.9)])):
        ElementTree.fromstring(drawing)
        assert "nan" not in drawing


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_command_evaluate(seeds: Path, tmp_path: Path) -> None:
    code, text = _run("evaluate", seeds)
    assert code == 0 and "95 % interval" in text and "protocol track" in text
    for name in ("report.html", "report.json", "report.txt"):
        code, text = _run("evaluate", seeds, "--output", tmp_path / name)
        assert code == 0 and "track-level accuracy" in text and (tmp_path / name).stat().st_size > 500
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["how"] == "mean"
    code, text = _run("evaluate", seeds, "--format", "json", "--pooling", "vote", "--part", "validation")
    assert code == 0 and json.loads(text)["how"] == "vote"
    assert _run("evaluate", seeds, "--output", tmp_path / "report.pdf")[0] != 0
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = CliRunner().invoke(app, ["evaluate", str(seeds), "--output", str(tmp_path / "file" / "report.html")])
    assert isinstance(result.exception, UsageError) and "cannot be written" in str(result.exception)


def test_command_compare(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, random_answers(seed)) for seed, name in enumerate("ab")]
    code, text = _run("compare", *runs)
    assert code == 0 and "McNemar" in text
    code, text = _run("compare", *runs, "--json")
    assert code == 0 and json.loads(text)["n_tracks"] == 60


def test_reports_lie_in_the_run_folder(seeds: Path, tmp_path: Path) -> None:
    (report,) = write_reports(seeds)
    assert json.loads((seeds / "report.json").read_text(encoding="utf-8"))["n_tracks"] == report.n_tracks
    assert "<svg" in (seeds / "report.html").read_text(encoding="utf-8")
    tracks = read_predictions(seeds / "seed-1" / "predictions_test_tracks.csv")
    assert len(tracks) == tracks.n_tracks == 60
    study = tmp_path / "study"
    for name in ("none", "noise"):
        make_run(study / name, random_answers(1), recipe=f"study.{name}")
    listing = {"format_version": 1, "recipe": "study", "children": ["none", "noise"]}
    (study / "study.json").write_text(json.dumps(listing), encoding="utf-8")
    assert [report.recipe for report in write_reports(study)] == ["study.none", "study.noise"]
    assert (study / "noise" / "report.html").is_file()


def test_command_train_leaves_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    make_table(tmp_path / "table.csv", COLUMNS)
    run = tmp_path / "run"
    settings = ("representation.name=columns", "protocol.options={test_size: 0.34, validation_size: 0.17}")
    given = [word for setting in settings for word in ("--set", setting)]
    arguments = ("table-naive-bayes-30s", "--data", tmp_path / "table.csv", "--output", run, "--quiet")
    code, text = _run("train", *arguments, *given, "--jobs", 1)
    assert code == 0 and "track-level accuracy" in text
    assert json.loads((run / "report.json").read_text(encoding="utf-8"))["protocol"] == "track"
