"""Training: what is refused, and failures that are told and lose nothing."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from musicgenre.data.manifest import Manifest
from musicgenre.errors import BundleError, DataError, RecipeError, RunError, UsageError
from musicgenre.runs.folder import RunFolder, read_description
from musicgenre.training.train import train
from musicgenre.training.trained import load_trained
from tests.table_runs import TABLE, table

__all__ = ["table"]
pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_loss_that_is_no_number_is_an_error_and_the_run_failed(tmp_path: Path, table: Manifest) -> None:
    overrides = [*TABLE, "training.optimiser=sgd", "training.learning_rate=1e30"]
    with pytest.raises(RunError, match=r"(?s)loss became .* in epoch .*Lower training.learning_rate"):
        train("table-mlp-standardised", table, output=tmp_path / "run", overrides=overrides)
    facts = read_description(tmp_path / "run")
    assert facts["status"] == "failed"
    assert "loss became" in facts["reason"]
    with pytest.raises(RunError, match="did not finish"):
        load_trained(tmp_path / "run")


def test_a_full_disk_is_an_error_and_the_run_goes_on_later(
    tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_predictions", refuse)
        with pytest.raises(RunError, match=r"No space left on device.*--resume"):
            train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    assert read_description(tmp_path / "run")["status"] == "failed"
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE, resume=True)
    assert read_description(run)["status"] == "finished"


def test_output_is_never_written_over(tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [*TABLE, "training.epochs=1"]
    first = train("table-mlp-standardised", table, overrides=overrides)
    second = train("table-mlp-standardised", table, overrides=overrides)
    assert (str(first), str(second)) == (
        str(Path("runs/table-mlp-standardised")),
        str(Path("runs/table-mlp-standardised-2")),
    )
    with pytest.raises(UsageError, match="not empty"):
        train("table-mlp-standardised", table, output=first, overrides=overrides)


def test_resuming_something_else_is_refused(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    with pytest.raises(RunError, match="other settings"):
        train("table-mlp-standardised", table, output=run, overrides=[*TABLE, "training.batch_size=5"], resume=True)
    with pytest.raises(UsageError, match="nothing to resume"):
        train("table-mlp-standardised", table, overrides=TABLE, resume=True)
    fewer = table.with_tracks(table.tracks[1:])
    with pytest.raises(RunError, match="other tracks"):
        train("table-mlp-standardised", fewer, output=run, overrides=TABLE, resume=True)


def test_a_run_begun_under_a_former_name_goes_on(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=TABLE)
    written = (run / "recipe.yaml").read_text("utf-8")
    (run / "recipe.yaml").write_text(written.replace("summary: ", "summary: C2, "), "utf-8")
    (run / "run.json").write_text(json.dumps({**read_description(run), "recipe": "c2-standardised"}), "utf-8")
    told: list[str] = []
    train("c2-standardised", table, output=run, overrides=TABLE, resume=True, report=told.append)
    assert told == ["c2-standardised is called table-mlp-standardised now", f"{run} is finished already"]
    assert read_description(run)["recipe"] == "c2-standardised"


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=[*TABLE, "training.epochs=1"])
    facts = read_description(run)
    (run / "run.json").write_text(json.dumps({**facts, "format_version": 99}), encoding="utf-8")
    with pytest.raises(RunError, match="newer"):
        load_trained(run)
    (run / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        load_trained(run)


def test_damaged_weights_are_refused(tmp_path: Path, table: Manifest) -> None:
    run = train("table-mlp-standardised", table, output=tmp_path / "run", overrides=[*TABLE, "training.epochs=1"])
    (run / "model.safetensors").write_bytes(b"\x80\x04evil pickle.")
    with pytest.raises(RunError, match="damaged"):
        load_trained(run)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["model.name=tabel-mlp"], UsageError, "Nearest: 'table-mlp'"),
        (["model.options.dropuot=0.1"], UsageError, "Nearest: 'dropout'"),
        (["protocol.name=trakc"], UsageError, "track"),
        (["protocol.options.test_sise=0.1"], UsageError, "test-sise"),
        (["data.labels=[jazz]"], DataError, "jazz"),
        (["data.labels=[jaz]"], DataError, "jazz"),
        (["representation.name=tabel"], UsageError, "table"),
        (["protocol.name=segment-leaky", "protocol.options.folds=2"], RecipeError, "test_size"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_written(
    tmp_path: Path, table: Manifest, overrides: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train("table-mlp-standardised", table, output=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_wrong_counts_are_refused(tmp_path: Path, table: Manifest) -> None:
    with pytest.raises(UsageError, match="seeds=0"):
        train("table-mlp-standardised", table, output=tmp_path / "run", seeds=0)
    with pytest.raises(UsageError, match="folds=1"):
        train("table-mlp-standardised", table, output=tmp_path / "run", folds=1)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("picture-squeezenet", ["model.options.weights=nowhere.pth"], r"no weights file nowhere\.pth"),
        ("fusion-resnet34-msd", ["model.options.weights=nowhere.pth"], r"no weights file nowhere\.pth"),
        ("vggish-tagger", ["model.options.weights=nowhere.pth"], r"no file nowhere\.pth"),
        ("wav2vec2-finetune", ["model.options.model=./no-where"], r"no model folder '\./no-where'"),
    ],
)
def test_weights_are_missed_before_any_feature_is_computed(
    recipe: str, settings: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("features were asked for first")

    monkeypatch.setattr("musicgenre.training.train.gather_material", too_late)
    with pytest.raises(BundleError, match=message):
        train(recipe, tmp_path / "m.csv", output=tmp_path / "run", overrides=settings)


def test_what_the_manifest_alone_tells_is_told_before_weights_are_fetched_and_features_computed(
    tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it went on")

    monkeypatch.setattr("musicgenre.training.train.find_weights_first", refuse)
    with pytest.raises(DataError, match="every track of the manifest has one label"):
        train("mel-cnn2d-tags", table, output=tmp_path / "tags")

    monkeypatch.setattr("musicgenre.training.train.find_weights_first", lambda recipe: None)
    monkeypatch.setattr("musicgenre.training.material.prepare", refuse)
    halves = table.with_tracks(
        replace(track, split="test" if track.label == "jazz" else ("train", "validation")[number % 2])
        for number, track in enumerate(table.tracks)
    )
    with pytest.raises(DataError, match="no track of the training part has the label jazz"):
        train("table-naive-bayes-30s", halves, output=tmp_path / "labels", overrides=["data.labels=[]"])
    tagged = halves.with_tracks(replace(track, label="", labels=(track.label, "slow")) for track in halves.tracks)
    with pytest.raises(DataError, match="no track of the training part has the tag jazz"):
        train("mel-cnn2d-tags", tagged, output=tmp_path / "tagged")
