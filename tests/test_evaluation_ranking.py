"""Runs side by side: sorted, tested with a correction, told what they cost, and written for papers."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.compare import compare
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.figures import save_figures
from musicgenre.evaluation.html import render_ranking
from musicgenre.evaluation.metrics import holm, macro_f1, p_in_words
from musicgenre.evaluation.ranking import WRITERS, Ranking, rank
from musicgenre.evaluation.report import LabelReport
from tests.cli import run
from tests.make_run import LABELS, make_run, random_answers
from tests.tag_run import make_tag_run


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("three")
    made = []
    for name, right in (("base_line", 0.4), ("good", 0.9), ("good & dear", 0.8)):
        made.append(make_run(folder / name, random_answers(len(made), right=right), epochs=2, best_epoch=1))
    return made


def _table(ranking: Ranking) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ranking.to_csv())))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_corrects_upwards_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)
    if p_values:
        assert min(corrected) == min(1.0, len(p_values) * min(p_values))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert [p_in_words(p) for p in (0.0, 0.00099, 0.001, 0.5)] == ["p < 0.001", "p < 0.001", "p = 0.001", "p = 0.500"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=20))
def test_macro_f1_is_that_of_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    truth, said, weight = (np.array(column) for column in zip(*rows, strict=True))
    expected = f1_score(truth, said, labels=range(4), average="macro", sample_weight=weight, zero_division=0)
    assert macro_f1(truth, said, 4, weight[None])[0] == pytest.approx(expected)


def test_f1_has_an_interval_that_holds_it(three: list[Path]) -> None:
    report = evaluate(three[1])
    assert isinstance(report, LabelReport)
    assert report.macro_f1.value == pytest.approx(report.macro.f1)
    assert report.macro_f1.low < report.macro_f1.value <= report.macro_f1.high
    assert "macro F1" in report.to_text() and report.as_dict()["macro_f1"]["n_tracks"] == report.n_tracks


def test_the_best_comes_first_and_each_is_held_against_the_first_named(three: list[Path]) -> None:
    found = rank(three)
    assert [row.name for row in found.rows] == ["good", "good & dear", "base_line"]
    assert found.against == "base_line" and found.rows[-1].difference is None
    for row in found.rows[:2]:
        pair = compare(three[0], row.folder)
        assert row.difference == pair.difference_in("track-level accuracy")[0]
        assert row.p_value == pair.p_value and row.corrected_p_value >= row.p_value
    cost = found.rows[0].cost
    assert (cost.epochs, cost.best_epoch) == (2, 2)


def test_f1_can_decide(three: list[Path]) -> None:
    found = rank(three, measure="f1", against=three[1])
    assert found.measure == "macro F1" and found.against == "good"
    assert found.rows[-1].difference.high < 0
    with pytest.raises(UsageError, match="accuracy"):
        rank(three, measure="loudness")
    with pytest.raises(UsageError, match="none of the runs"):
        rank(three[:2], against=three[2])
    with pytest.raises(RunError, match="two different"):
        rank([three[0], three[0]])


def test_every_form_holds_the_same_numbers(three: list[Path]) -> None:
    found = rank(three)
    scores = [f"{row.score(found.measure).value:.3f}" for row in found.rows]
    for write in (*WRITERS.values(), render_ranking):
        text = write(found)
        if write is not Ranking.to_csv:
            assert all(score in text for score in scores) and "Holm" in text and "p = 0.000" not in text
    rows = _table(found)
    assert [row["run"] for row in rows] == [row.name for row in found.rows]
    assert float(rows[0]["macro F1 low"]) == found.rows[0].score("macro F1").low
    assert rows[-1]["p"] == "" and float(rows[0]["p corrected"]) <= 1
    plain = json.loads(json.dumps(found.as_dict()))
    assert [row["name"] for row in plain["runs"]] == [row.name for row in found.rows]


def test_latex_escapes_what_latex_would_read(three: list[Path]) -> None:
    text = rank(three).to_latex()
    assert r"base\_line" in text and r"good \& dear" in text and r"95 \%" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    n_columns = text.split(r"\begin{tabular}{")[1].index("}")
    lines = [line for line in body.splitlines() if line.strip()]
    assert len(lines) == 3 and all(line.replace(r"\&", "").count("&") == n_columns - 1 for line in lines)
    assert lines[0].count(r"\textbf") == 1
    assert "s an" not in text, "no run says it: the column is left out"


def test_latex_writes_a_small_p_as_the_plain_font_can(tmp_path: Path) -> None:
    sure, unsure = ({f"t{n}": (LABELS[0], [said]) for n in range(60)} for said in LABELS[:2])
    runs = [make_run(tmp_path / name, answers) for name, answers in (("sure", sure), ("unsure", unsure))]
    text = rank(runs).to_latex()
    assert "$<$ 0.001" in text and "& <" not in text
    assert "&lt;&nbsp;0.001" in render_ranking(rank(runs))


def test_latex_has_a_label_and_breaks_long_names(tmp_path: Path) -> None:
    names = ("fusion-cnn2d-msd-segments-augmented", "mfcc-cnn")
    text = rank([make_run(tmp_path / name, random_answers(3, right=0.7)) for name in names]).to_latex()
    assert r"\label{tab:runs-by-accuracy}" in text or r"\label{tab:runs-by-track-level-accuracy}" in text
    assert r"\shortstack[l]{fusion-cnn2d-msd-\\{}segments-augmented}" in text
    scores, costs = (part.split(r"\bottomrule")[0] for part in text.split(r"\midrule")[1:])
    assert "[" in scores and "mfcc-cnn" in costs and "[0" not in costs


def test_latex_writes_minus_signs_and_keeps_the_hyphens_of_names(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, random_answers(4, right=right)) for name, right in (("a-3s", 0.9), ("b", 0.4))]
    text = rank(runs).to_latex()
    assert "a-3s" in text and "$-$0." in text and " -0." not in text and "[-0" not in text


def test_a_model_that_is_fitted_at_once_has_no_epochs_and_no_curves(tmp_path: Path) -> None:
    svm = make_run(tmp_path / "svm", random_answers(1, right=0.9), epochs=1, best_epoch=0)
    (svm / "logs" / "metrics.csv").write_text(
        "epoch,train_loss,validation_loss,seconds\n0,0.4,1.0,\n", encoding="utf-8"
    )
    found = rank([svm, make_run(tmp_path / "net", random_answers(2, right=0.5), epochs=2, best_epoch=1)])
    costs = {row.name: row.cost for row in found.rows}
    assert costs["svm"].epochs is None and costs["svm"].best_epoch is None and costs["net"].epochs == 2
    page = render_ranking(found)
    assert "s an epoch" not in page + found.to_text() + found.to_markdown(), "no run says it"
    assert "seconds_per_epoch" in found.to_csv(), "a table for programs always has the same columns"
    of_svm, of_net = page.split("<h2>svm</h2>")[1].split("<h2>net</h2>")
    assert ">Loss<" not in of_svm and ">Loss<" in of_net
    drawn = {path.name for path in save_figures(found, tmp_path / "figures")}
    assert "net-curves.pdf" in drawn and "svm-curves.pdf" not in drawn and "svm-confusion.pdf" in drawn


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_and_fits_a_plain_article(tmp_path: Path) -> None:
    runs = []
    for number, name in enumerate(("fusion-cnn2d-msd-segments-augmented", "mel-cnn1d-baseline-eight-genres", "c")):
        answers = random_answers(number, right=0.6)
        runs.append(make_run(tmp_path / name, answers, recipe=name, best_epoch=140, epochs=200, parameters=12_345_678))
    whole = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + rank(runs).to_latex()
    (tmp_path / "paper.tex").write_text(whole + "\\end{document}\n")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout[-500:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
    assert "Overfull" not in done.stdout


def test_command_writes_tables_and_figures(three: list[Path], tmp_path: Path) -> None:
    folders = [str(path) for path in three]
    told = run("compare", *folders)
    assert told.returncode == 0 and "p corrected for 2 tests" in told.stdout.decode()
    table = tmp_path / "table.tex"
    assert run("compare", *folders, "-o", str(table), "--figures", str(tmp_path / "figures")).returncode == 0
    assert r"\toprule" in table.read_text()

    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    kinds = ("curves", "confusion", "confusion-percent", "reliability", "risk-coverage")
    for name in ("scores", *(f"good-{kind}" for kind in kinds)):
        assert f"{name}.svg" in drawn and f"{name}.pdf" in drawn
        ElementTree.parse(tmp_path / "figures" / f"{name}.svg")
        assert (tmp_path / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    again = run("compare", *folders, "--figures", str(tmp_path / "figures"))
    assert again.returncode != 0 and "exists already" in again.stderr.decode()
    wrong = run("compare", *folders, "-o", str(tmp_path / "table.docx"))
    assert wrong.returncode != 0 and ".tex" in wrong.stderr.decode()


def test_taggers_are_ranked_by_their_areas(tmp_path: Path) -> None:
    runs = [make_tag_run(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    found = rank(runs, measure="pr")
    assert found.measure == "mean PR-AUC"
    values = [row.score("mean PR-AUC").value for row in found.rows]
    assert values == sorted(values, reverse=True)
    done = run("compare", *map(str, runs), "--figures", str(tmp_path / "drawn"))
    assert done.returncode == 0, done.stderr
    for name in ("one-roc.svg", "two-precision-recall.pdf"):
        assert (tmp_path / "drawn" / name).is_file()


def test_a_study_has_a_page(three: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    for name in ("none", "noise"):
        make_run(folder / name, random_answers(len(name), right=0.6))
    (folder / "study.json").write_text('{"format_version": 1, "recipe": "my-study", "children": ["none", "noise"]}')
    page = tmp_path / "study.html"
    assert run("evaluate", str(folder), "-o", str(page)).returncode == 0
    text = page.read_text()
    assert (
        "<title>my-study</title>" in text
        and "noise" in text
        and "<svg" in text
        and "http" not in text.replace("http://www.w3.org/2000/svg", "")
    )
