"""docs/results.md: every row stands on a record that a run folder made; what is missing or stale fails the check."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from musicgenre.evaluation.ensemble import ensemble
from tests.make_run import make_group, make_run, random_answers
from tests.tag_run import make_tag_run

ROOT = Path(__file__).resolve().parents[1]

ROWS = """
format_version = 1
[data.mini]
title = "a few tracks"
manifest = "mini.csv"
index = "musicgenre data index {source}"
settings = ["training.epochs=1"]
seeds = 2
[section.E]
title = "E: networks"
text = "Claimed: accuracy."
[[row]]
section = "E"
code = "E3"
system = "CNN"
recipe = "tiny"
data = "mini"
protocols = ["kfold", "segment-leaky"]
folds = 3
claimed = "0.79"
recomputed = "0.76"
note = "a macro precision, no accuracy"
"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    spec = importlib.util.spec_from_file_location("results_script", ROOT / "scripts" / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "results_script", module)
    spec.loader.exec_module(module)
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    (folder / "rows.toml").write_text(ROWS, encoding="utf-8")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for part in (module, *(sys.modules[f"_results_{name}"] for name in ("rows", "page", "findings"))):
        monkeypatch.setattr(part, "FOLDER", folder)
    monkeypatch.setattr(module, "PAGE", tmp_path / "docs" / "results.md")
    return module


def _runs(folder: Path) -> tuple[Path, Path]:
    answers = list(random_answers(1, n_tracks=30).items())
    children = {
        f"seed-{seed}/fold-{k}": {"test": dict(answers[k::3]), "fold": k, "seed": seed, "protocol": "kfold"}
        for seed in range(2)
        for k in range(3)
    }
    leaky = make_run(folder / "leaky", dict(answers), protocol="segment-leaky", command="musicgenre train tiny")
    return make_group(folder / "kfold", children), leaky


def test_reports_on_other_tracks_of_labels_and_of_tags(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["_results_judged"], "ELSEWHERE", tmp_path / "elsewhere.jsonl")
    area = {"value": 0.75, "low": 0.7, "high": 0.8}
    both = {"name": "m", "systems": [], "data": "d.csv", "n_tracks": 9, "dropped": {}, "warnings": []}
    both |= {"leaky": False, "unmapped": {"hum": 3, "hiss": 2}, "learnt_from": {"the same track": ["a", "b"]}}
    tags = {"task": "multi_label", "roc_auc": area, "pr_auc": area, "tags": ["loud", "quiet"], "left_out": ["quiet"]}
    tags |= {"kinds_left_out": ["the same track"]}
    labels = {"accuracy": area, "shared_accuracy": None, "expected_calibration_error": None}
    labels |= {"left_out": [], "macro": {"f1": 0.5}}
    for kind in (tags, labels):
        (tmp_path / "report.json").write_text(json.dumps(both | kind), encoding="utf-8")
        assert results.main(["elsewhere", str(tmp_path / "report.json"), str(sorted(kind))]) == 0
    (section, *_) = sys.modules["_results_judged"].sections()
    areas = "ROC-AUC 0.750 [0.700, 0.800], PR-AUC 0.750 [0.700, 0.800], mean over 2 tags"
    assert f"| m | d.csv | {areas} |  |  | 9 | the same track 2; no label for 2 tags (hum, hiss) |  |" in section
    assert "| **0.750 [0.700, 0.800]** |  | 0.500 | 9 | the same track 2 (kept); no label for 5 (hum, " in section

    (tmp_path / "report.json").write_text(json.dumps({"name": "m"}), encoding="utf-8")
    with pytest.raises(SystemExit, match="no report of"):
        results.main(["elsewhere", str(tmp_path / "report.json"), "x"])


def test_a_search_stands_before_and_after(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["_results_judged"], "SEARCHED", tmp_path / "searched.jsonl")
    sides = {side: {"accuracy": {"value": v, "low": v - 0.1, "high": v + 0.1}, "n_tracks": 40, "labels": ["a"]}
             for side, v in (("before", 0.5), ("after", 0.55))}  # fmt: skip
    winners = [{"trial": 3, "values": {"rate": 0.1}, "best": best, "n_trials": 8} for best in (0.6, 0.7)]
    difference = {"difference": 0.05, "low": -0.1, "high": 0.2, "p_value": 0.5, "test": "sign flips", "first": "x"}
    found = {"recipe": "tiny", "data": "four.csv", "folds": 2, "inner": {"folds": 3}, "winners": winners, **sides}
    (tmp_path / "searched.json").write_text(json.dumps({**found, "difference": difference}), encoding="utf-8")
    for _ in range(2):  # a record that comes again takes the place of the first
        assert results.main(["searched", str(tmp_path / "searched.json"), "python nested tiny"]) == 0
    section = sys.modules["_results_judged"].sections()[-1]
    cells = "| `tiny` | four.csv (40) | 2, 8 by 3 inner folds | 0.650 | **0.500 [0.400, 0.600]** | "
    cells += "**0.550 [0.450, 0.650]** | +0.050 [-0.100, +0.200], p = 0.500 (sign flips) |"
    assert section.count(cells) == 1 and "- `python nested tiny`" in section


def test_rows_come_from_run_folders(results: ModuleType, tmp_path: Path) -> None:
    kfold, leaky = _runs(tmp_path / "runs")
    assert results.main(["add", str(kfold), "mini", "--command", "musicgenre train tiny --seeds 2"]) == 0
    assert results.main(["add", str(leaky), "mini"]) == 0
    assert results.main([]) == 0 and results.main(["--check"]) == 0
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert page.count("- `mini.csv`: `musicgenre data index DATA --output mini.csv`") == 1
    assert "`musicgenre train tiny --seeds 2` (30 tracks, " in page
    record = results.records_at_hand()["tiny--mini--kfold-3"]
    value, low, high = (record["accuracy"][name] for name in ("value", "low", "high"))
    assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in page and "kfold, 3 folds" in page
    assert "0.79 (a macro precision, no accuracy) | 0.76" in page
    assert "**LEAKY** segment-leaky" in page and "`musicgenre train tiny --seeds 2`" in page
    assert record["n_tracks"] == 30 and record["seeds"] == [0, 1] and record["n_folds"] == 3


def test_findings_and_what_is_open_stand_on_the_page(results: ModuleType, tmp_path: Path) -> None:
    finding = '[[finding]]\nfinding = "leaks flatter"\nreport = "ours"\nbetter = "tiny--mini--segment-leaky"\n'
    finding += 'worse = "tiny--mini--kfold-3"\nbeware = "seeds differ"\n'
    nothing = finding.replace("leaks flatter", "nobody knows").replace("kfold-3", "artist")
    unjudged = '[[finding]]\nfinding = "weights help"\nreport = "B8"\nunjudged = "no weights"\n'
    confusion = '[[finding]]\nfinding = "a for b"\nreport = "B8"\nconfusion_of = "tiny--mini--kfold-3"\n'
    confusion += 'truth = "jazz"\nanswer = "pop"\n'
    rows = ROWS + 'open = "stopped too early"\nvalue = 3\nhours = 0.25\n' + finding + nothing + unjudged + confusion
    (results.FOLDER / "rows.toml").write_text(rows, encoding="utf-8")
    kfold, leaky = _runs(tmp_path / "runs")
    trained = {"epochs": 40, "best_epoch": 11, "threads": 1}
    info = json.loads((leaky / "run.json").read_text())
    (leaky / "run.json").write_text(json.dumps({**info, **trained}))
    (leaky / "recipe.yaml").write_text("training: {epochs: 100, patience: 28, monitor: validation_loss}\n")
    results.main(["add", str(kfold), "mini"])
    results.main(["add", str(leaky), "mini"])
    assert results.main([]) == 0 and results.main(["--check"]) == 0

    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert "40 of 100 epochs (patience 28), kept 12 by validation loss, threads 1" in page
    assert "- Stopped too early: E3 tiny, kfold (0.25 h); E3 tiny, segment-leaky (0.25 h)." in page
    lines = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    assert "seeds differ" in lines["| leaks flatter"] and "not measured | open" in lines["| nobody knows"]
    assert "|  | not judged: no weights |" in lines["| weights help"]
    found = results.records_at_hand()
    matrix = found["tiny--mini--kfold-3"]["confusion"]
    wrong = [n for row, counts in enumerate(matrix) for column, n in enumerate(counts) if row != column]
    told = f"jazz taken for pop: {matrix[1][2]:g} of {sum(matrix[1]):g} tracks; most: "
    assert told in lines["| a for b"] and f"({max(wrong):g})" in lines["| a for b"]
    verdict = "so far: held" if matrix[1][2] == max(wrong) else "so far: not told"  # its rows are open
    assert f"| {verdict} |" in lines["| a for b"] and "| so far: " in lines["| leaks flatter"]
    better, worse = (found[name]["accuracy"] for name in ("tiny--mini--segment-leaky", "tiny--mini--kfold-3"))
    assert f"{better['value'] - worse['value']:+.3f} [" in lines["| leaks flatter"]


def test_runs_at_hand_are_held_against_each_other_track_by_track(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ROWS[ROWS.index("[[row]]") :].replace(', "segment-leaky"', "").replace("folds = 3\n", "")
    head = ROWS[: ROWS.index("[[row]]")]
    others = [row.replace('"tiny"', f'"other.{name}"') for name in ("right", "lucky")]
    finding = '[[finding]]\nfinding = "{0}"\nreport = "ours"\nbetter = "other.{0}--mini--kfold"\n'
    finding += 'worse = "tiny--mini--kfold"\n'
    findings = [finding.format(name) for name in ("right", "lucky", "absent")]
    (results.FOLDER / "rows.toml").write_text("".join([head, row, *others, *findings]), encoding="utf-8")
    answers = random_answers(1, n_tracks=30, n_segments=1, right=0.2)
    right = {track: (truth, [truth] * len(said)) for track, (truth, said) in answers.items()}
    work = tmp_path / "work"
    for recipe, said in (("tiny", answers), ("other.right", right), ("other.lucky", answers)):
        study, _, variant = recipe.partition(".")
        folder = work / f"{study}--mini--kfold" / variant
        parts = {
            f"fold-{k}": {"test": dict(list(said.items())[k::5]), "fold": k, "protocol": "kfold"} for k in range(5)
        }
        make_group(folder, {name: {**part, "recipe": recipe} for name, part in parts.items()})
        assert results.main(["add", str(folder), "mini"]) == 0

    capsys.readouterr()
    assert results.main(["paired", str(work)]) == 0 and results.main([]) == 0
    against = "against tiny--mini--kfold"
    assert capsys.readouterr().out.startswith(
        f"other.right--mini--kfold {against}\nother.lucky--mini--kfold {against}\n"
    )
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    lines = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    assert ", p < 0.001, of 2 tests | **held** |" in lines["| right"]
    assert "+0.000 [+0.000, +0.000], p = 1.000, of 2 tests | not told |" in lines["| lucky"]
    assert "not measured | open" in lines["| absent"]

    # a row that was made anew is no longer the one that was compared
    records = results.records_at_hand()
    records["other.right--mini--kfold"]["accuracy"]["value"] -= 0.1
    results.write_records(records)
    assert results.main([]) == 0
    again = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    line = next(line for line in again.splitlines() if line.startswith("| right"))
    assert " p " not in line and "**held**" in line


def test_what_is_open_is_trained_again_and_what_has_most_value_first(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ROWS[ROWS.index("[[row]]") :]
    rows = ROWS + entry.replace("tiny", "other") + 'value = 2\nopen = "too early"\n'
    (results.FOLDER / "rows.toml").write_text(rows, encoding="utf-8")
    monkeypatch.setattr(results, "records_at_hand", lambda: {"other--mini--kfold-3": {}, "tiny--mini--kfold-3": {}})
    ran = []
    failed = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(results, "subprocess", SimpleNamespace(run=lambda words, **_: ran.append(words) or failed))
    assert results.main(["make", str(tmp_path / "work"), "--source", str(tmp_path), "--jobs", "1"]) == 1
    trained = [words[words.index("--output") + 1] for words in ran if words[1] == "train"]
    assert trained == ["other--mini--kfold-3", "other--mini--segment-leaky", "tiny--mini--segment-leaky"]


def test_a_row_without_a_record_fails(results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kfold, _ = _runs(tmp_path / "runs")
    results.main(["add", str(kfold), "mini"])
    assert results.main([]) == 0
    assert results.main(["--check"]) == 1
    assert "segment-leaky) has no record" in capsys.readouterr().err
    (results.FOLDER / "records.jsonl").unlink()
    assert results.main(["missing"]) == 0
    assert "musicgenre train tiny --data mini.csv --seeds 2 --set training.epochs=1" in (
        printed := capsys.readouterr().out
    )
    assert "musicgenre train tiny --data mini.csv --folds 3 --seeds 2" in printed


def test_a_changed_record_or_page_fails(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in _runs(tmp_path / "runs"):
        results.main(["add", str(run), "mini"])
    results.main([])
    path = results.FOLDER / "records.jsonl"
    good = path.read_text(encoding="utf-8")
    path.write_text(good.replace('"protocol":"kfold"', '"protocol":"artist"'), encoding="utf-8")
    assert results.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "kfold) has no record tiny--mini--kfold-3" in said and "tiny--mini--artist belongs to no row" in said
    path.write_text(good.replace('"macro_f1":0', '"macro_f1":1'), encoding="utf-8")
    assert results.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err


def test_the_members_of_an_ensemble_are_trained_first(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ROWS + '[[row]]\nsection = "E"\ncode = "A8"\nsystem = "both"\nrecipe = "ensemble-both"\ndata = "mini"\n'
    both += 'protocols = ["kfold"]\nfolds = 3\nmembers = ["tiny", "other"]\n' + ROWS[ROWS.index("[[row]]") :].replace(
        "tiny", "other"
    )
    (results.FOLDER / "rows.toml").write_text(both, encoding="utf-8")
    run, ran = _runs(tmp_path / "runs")[0], []

    def pretend(words: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        if words[1] == "ensemble":
            ensemble([run, run.with_name("twin")], cwd / words[words.index("--output") + 1], name="ensemble-both")
        return subprocess.CompletedProcess(words, 0)

    shutil.copytree(run, run.with_name("twin"))
    monkeypatch.setattr(results, "subprocess", SimpleNamespace(run=pretend))
    work = tmp_path / "work"
    arguments = ["make", str(work), "--source", str(tmp_path), "--only", "ensemble", "--extra=--accelerator gpu"]
    assert results.main(arguments) == 0
    trained = [words for words in ran if words[1] == "train"]
    assert {words[2] for words in trained} == {"tiny", "other"}, "both members, in any order"
    assert all("gpu" in words for words in trained)
    made = ["musicgenre", "ensemble", "tiny--mini--kfold-3", "other--mini--kfold-3", "--how", "mean", "--name"]
    assert ran[-1][:-1] == [*made, "ensemble-both", "--output"]
    record = results.records_at_hand()["ensemble-both--mini--kfold-3"]
    assert record["systems"] == ["A8"] and record["n_folds"] == 3


def test_runs_and_patterns_may_name_a_recipe_as_it_was_called(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("yaml")
    rows = ROWS.replace('"tiny"', '"mfcc-cnn"').replace('"kfold", ', "")
    (results.FOLDER / "rows.toml").write_text(rows, encoding="utf-8")
    ran = []
    finished = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(results, "subprocess", SimpleNamespace(run=lambda words, **_: ran.append(words) or finished))
    for pattern, n_runs in (("^e2--", 0), ("^e3--", 2), ("^mfcc-cnn--", 2)):
        ran.clear()
        code = results.main(["make", str(tmp_path / "work"), "--source", str(tmp_path), "--only", pattern])
        assert (code, len(ran)) == (int(n_runs > 0), n_runs)
    command = "musicgenre train e3 --data mini.csv"
    run = make_run(tmp_path / "old", random_answers(1), protocol="segment-leaky", recipe="e3", command=command)
    assert results.main(["add", str(run), "mini"]) == 0
    (record,) = results.records_at_hand().values()
    assert (record["recipe"], record["command"]) == ("mfcc-cnn", "musicgenre train mfcc-cnn --data mini.csv")
    assert results.main([]) == 0 and results.main(["--check"]) == 0


def test_what_belongs_to_no_row_is_refused(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", random_answers(1), recipe="other")
    assert results.main(["add", str(other), "mini"]) == 1
    assert "no row" in capsys.readouterr().err
    stray = {"recipe": "other", "data": "mini", "protocol": "track", "n_folds": 1, "systems": ["E3"]}
    results.write_records({"other--mini--track": stray})
    assert results.main(["--check"]) == 1
    assert "other--mini--track belongs to no row" in capsys.readouterr().err


def test_the_rows_of_the_real_page_name_recipes_and_protocols_that_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("yaml")
    monkeypatch.syspath_prepend(ROOT / "scripts")
    spec = importlib.util.spec_from_file_location("results_script", ROOT / "scripts" / "results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_script"] = module
    spec.loader.exec_module(module)
    from musicgenre.data.splits.registry import get_protocol
    from musicgenre.training.recipe_names import list_recipes
    from musicgenre.training.recipes import load_recipe

    content, rows = module.read_rows(module.FOLDER / "rows.toml")
    assert len({(row.section, row.record_name) for row in rows}) == len(rows)
    names = {row.record_name for row in rows}
    for finding in content["finding"]:
        compared = {finding[key] for key in ("better", "worse", "confusion_of") if key in finding}
        assert compared <= names and (compared or finding["unjudged"])
    known = {(row.recipe, row.data, row.protocol) for row in rows}
    for row in rows:
        if row.elsewhere or row.recipe == "default-head":  # nothing that `musicgenre train` makes
            continue
        if row.members:
            assert all((member, row.data, row.protocol) in known for member in row.members)
            assert row.recipe.startswith("ensemble") and row.recipe not in list_recipes()
            continue
        name, _, variant = row.recipe.partition(".")
        assert name in list_recipes() and row.section in content["section"]
        recipe = load_recipe(name)
        assert not variant or variant in recipe.variants()
        codes = {other.code for other in rows if other.record_name == row.record_name}
        assert not codes.isdisjoint(recipe.systems)
        assert get_protocol(row.protocol).leaky == (row.protocol == "segment-leaky")


TAG_ROWS = """
[data.taught]
title = "a few tracks with a teacher"
manifest = "taught.csv"
index = "musicgenre data index {source}"
then = ["musicgenre data targets taught.csv said.jsonl"]
settings = []
seeds = 1
[section.D]
title = "D: taggers"
task = "multi_label"
text = "Agreement is no accuracy."
"""


@pytest.mark.parametrize("soft", [False, True])
def test_rows_of_taggers_have_columns_of_their_own(results: ModuleType, tmp_path: Path, soft: bool) -> None:
    row = """
[[row]]
section = "D"
code = "D6"
system = "tagger"
recipe = "tiny-tags"
data = "taught"
protocols = ["track"]
[[row]]
section = "D"
code = "D4"
system = "large tagger"
recipe = "large"
data = "taught"
protocols = ["track"]
claimed = "0.98"
unmeasured = "no audio"
"""
    (results.FOLDER / "rows.toml").write_text("format_version = 1\n" + TAG_ROWS + row, encoding="utf-8")
    run = make_tag_run(tmp_path / "run", soft=soft)
    assert results.main(["add", str(run), "taught"]) == 0
    assert results.main([]) == 0
    page = results.PAGE.read_text(encoding="utf-8")
    (record,) = results.records_at_hand().values()
    (line,) = [line for line in page.splitlines() if line.startswith("| D6")]
    assert f"{record['decisions']['accuracy']:.4f} ({record['decisions']['zeros_accuracy']:.4f})" in line
    assert f"{record['roc_auc']['value']:.3f} [" in line and line.endswith("| 3 of 3 |")
    assert (f"**{record['agreement']['pearson']['value']:.3f} [" in line) if soft else record["agreement"] is None
    assert "| not measured (1) |" in page and "(1) Not measured: no audio." in page and results.main(["--check"]) == 0


def test_folds_with_artists_apart_are_asked_for(results: ModuleType) -> None:
    rows = results.FOLDER / "rows.toml"
    rows.write_text(
        ROWS.replace('["kfold", "segment-leaky"]', '["artist-kfold", "artist", "kfold"]'), encoding="utf-8"
    )
    _, (folds, single, plain) = results.read_rows(rows)
    base = "musicgenre train tiny --data mini.csv"
    assert folds.command == f"{base} --folds 3 --seeds 2 --set training.epochs=1 --set protocol.name=artist"
    assert single.command == f"{base} --seeds 2 --set training.epochs=1 --set protocol.name=artist"
    assert plain.command == f"{base} --folds 3 --seeds 2 --set training.epochs=1"
