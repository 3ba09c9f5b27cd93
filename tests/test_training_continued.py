"""More epochs for a finished run: the same weights as in one go, and a finished run that is never lost."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from musicgenre.data.manifest import Manifest
from musicgenre.errors import MusicgenreError, RunError, UsageError
from musicgenre.evaluation.ensemble import ensemble
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.evaluation.html import render_html
from musicgenre.runs.folder import RunFolder, open_run, open_runs, read_description
from musicgenre.training.fit import Hardware
from musicgenre.training.train import train
from musicgenre.training.trained import load_trained
from tests.cli import run as command
from tests.table_runs import TABLE, losses, same_weights, table

__all__ = ["table"]
pytestmark = pytest.mark.usefixtures("own_cache")

MLP = "table-mlp-standardised"


def few(epochs: int, *more: str) -> list[str]:
    return [*TABLE, f"training.epochs={epochs}", *more]


@pytest.fixture
def finished(tmp_path: Path, table: Manifest) -> Path:
    """A run that has its three epochs."""
    return train(MLP, table, output=tmp_path / "run", overrides=few(3))


def files_of(run: Path) -> dict[Path, bytes]:
    return {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}


class _PowerCut(BaseException):
    """What no code of ours catches."""


def test_a_continued_run_equals_one_that_had_all_epochs_at_once(
    tmp_path: Path, table: Manifest, finished: Path
) -> None:
    whole = train(MLP, table, output=tmp_path / "whole", overrides=few(8))
    before, told = read_description(finished), list[str]()
    train(MLP, table, output=finished, overrides=few(6), resume=True, report=told.append)
    assert any("goes on from epoch 3 to 6" in line for line in told)
    train(MLP, table, output=finished, overrides=few(8), resume=True)

    assert losses(finished) == losses(whole) and same_weights(finished, whole)
    for name in ("recipe.yaml", "predictions_test.csv", "predictions_validation.csv"):
        assert (finished / name).read_bytes() == (whole / name).read_bytes()
    facts = read_description(finished)
    assert facts["epochs"] == 8 and facts["best_epoch"] == read_description(whole)["best_epoch"]
    assert (facts["status"], facts["started"], facts["versions"]) == (
        "finished",
        before["started"],
        before["versions"],
    )
    first, second = facts["continued"]
    assert (first["from_epoch"], first["to_epoch"], second["from_epoch"], second["to_epoch"]) == (3, 6, 6, 8)
    assert second["settings"] == {"training.epochs": [6, 8]}
    assert second["versions"] == before["versions"] and second["started"] <= second["finished"]
    assert not (finished / "continuation").exists()

    told.clear()
    train(MLP, table, output=finished, overrides=few(8), resume=True, report=told.append)
    assert told == [f"{finished} is finished already"]


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_state_is_told_and_costs_nothing(table: Manifest, finished: Path, damage: str) -> None:
    state = finished / "resume.ckpt"
    whole = state.read_bytes()
    middle = len(whole) // 2
    state.write_bytes(whole[:middle] if damage == "cut" else whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(RunError, match=r"resume\.ckpt is damaged.*Delete it and repeat"):
        train(MLP, table, output=finished, overrides=few(5), resume=True)
    assert read_description(finished)["epochs"] == 3

    state.write_bytes(whole)
    told: list[str] = []
    train(MLP, table, output=finished, overrides=few(5), resume=True, report=told.append)
    assert read_description(finished)["epochs"] == 5
    assert any(line.startswith("run: all 5 epochs") for line in told), "it is called by the run's own name"


def test_reports_say_that_a_run_was_continued(table: Manifest, finished: Path) -> None:
    assert "continued" not in evaluate(finished).to_text()
    train(MLP, table, output=finished, overrides=few(5), resume=True)
    day = read_description(finished)["continued"][0]["started"][:10]
    report = evaluate(finished)
    assert report.continued == (f"from epoch 3 to 5 on {day} (training.epochs 3 to 5)",)
    assert f"from epoch 3 to 5 on {day}" in report.to_text()
    assert f"<td>continued</td><td>from epoch 3 to 5 on {day}" in render_html(report)
    assert report.as_dict()["continued"] == list(report.continued)
    assert open_run(finished).continued[0]["to_epoch"] == 5


def test_the_finished_run_stays_whole_until_the_continuation_has_ended(
    tmp_path: Path, table: Manifest, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, before = train(MLP, table, output=tmp_path / "whole", overrides=few(8)), files_of(finished)
    original = RunFolder.write_metrics

    def cut(self: RunFolder, rows: Any) -> None:
        if len(rows) > 5:
            raise _PowerCut
        original(self, rows)

    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr("musicgenre.training.bookkeeper.RESUME_EVERY_S", 0.0)
        patch.setattr(RunFolder, "write_metrics", cut)
        train(MLP, table, output=finished, overrides=few(8), resume=True)
    now = files_of(finished)
    assert {path: now[path] for path in before} == before
    assert load_trained(finished).description["epochs"] == 3 and evaluate(finished).continued == ()

    # the same words go on with it, other ones are told of it
    told: list[str] = []
    train(MLP, table, output=finished, overrides=few(3), resume=True, report=told.append)
    assert "unfinished: --set training.epochs=8 goes on with that" in told[0] and "finished already" in told[1]
    with pytest.raises(UsageError, match=r"another continuation .* --set training.epochs=8, or delete"):
        train(MLP, table, output=finished, overrides=few(9), resume=True)
    train(MLP, table, output=finished, overrides=few(8), resume=True)
    assert losses(finished) == losses(whole) and same_weights(finished, whole)
    assert len(read_description(finished)["continued"]) == 1


@pytest.mark.parametrize("n_moved", [0, 1, 4])
def test_a_kill_while_the_continuation_takes_the_runs_place_loses_nothing(
    tmp_path: Path, table: Manifest, finished: Path, monkeypatch: pytest.MonkeyPatch, n_moved: int
) -> None:
    whole, moved, replace = train(MLP, table, output=tmp_path / "whole", overrides=few(5)), [0], Path.replace

    def move(path: Path, target: Path) -> Path:
        if path.parent.name == "continuation" and target.parent == finished:
            if moved[0] == n_moved:
                raise _PowerCut
            moved[0] += 1
        return replace(path, target)

    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(Path, "replace", move)
        train(MLP, table, output=finished, overrides=few(5), resume=True)
    with pytest.raises(RunError, match="--resume"):  # files of two trainings are no run
        evaluate(finished)

    train(MLP, table, output=finished, overrides=few(5), resume=True)
    assert losses(finished) == losses(whole) and same_weights(finished, whole)
    assert evaluate(finished).as_dict()["accuracy"] == evaluate(whole).as_dict()["accuracy"]
    assert not (finished / "continuation").exists()


def test_a_continuation_that_fails_leaves_the_run_as_it_was(
    table: Manifest, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch, pytest.raises(MusicgenreError, match="the disk is gone"):
        patch.setattr(RunFolder, "write_predictions", refuse)
        train(MLP, table, output=finished, overrides=few(5), resume=True)
    assert read_description(finished / "continuation")["status"] == "failed"
    assert evaluate(finished).continued == () and read_description(finished)["epochs"] == 3

    shutil.rmtree(finished / "continuation")  # given up
    train(MLP, table, output=finished, overrides=few(4), resume=True)
    assert read_description(finished)["epochs"] == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            few(6, "training.batch_size=5"),
            r"training\.batch_size was 16, and is 5.*training\.epochs and training\.pat",
        ),
        (few(6, "model.options.dropout=0.1"), r"model\.options\.dropout was .* and is 0\.1"),
        (few(2), r"3 epochs already, more than training\.epochs=2"),
    ],
)
def test_what_no_continuation_can_be_is_refused_by_name(
    table: Manifest, finished: Path, overrides: list[str], message: str
) -> None:
    before = files_of(finished)
    with pytest.raises(MusicgenreError, match=message):
        train(MLP, table, output=finished, overrides=overrides, resume=True)
    assert files_of(finished) == before


def relabelled(table: Manifest) -> Manifest:
    """The first track has the label of the last."""
    first, *others = table.tracks
    return table.with_tracks([replace(first, label=others[-1].label, labels=others[-1].labels), *others])


def measured_anew(table: Manifest) -> Manifest:
    """The first track of every label has another tempo."""
    seen: set[str] = set()
    tracks = []
    for track in table.tracks:
        tracks.append(track if track.label in seen else track.with_columns(tempo="7.5"))
        seen.add(track.label)
    return table.with_tracks(tracks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (relabelled, r"was begun with other data: .* had the label .*, and has .*manifest\.csv is what it was"),
        (measured_anew, r"was begun with other features: mean and deviation .*normalisation\.json"),
    ],
)
def test_data_that_changed_meanwhile_is_no_more_of_the_same(
    table: Manifest, finished: Path, change: Callable[[Manifest], Manifest], message: str
) -> None:
    before, begun = files_of(finished), open_run(finished).manifest()
    assert begun is not None
    with pytest.raises(RunError, match=f"(?s){message}"):
        train(MLP, change(begun), output=finished, overrides=few(5), resume=True)
    assert files_of(finished) == before
    train(MLP, table, output=finished, overrides=few(5), resume=True)
    assert read_description(finished)["epochs"] == 5


def test_another_precision_is_no_more_of_the_same(tmp_path: Path, table: Manifest) -> None:
    half = Hardware(precision="bf16-mixed", threads=1)
    run = train(MLP, table, output=tmp_path / "run", overrides=few(2), hardware=half)
    with pytest.raises(RunError, match=r"begun with --precision bf16-mixed, and is to go on with 32-true"):
        train(MLP, table, output=run, overrides=few(4), resume=True)

    train(MLP, table, output=run, overrides=few(4), resume=True, hardware=half)
    whole = train(MLP, table, output=tmp_path / "whole", overrides=few(4), hardware=half)
    assert losses(run) == losses(whole) and same_weights(run, whole)


def test_a_run_without_a_state_says_how_to_get_more_epochs(tmp_path: Path, table: Manifest) -> None:
    run = train(MLP, table, output=tmp_path / "run", overrides=few(2), keep_state=False)
    assert not (run / "resume.ckpt").exists()
    with pytest.raises(RunError, match=r"resume\.ckpt.*Train anew with the same command, another --output"):
        train(MLP, table, output=run, overrides=few(4), resume=True)


def test_an_unfinished_run_is_finished_first(tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "write_predictions", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train(MLP, table, output=tmp_path / "run", overrides=few(2))
    with pytest.raises(RunError, match=r"training\.epochs was 2, and is 4.*training\.epochs=2: once it is finished"):
        train(MLP, table, output=tmp_path / "run", overrides=few(4), resume=True)


def test_a_classical_model_has_no_epochs(tmp_path: Path, table: Manifest) -> None:
    overrides = [setting for setting in TABLE if not setting.startswith("training.learning")]
    run = train("table-naive-bayes-30s", table, output=tmp_path / "run", overrides=overrides)
    with pytest.raises(UsageError, match="fitted in one go"):
        train("table-naive-bayes-30s", table, output=run, overrides=[*overrides, "training.epochs=9"], resume=True)


def test_a_run_that_its_patience_ended_goes_on_with_more_of_it_alone(tmp_path: Path, table: Manifest) -> None:
    def settings(patience: int, epochs: int = 200) -> list[str]:
        return few(epochs, f"training.patience={patience}", "training.learning_rate=0.05")

    whole = train(MLP, table, output=tmp_path / "whole", overrides=settings(5))
    run, told = train(MLP, table, output=tmp_path / "run", overrides=settings(2)), list[str]()
    epochs, best = read_description(run)["epochs"], read_description(run)["best_epoch"] + 1
    assert epochs == best + 2
    train(MLP, table, output=run, overrides=settings(2, 300), resume=True, report=told.append)
    assert told[0].startswith(f"{run} ended at epoch {epochs} by training.patience=2 (best: {best})")
    assert "--set training.patience=4 waits longer" in told[0] and read_description(run)["epochs"] == epochs

    train(MLP, table, output=run, overrides=settings(5), resume=True)
    assert losses(run) == losses(whole) and same_weights(run, whole)
    assert read_description(run)["continued"][0]["settings"] == {"training.patience": [2, 5]}


def test_seeds_and_folds_are_continued_each(tmp_path: Path, table: Manifest) -> None:
    group = train(MLP, table, output=tmp_path / "group", overrides=few(2), seeds=2, folds=2)
    whole = train(MLP, table, output=tmp_path / "whole", overrides=few(4), seeds=2, folds=2)
    shutil.rmtree(group / "seed-1" / "fold-1")  # what was never begun has all its epochs at once
    train(MLP, table, output=group, overrides=few(4), seeds=2, folds=2, resume=True)
    for one, other in zip(open_runs(group), open_runs(whole), strict=True):
        assert same_weights(one.folder, other.folder) and losses(one.folder) == losses(other.folder)
    [words] = evaluate(group).continued
    assert words.startswith("3 of 4 runs, from epoch 2 to 4 on ")


def test_a_group_goes_on_with_its_own_seeds_and_folds_or_more_seeds(tmp_path: Path, table: Manifest) -> None:
    group = train(MLP, table, output=tmp_path / "group", overrides=few(1), seeds=2)
    train(MLP, table, output=group, overrides=few(1), seeds=3, resume=True)
    assert len(open_runs(group)) == 3
    before = files_of(group)
    for seeds, folds, lost in ((1, 0, "seed-0, seed-1, seed-2"), (2, 0, "seed-2"), (3, 2, "seed-0, seed-1, seed-2")):
        with pytest.raises(RunError, match=rf"group holds {lost}, with which this command would not go on"):
            train(MLP, table, output=group, overrides=few(1), seeds=seeds, folds=folds, resume=True)
    assert files_of(group) == before

    single = train(MLP, table, output=tmp_path / "single", overrides=few(1))
    with pytest.raises(RunError, match=r"holds a single run, with which"):
        train(MLP, table, output=single, overrides=few(1), seeds=2, resume=True)


def test_what_was_not_trained_or_lost_its_weights_is_told(tmp_path: Path, table: Manifest, finished: Path) -> None:
    other = train(MLP, table, output=tmp_path / "other", overrides=few(1, "training.seed=1"))
    ensemble([finished, other], tmp_path / "both")
    with pytest.raises(RunError, match=r"is an ensemble of runs .* Go on with its members"):
        train(MLP, table, output=tmp_path / "both", overrides=few(5), resume=True)
    (finished / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"is damaged: it has no model\.safetensors"):
        train(MLP, table, output=finished, overrides=few(5), resume=True)


def test_a_run_of_a_search_stays_what_the_search_tells(table: Manifest, finished: Path) -> None:
    (finished.parent / "search.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"belongs to the search in .* Train the recipe that it found anew"):
        train(MLP, table, output=finished, overrides=few(5), resume=True)


def test_a_study_is_continued_variant_by_variant(tmp_path: Path, table: Manifest) -> None:
    recipe = tmp_path / "study.yaml"
    recipe.write_text(
        f"base: {MLP}\nsummary: Two rates\nsystems: []\n"
        "study:\n  variants:\n    slow: {training.learning_rate: 0.001}\n    fast: {training.learning_rate: 0.01}\n"
    )
    study = train(recipe, table, output=tmp_path / "study", overrides=few(2))
    train(recipe, table, output=study, overrides=few(3), resume=True)
    for variant in ("slow", "fast"):
        assert read_description(study / variant)["epochs"] == 3
        assert len(open_run(study / variant).continued) == 1


def test_the_command_line_continues_and_can_do_without(tmp_path: Path, table: Manifest) -> None:
    def trained(*words: str, epochs: int) -> str:
        settings = [word for setting in few(epochs) for word in ("--set", setting)]
        done = command("train", MLP, "--data", str(table.path), "--output", str(tmp_path / "run"), *settings, *words)
        assert done.returncode == 0, done.stderr
        return done.stderr.decode()

    # it was still getting better: the command that goes on is told, and is one
    told = trained(epochs=2)
    again = shlex.split(told[told.index("musicgenre train") :].splitlines()[0])
    assert again[-2:] == ["--set", "training.epochs=4"] and again.count("--set") == len(TABLE)
    assert f"--output {tmp_path / 'run'} --resume" in told
    done = command(*again[1:])
    assert done.returncode == 0 and b"goes on from epoch 2 to 4" in done.stderr, done.stderr

    told = trained("--resume", "--no-keep-state", epochs=5)
    assert "goes on from epoch 4 to 5" in told and "musicgenre train" not in told
    assert not (tmp_path / "run" / "resume.ckpt").exists() and read_description(tmp_path / "run")["epochs"] == 5
    assert "<td>continued</td>" in (tmp_path / "run" / "report.html").read_text("utf-8")
