"""Searching and training on a Ray cluster give what one machine gives; what dies on the way is run again or told."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from musicgenre._locks import folder_lock
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import RunError, UsageError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.exporting.export import export_run
from musicgenre.features.representations.table import COLUMNS
from musicgenre.runs.folder import RunFolder
from musicgenre.search.options import SearchOptions
from musicgenre.search.search import search
from musicgenre.search.space import read_space
from musicgenre.search.study import StudyFolder
from musicgenre.search.trial import Judge, TrialJob, TrialResult, TrialRunner, TrialSource, run_trials_here
from musicgenre.training.fit import Hardware
from musicgenre.training.recipes import load_recipe
from musicgenre.training.train import train
from tests.cli import run
from tests.labelled_music import make_table
from tests.limits import GUARD_S

RECIPE = "table-mlp-standardised"
SETTINGS = ["protocol.options={test_size: 0.34, validation_size: 0.17}", "data.labels=[]"]
SETTINGS += ["training.epochs=5", "model.options.hidden=[8]"]
SPACE = "model.dropout=float:0:0.6"
WORDS = [RECIPE, *(word for setting in SETTINGS for word in ("--set", setting))]

without_ray = pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of thirty-six rows of features."""
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    make_table(tmp_path / "table.csv", COLUMNS)
    return tmp_path / "table.csv"


# What needs no Ray.


def test_training_on_a_cluster_asks_how_many_train_together(data: Path) -> None:
    command = ["train", *WORDS, "--data", data]
    done = run(*command, "--ray-address", "127.0.0.1:6379")
    assert done.returncode == 2 and b"Add --ray" in done.stderr
    if find_spec("ray") is not None:
        for more in ([], ["--jobs", "2", "--devices", "2"]):
            done = run(*command, "--ray", *more)
            assert done.returncode == 2 and b"--jobs says how many" in done.stderr


@without_ray
@pytest.mark.parametrize("command", ["train", "search"])
def test_the_line_that_installs_ray_is_told(data: Path, command: str) -> None:
    done = run(command, *WORDS, "--data", data, "--ray")
    assert done.returncode == 2 and b"musicgenre[cluster]" in done.stderr


# What does.


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this machine, with two cores."""
    pytest.importorskip("ray", reason="working on a cluster needs the extra musicgenre[cluster]")
    from musicgenre.cluster.connect import connected

    # Ray's own choice is a lower priority, at which a busy machine lets its workers starve
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_worker_niceness", "0")
        with connected(n_cpus=2) as found:
            yield found


def searched(data: Path, folder: Path, run_trials: TrialRunner, **options: Any) -> list[str]:
    """Search, and give what was told."""
    told: list[str] = []
    recipe = load_recipe(RECIPE, SETTINGS)
    space = read_space([options.pop("space", SPACE)], recipe)
    hardware = Hardware(threads=1)
    wanted = SearchOptions(**{"seeds": 0, "trials": 4, "pruner": "none", **options})
    search(recipe, data, space, wanted, output=folder, hardware=hardware, report=told.append, run_trials=run_trials)
    return told


def trials_of(folder: Path) -> list[tuple[int, str, float | None, dict[str, Any]]]:
    trials = StudyFolder(folder).open().get_trials()
    return [(trial.number, trial.state.name, trial.value, trial.params) for trial in trials]


class Watched:
    """A source of trials that lets somebody look on as the judge is asked."""

    def __init__(self, source: TrialSource, look: Any) -> None:
        self.source, self.look = source, look

    def next_job(self) -> TrialJob | None:
        return self.source.next_job()

    def judge(self, number: int) -> Judge:
        judge = self.source.judge(number)

        def looked_on(step: int, value: float) -> bool:
            verdict = self.look(number, step)
            return judge(step, value) if verdict is None else bool(verdict)

        return looked_on

    def end(self, number: int, result: TrialResult) -> None:
        self.source.end(number, result)


@pytest.mark.slow
def test_a_search_on_a_cluster_finds_what_one_machine_finds(data: Path, tmp_path: Path, cluster: Any) -> None:
    pytest.importorskip("optuna", reason="searching needs the extra musicgenre[search]")
    from musicgenre.cluster.trials import RayTrials

    told: list[str] = []
    searched(data, tmp_path / "here", run_trials_here)
    searched(data, tmp_path / "there", RayTrials(cluster, told.append))
    assert trials_of(tmp_path / "there") == trials_of(tmp_path / "here") and told == []

    # ordinary runs, that know of no test part; and nothing of Tune's is left
    folder = StudyFolder(tmp_path / "there").trial(0)
    assert RunFolder(folder).status == "finished" and evaluate(folder, part="validation").setting
    assert {track.split for track in read_manifest(folder / "manifest.csv").tracks} == {"train", "validation"}
    assert not (tmp_path / "there" / ".tune").exists()


@pytest.mark.slow
def test_trials_that_lose_their_process_or_are_judged_or_fail(data: Path, tmp_path: Path, cluster: Any) -> None:
    pytest.importorskip("optuna", reason="searching needs the extra musicgenre[search]")
    from musicgenre.cluster.trials import RayTrials

    told: list[str] = []
    killed: list[int] = []

    def look(number: int, step: int) -> bool | None:
        """Kill the process of trial 0 after its second epoch, and stop the others after their first."""
        if number == 0 and step == 2 and not killed:
            holder = (StudyFolder(tmp_path / "study").trial(0) / ".lock").read_bytes()
            killed.append(int(re.search(rb"process (\d+)", holder)[1]))  # type: ignore[index]
            os.kill(killed[0], signal.SIGKILL)
        return False if number else None

    def run_trials(source: TrialSource, jobs: int) -> None:
        RayTrials(cluster, told.append)(Watched(source, look), jobs)

    space = "training.learning_rate=0.01,0.02,1e30"
    said = searched(data, tmp_path / "study", run_trials, jobs=2, trials=3, space=space, sampler="grid", seed=2)
    states = {params["training.learning_rate"]: state for _, state, _, params in trials_of(tmp_path / "study")}
    assert sorted(states) == [0.01, 0.02, 1e30] and states[1e30] == "FAIL"
    assert sorted(states.values()) == ["COMPLETE", "FAIL", "PRUNED"]
    assert killed and told == ["trial 0 lost its process or its node, and is run again"]
    assert any("learning_rate" in line and "failed" in line for line in said)
    statuses = [RunFolder(StudyFolder(tmp_path / "study").trial(number)).status for number in range(3)]
    assert sorted(map(str, statuses)) == ["failed", "finished", "pruned"]


@pytest.mark.slow
def test_a_search_on_a_cluster_that_is_killed_goes_on_and_is_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="working on a cluster needs the extra musicgenre[cluster]")
    pytest.importorskip("optuna", reason="searching needs the extra musicgenre[search]")
    command = [sys.executable, "-m", "musicgenre", "search", *WORDS, "--data", str(data), "--space", SPACE]
    command += ["--set", "training.epochs=40", "--trials", "4", "--jobs", "2", "--ray", "--seeds", "1"]
    command += ["--pruner", "median", "--output", "study", "--quiet"]
    monkeypatch.setenv("RAY_worker_niceness", "0")  # as above
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + GUARD_S
    while time.monotonic() < deadline and process.poll() is None:
        if len(list((tmp_path / "study").glob("trials/*/run.json"))) >= 2:
            break
        time.sleep(0.05)

    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    with folder_lock(tmp_path / "study", "searching"):
        second = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert second.returncode == 2 and "another searching" in second.stderr

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert done.returncode == 0, done.stderr
    trials = trials_of(tmp_path / "study")
    assert [number for number, _, _, _ in trials] == list(range(4))
    assert {state for _, state, _, _ in trials} <= {"COMPLETE", "PRUNED"}
    with sqlite3.connect(tmp_path / "study" / "study.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [Path(line) for line in done.stdout.splitlines()] == [Path("study") / f"{RECIPE}-searched.yaml"]


@pytest.mark.slow
def test_processes_of_a_cluster_train_what_processes_here_train(data: Path, tmp_path: Path, cluster: Any) -> None:
    from musicgenre.cluster.training import RayTraining

    hardware = Hardware(devices=2, threads=1)
    there = train(
        RECIPE, data, output=tmp_path / "there", overrides=SETTINGS, hardware=hardware, launch=RayTraining(cluster)
    )
    here = train(RECIPE, data, output=tmp_path / "here", overrides=SETTINGS, hardware=hardware)
    for name in ("predictions_validation.csv", "predictions_test.csv", "model.safetensors"):
        assert (there / name).read_bytes() == (here / name).read_bytes(), name
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in here.iterdir())
    assert RunFolder(there).status == "finished"
    assert evaluate(there).short == evaluate(here).short
    assert export_run(there).path.is_file()


@pytest.mark.slow
def test_what_fails_in_a_process_of_a_cluster_is_told_as_here(data: Path, tmp_path: Path, cluster: Any) -> None:
    from musicgenre.cluster.training import RayTraining

    launch = RayTraining(cluster)
    broken = [*SETTINGS, "training.optimiser=sgd", "training.learning_rate=1e30"]
    with pytest.raises(RunError, match=r"loss became .*Lower training.learning_rate"):
        train(RECIPE, data, output=tmp_path / "run", overrides=broken, hardware=Hardware(devices=2), launch=launch)
    assert RunFolder(tmp_path / "run").status == "failed"

    with pytest.raises(UsageError, match="need 64 CPUs, and the cluster has 2"):
        train(RECIPE, data, output=tmp_path / "many", overrides=SETTINGS, hardware=Hardware(devices=64), launch=launch)
