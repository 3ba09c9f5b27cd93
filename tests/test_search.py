"""A search draws from a checked space, never reads the test part, survives a kill, and tests its winner once."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from musicgenre._locks import folder_lock
from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.errors import DataError, MusicgenreError, RunError, UsageError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.features.representations.table import COLUMNS
from musicgenre.runs.folder import RunFolder
from musicgenre.search.default_space import default_space
from musicgenre.search.options import SearchOptions
from musicgenre.search.search import search
from musicgenre.search.space import Parameter, check_space, read_space
from musicgenre.search.study import SEARCH_FILE, StudyFolder
from musicgenre.search.trial import TrialJob, TrialResult, run_trial
from musicgenre.training.fit import Hardware
from musicgenre.training.recipe_names import list_recipes
from musicgenre.training.recipes import Recipe, load_recipe
from tests.cli import run
from tests.labelled_music import make_collection, make_table
from tests.limits import GUARD_S

SPLIT = ["protocol.options={test_size: 0.34, validation_size: 0.17}", "data.labels=[]"]
MLP = [*SPLIT, "training.epochs=3", "model.options.hidden=[8]"]
DROPOUT = ["model.dropout=0.0,0.1,0.2,0.3,0.4"]


def table_recipe(*more: str, name: str = "table-mlp-standardised", settings: Sequence[str] = MLP) -> Recipe:
    return load_recipe(name, [*settings, *more])


def space_of(recipe: Recipe, *given: str) -> dict[str, Parameter]:
    return read_space(given, recipe)


def checked(recipe: Recipe, *given: str, objective: str = "validation.accuracy") -> None:
    check_space(recipe, space_of(recipe, *given), input_shape=(57,), objective=objective)


# The space; Optuna is not needed for it.


def test_a_space_is_read_from_words_and_from_a_file(tmp_path: Path) -> None:
    recipe = table_recipe()
    file = tmp_path / "space.yaml"
    file.write_text(
        "training.learning_rate: log:1e-5:1e-2\nmodel.hidden: [[8], [16, 8]]\ntraining.patience: [null, 5]\n", "utf-8"
    )
    space = space_of(
        recipe, str(file), "model.dropout=float:0:0.5", "training.batch_size=int:16:64:16", "scoring=mean,max"
    )
    assert space == {
        "training.learning_rate": Parameter("log", low=1e-5, high=1e-2),
        "model.options.hidden": Parameter("choice", ([8], [16, 8])),
        "training.patience": Parameter("choice", (None, 5)),
        "model.options.dropout": Parameter("float", low=0.0, high=0.5),
        "training.batch_size": Parameter("int", low=16, high=64, step=16),
        "scoring": Parameter("choice", ("mean", "max")),
    }
    again = space_of(recipe, *(f"{key}={values.as_text()}" for key, values in space.items()))
    assert again == space
    assert space["training.batch_size"].grid() == [16, 32, 48, 64]
    assert space["training.learning_rate"].grid()[::4] == pytest.approx([1e-5, 1e-2])
    check_space(recipe, space, input_shape=(57,), objective="validation.accuracy")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("training.learning_rat=log:1e-5:1e-2", "training.learning_rate"),  # the nearest
        ("training.learning_rate=log:0:1", "above 0"),
        ("training.learning_rate=log:1e-2:1e-5", "empty range"),
        ("training.learning_rate=log:1e-2", "two ends"),
        ("training.learning_rate=float:a:b", "no such numbers"),
        ("training.learning_rate=float:0:inf", "not finite"),
        ("training.learning_rate=float:-1:1", "greater than 0"),
        ("training.learning_rate=fast,slow", "valid number"),
        ("training.batch_size=int:1:2:5", "empty range"),
        ("training.batch_size=float:1:8.5", "valid integer"),
        ("training.batch_size=32", "nothing to choose"),
        ("training.batch_size=32,32", "changes nothing"),
        ("training.patience=5,5.0", "changes nothing"),
        ("training.fit_on=train,train+validation", "changes nothing"),
        ("training.positive_weight_cap=2,4", "changes nothing"),
        ("augmentation.offline.chain=a3,noise", "changes nothing"),
        ("training.stream.rate=1,2", "changes nothing"),
        ("summary=a,b", "changes nothing"),
        ("protocol.seed=1,2", "what is measured"),
        ("data.exclude=[],[a]", "what is measured"),
        ("task=single_label,multi_label", "what is measured"),
        ("model.dropuot=0.1,0.2", "dropout"),
        ("model.dropout=high,low", "model.options.dropout"),
        ("model.name=table-mlp,none-such", "none-such"),
        ("nothing", "neither key=values nor a file"),
        ("=1,2", "key=values"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_the_first_trial(given: str, told: str) -> None:
    with pytest.raises(MusicgenreError, match=re.escape(told)):
        checked(table_recipe(), given)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("training.batch_size: " + "[" * 3_000 + "]" * 3_000, "stand within each other"),
        ("training.batch_size: [8, 16]\ntraining.batch_size: [32, 64]\n", "stands twice as a key"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=told):
        read_space([str(tmp_path / "space.yaml")], load_recipe("mfcc-cnn"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_space(["training.batch_size=" + "[" * 3_000 + "]" * 3_000], load_recipe("mfcc-cnn"))


def test_what_a_kind_of_model_does_not_read_is_no_space_for_it() -> None:
    svm = table_recipe(name="table-svm-30s", settings=SPLIT)
    with pytest.raises(UsageError, match="fitted in one go"):
        checked(svm, "training.learning_rate=log:1e-5:1e-2")
    with pytest.raises(UsageError, match="score what it was fitted on"):
        checked(svm, "training.fit_on=train,train+validation")
    checked(svm, "training.fit_on=train,train+validation", objective="cv.accuracy")
    checked(svm, "model.c=log:0.1:100")
    with pytest.raises(UsageError, match="nothing to search"):
        checked(svm)
    with pytest.raises(UsageError, match=r"model\.options\.c twice"):
        space_of(svm, "model.c=1,2", "model.options.c=3,4")
    with pytest.raises(UsageError, match="a part of it"):
        space_of(svm, "model.options={c: 1},{c: 2}", "model.c=3,4")


def test_a_front_end_can_be_searched_and_is_made_before_the_first_trial() -> None:
    recipe = load_recipe("mfcc-cnn")
    space = space_of(recipe, "representation.n_mels=32,64", "representation.hop_s=1,2", "representation.segment_s=2,3")
    check_space(recipe, space, input_shape=(40, 13), objective="validation.loss")
    with pytest.raises(MusicgenreError, match="n_melts"):
        checked(recipe, "representation.n_melts=32,64")


def test_every_recipe_has_a_space_of_its_own() -> None:
    without = []
    for name in list_recipes():
        recipe = load_recipe(name)
        if recipe.study.variants:
            continue
        space = default_space(recipe)
        for key, parameter in space.items():
            for value in parameter.probes():
                recipe.with_settings({key: value})
        if len(space) < 2:
            without.append(name)
    assert without == []


# The search itself.


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of thirty-six rows of features; Optuna is needed from here on."""
    pytest.importorskip("optuna", reason="searching needs the extra musicgenre[search]")
    pytest.importorskip("plotly", reason="searching needs the extra musicgenre[search]")
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table.csv"
    make_table(path, COLUMNS)
    return path


def searched(data: Path, folder: Path, *given: str, recipe: Recipe | None = None, **options: Any) -> list[str]:
    """Search, and give what was told."""
    recipe = recipe or table_recipe()
    resume = options.pop("resume", False)
    told: list[str] = []
    search(
        recipe,
        data,
        read_space(given or DROPOUT, recipe),
        SearchOptions(**{"seeds": 0, **options}),
        output=folder,
        resume=resume,
        report=told.append,
    )
    return told


def trials_of(folder: Path) -> list[tuple[int, str, float | None, dict[str, Any]]]:
    trials = StudyFolder(folder).open().get_trials()
    return [(trial.number, trial.state.name, trial.value, trial.params) for trial in trials]


def test_trials_are_runs_without_a_test_part_and_the_winner_is_tested_once(data: Path, tmp_path: Path) -> None:
    words = [item for setting in MLP for item in ("--set", setting)]
    command = ["search", "table-mlp-standardised", "--data", data, *words, "--space", DROPOUT[0]]
    done = run(*command, "--trials", "4", "--seeds", "2", "--output", "study", "--quiet", "--seed", "3")
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert re.search(r"trial 0: \d.*best so far \d.*3 left, some \d+ s", said)

    study = tmp_path / "study"
    test_names = {track.track_id for track in read_manifest(study / "manifest-with-test.csv").part("test").tracks}
    assert test_names
    numbers = [number for number, _, _, _ in trials_of(study) if (study / "trials" / f"{number:04d}").is_dir()]
    assert len(numbers) >= 2
    for number in numbers:
        folder = study / "trials" / f"{number:04d}"
        assert evaluate(folder, part="validation").part == "validation"
        assert not RunFolder(folder).predictions("test").exists()
        assert test_names.isdisjoint(track.track_id for track in read_manifest(folder / "manifest.csv").tracks)

    facts = json.loads((study / SEARCH_FILE).read_text("utf-8"))
    winner = facts["winner"]
    values = [value for _, _, value, _ in trials_of(study) if value is not None]
    assert winner["best"] == max(values) and facts["tested"] == [winner["trial"]]
    tested = evaluate(study / f"winner-{winner['trial']:04d}")
    assert winner["test_accuracy"] == tested.accuracy.value  # type: ignore[union-attr]
    assert "which chose it and flatters" in said and "against test" in said and "trained anew with 2 seeds" in said

    recipe_file = Path(done.stdout.decode().splitlines()[-1])
    recipe = load_recipe(recipe_file)
    assert recipe.model.options["dropout"] == winner["values"]["model.options.dropout"]
    assert recipe.training == table_recipe().training

    again = run(*command, "--output", "study", "--quiet")
    assert again.returncode == 2 and b"--resume" in again.stderr
    told = run("evaluate", "study").stdout.decode()
    assert "search around table-mlp-standardised: validation.accuracy, tpe, asha" in told
    plain = json.loads(run("evaluate", "study", "--format", "json").stdout)
    assert [row["value"] for row in plain["trials"] if row["value"] is not None] == sorted(values, reverse=True)

    page = (study / "report.html").read_text("utf-8")
    assert "History" in page and "Parallel coordinates" in page and "model.<wbr>options.<wbr>dropout" in page
    assert "Plotly.newPlot" in page and len(page) > 1_000_000, "the plotting script stands in the page"
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page), "and nothing is fetched"
    assert run("evaluate", "study", "--format", "html").stdout.decode().count("<h2>") == page.count("<h2>")


def test_the_test_part_is_never_read_by_a_trial(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_collection(tmp_path / "music")
    recipe = load_recipe("mfcc-mlp", [*SPLIT, "training.epochs=1", "model.options.hidden=[4]"])
    tracks = read_manifest(manifest).tracks
    parts = ["test", "validation", "train", "train", "train", "train"]
    by_label: dict[str, int] = {}
    split = []
    for track in tracks:
        number = by_label.setdefault(track.label, 0)
        by_label[track.label] += 1
        split.append(dataclasses.replace(track, split=parts[number % 6]))
    write_manifest(read_manifest(manifest).with_tracks(split), manifest)
    for track in split:
        if track.split == "test":
            track.path.unlink()

    study = tmp_path / "study"
    searched(manifest, study, "model.dropout=0.0,0.2", recipe=recipe, sampler="grid")
    assert [state for _, state, _, _ in trials_of(study)] == ["COMPLETE"] * 2
    with pytest.raises(DataError, match="test part has no rows"):  # the winner needs it
        searched(manifest, study, "model.dropout=0.0,0.2", recipe=recipe, sampler="grid", seeds=1, resume=True)


def test_folds_keep_artists_apart_and_none_is_a_test_track(data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data)
    rows = [
        dataclasses.replace(track, group=f"{track.label} {number % 6}") for number, track in enumerate(manifest.tracks)
    ]
    write_manifest(manifest.with_tracks(rows), data)
    recipe = table_recipe("protocol.name=artist", "protocol.options={test_size: 0.2, validation_size: 0.2}")
    searched(data, tmp_path / "study", recipe=recipe, objective="cv.accuracy", folds=3, trials=2, pruner="none")

    study = tmp_path / "study"
    seen = read_manifest(study / "manifest.csv")
    folds: dict[str, set[int | None]] = {}
    for track in seen.tracks:
        folds.setdefault(track.group, set()).add(track.fold)
    assert all(len(numbers) == 1 for numbers in folds.values()) and len(folds) > 3
    whole = read_manifest(study / "manifest-with-test.csv")
    assert {t.track_id for t in whole.part("test").tracks}.isdisjoint(t.track_id for t in seen.tracks)
    (_, _, value, _), *_ = trials_of(study)
    assert value == evaluate(study / "trials" / "0000").accuracy.value  # type: ignore[union-attr]
    assert evaluate(study / "trials" / "0000").n_tracks == len(seen.tracks)


def test_a_search_that_was_interrupted_finds_what_it_would_have_found(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = ["model.dropout=float:0:0.6", "training.learning_rate=log:1e-4:1e-1"]
    searched(data, tmp_path / "whole", *space, trials=5)

    def interrupted(job: TrialJob, judge: Any) -> TrialResult:
        if job.number == 2:
            raise KeyboardInterrupt
        return run_trial(job, judge)

    monkeypatch.setattr("musicgenre.search.trial.run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        searched(data, tmp_path / "broken", *space, trials=5)
    assert [state for _, state, _, _ in trials_of(tmp_path / "broken")] == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert b"there is no winner yet" in run("evaluate", tmp_path / "broken").stdout
    monkeypatch.undo()
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))

    searched(data, tmp_path / "broken", *space, trials=5, resume=True)
    assert trials_of(tmp_path / "broken") == trials_of(tmp_path / "whole")


def test_a_trial_that_fails_is_told_and_the_search_goes_on(data: Path, tmp_path: Path) -> None:
    told = searched(data, tmp_path / "study", "training.learning_rate=0.01,1e30", sampler="grid", pruner="none")
    states = {params["training.learning_rate"]: state for _, state, _, params in trials_of(tmp_path / "study")}
    assert states == {0.01: "COMPLETE", 1e30: "FAIL"}
    assert any("failed: " in line and "learning_rate" in line for line in told)
    with pytest.raises(RunError, match=r"none of 2 trials was finished.*learning_rate"):
        searched(data, tmp_path / "other", "training.learning_rate=1e30,1e31", sampler="grid", pruner="none")


def test_the_same_recipe_is_not_trained_twice(data: Path, tmp_path: Path) -> None:
    searched(data, tmp_path / "study", "model.dropout=0.0,0.5", trials=6, sampler="random", pruner="none")
    trials = trials_of(tmp_path / "study")
    assert len(trials) == 6 and len(list((tmp_path / "study" / "trials").iterdir())) == 2
    values = {params["model.options.dropout"]: value for _, _, value, params in trials}
    assert all(value == values[params["model.options.dropout"]] for _, _, value, params in trials)


def test_time_and_grid_end_a_search(data: Path, tmp_path: Path) -> None:
    searched(data, tmp_path / "grid", "model.dropout=0.0,0.5", "training.batch_size=8,16", sampler="grid", trials=50)
    assert len(trials_of(tmp_path / "grid")) == 4
    with pytest.raises(RunError, match="none of 0 trials"):
        searched(data, tmp_path / "time", time_s=1e-9)
    searched(data, tmp_path / "time", trials=1, time_s=1e9, resume=True)
    assert len(trials_of(tmp_path / "time")) == 1


def test_a_judge_stops_a_trial_and_its_run_says_so(data: Path, tmp_path: Path) -> None:
    searched(data, tmp_path / "study", trials=1)
    seen: list[tuple[int, float]] = []

    def judge(step: int, value: float) -> bool:
        seen.append((step, value))
        return step < 2

    files = StudyFolder(tmp_path / "study")
    job = TrialJob(7, table_recipe(), files.manifest, files.trial(7), "validation.accuracy", 0, Hardware())
    assert run_trial(job, judge) == TrialResult("pruned")
    assert [step for step, _ in seen] == [1, 2] and RunFolder(job.folder).status == "pruned"
    # asked again it goes on to the end
    assert run_trial(job, lambda step, value: True).state == "finished"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"recipe": table_recipe("training.weight_decay=0.1")}, "another recipe yaml"),
        ({"given": ["model.dropout=0.0,0.9"]}, "another space"),
        ({"sampler": "random"}, "another sampler"),
        ({"objective": "validation.loss"}, "another objective"),
    ],
)
def test_another_search_under_the_same_name_is_refused(
    data: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    searched(data, tmp_path / "study", trials=1)
    given = changes.pop("given", DROPOUT)
    with pytest.raises(UsageError, match=told):
        searched(data, tmp_path / "study", *given, resume=True, **changes)


def test_a_folder_that_cannot_be_gone_on_with_is_refused(data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    searched(data, study, trials=1)
    with folder_lock(study, "searching"), pytest.raises(DataError, match="searching"):
        run_in_another_process(data, study)
    with pytest.raises(UsageError, match="--resume"):
        searched(data, study)
    facts = json.loads((study / SEARCH_FILE).read_text("utf-8"))
    (study / SEARCH_FILE).write_text(json.dumps({**facts, "version": "0.0.1"}), "utf-8")
    with pytest.raises(UsageError, match=r"another version: it was 0\.0\.1"):
        searched(data, study, resume=True)
    (study / SEARCH_FILE).write_text(json.dumps({**facts, "format_version": 99}), "utf-8")
    with pytest.raises(RunError, match="newer"):
        searched(data, study, resume=True)
    (study / SEARCH_FILE).write_text(json.dumps(facts), "utf-8")
    (study / "study.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(RunError, match="cannot be used"):
        searched(data, study, resume=True)
    with pytest.raises(UsageError, match="nothing to resume"):
        search(table_recipe(), data, space_of(table_recipe(), *DROPOUT), SearchOptions(), resume=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        searched(data, tmp_path / "notes", resume=True)


def run_in_another_process(data: Path, study: Path) -> None:
    """Search where this process holds the folder, as another process would."""
    from musicgenre import _locks

    held = set(_locks._held)
    _locks._held.clear()
    try:
        searched(data, study, resume=True)
    finally:
        _locks._held.update(held)


def test_what_cannot_be_searched_is_said_at_once(data: Path, tmp_path: Path) -> None:
    whole = read_manifest(data)
    seen = [dataclasses.replace(t, split="validation" if n % 4 == 0 else "train") for n, t in enumerate(whole.tracks)]
    write_manifest(whole.with_tracks(seen), tmp_path / "without.csv")
    with pytest.raises(DataError, match="no test part"):
        searched(tmp_path / "without.csv", tmp_path / "study", seeds=1)
    searched(tmp_path / "without.csv", tmp_path / "study", trials=1)

    with pytest.raises(UsageError, match=r"validation\.loss"):
        searched(data, tmp_path / "tags", recipe=load_recipe("table-mlp-tags"))
    with pytest.raises(UsageError, match="segment-leaky"):
        searched(data, tmp_path / "leaky", recipe=table_recipe("protocol.name=segment-leaky", "protocol.options={}"))
    with pytest.raises(UsageError, match="several recipes"):
        searched(data, tmp_path / "many", recipe=load_recipe("mel-cnn-augmentation-study"))
    with pytest.raises(UsageError, match="leave no time"):
        searched(data, tmp_path / "time", time_s=-1.0)
    assert run("search", "no-such-recipe", "--data", data).returncode == 2


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_and_two_workers_share_it(data: Path, tmp_path: Path) -> None:
    words = [item for setting in [*SPLIT, "training.epochs=40"] for item in ("--set", setting)]
    command = [sys.executable, "-m", "musicgenre", "search", "table-mlp-standardised", "--data", str(data), *words]
    command += ["--space", "model.dropout=float:0:0.6", "--trials", "6", "--jobs", "2", "--output", "study"]
    command += ["--pruner", "median", "--seeds", "1", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + GUARD_S
    storage = tmp_path / "study" / "study.sqlite"
    while time.monotonic() < deadline and process.poll() is None:
        if storage.is_file() and len(list((tmp_path / "study").glob("trials/*/run.json"))) >= 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert done.returncode == 0, done.stderr
    trials = trials_of(tmp_path / "study")
    assert [number for number, _, _, _ in trials] == list(range(6))
    assert {state for _, state, _, _ in trials} <= {"COMPLETE", "PRUNED"}
    with sqlite3.connect(storage) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert Path(done.stdout.splitlines()[-1]).is_file()
