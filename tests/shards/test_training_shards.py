"""Training from shards, by the command too: from a manifest to a run that evaluates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.data.manifest import read_manifest
from musicgenre.data.shards import open_shards, write_shards
from musicgenre.data.store import Store
from musicgenre.errors import MissingExtraError, MusicgenreError, RecipeError, UsageError
from musicgenre.evaluation.evaluate import evaluate
from musicgenre.features.representations.table import COLUMNS
from musicgenre.runs.folder import RunFolder
from musicgenre.training.material import gather_material
from musicgenre.training.recipes import load_recipe
from musicgenre.training.train import train
from tests.labelled_music import make_collection, make_table

SPLIT = "protocol.options={test_size: 0.34, validation_size: 0.17}"
QUICK = ["training.epochs=2", "training.learning_rate=0.002", "training.batch_size=8"]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("music"), duration_s=6.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, music: Path) -> Path:
    """Shards of recipe mfcc-cnn, by the command."""
    folder = tmp_path_factory.mktemp("written")
    output = folder / "e3-shards"
    command = [
        "shard",
        str(music),
        "--recipe",
        "mfcc-cnn",
        "--set",
        SPLIT,
        "--output",
        str(output),
        "--shard-mb",
        "0.05",
        "-q",
    ]
    done = CliRunner().invoke(app, [*command, "--jobs", "1"], env={"MUSICGENRE_CACHE": str(folder / "cache")})
    assert done.exit_code == 0, done.output
    assert "36 rows in" in done.output
    return output


def test_from_shards_to_a_run_that_evaluates(tmp_path: Path, written: Path, music: Path) -> None:
    run = train("mfcc-cnn", written, output=tmp_path / "run", overrides=[*QUICK, "training.stream.buffer=12"])
    report = evaluate(run)
    assert (report.protocol, report.n_tracks) == ("track", 6)
    assert RunFolder(run).read_metrics("waiting_share")[1] > 0
    assert {t.track_id: t.split for t in read_manifest(run / "manifest.csv").tracks} == {
        t.track_id: t.split for t in read_manifest(written / "manifest.csv").tracks
    }
    plain = train("mfcc-cnn", music, output=tmp_path / "plain", overrides=[*QUICK, SPLIT])
    ids = [line.split(",")[:3] for line in (run / "predictions_test.csv").read_text("utf-8").splitlines()[1:]]
    theirs = [line.split(",")[:3] for line in (plain / "predictions_test.csv").read_text("utf-8").splitlines()[1:]]
    assert sorted(ids) == sorted(theirs)
    again = train("mfcc-cnn", written, output=tmp_path / "again", overrides=[*QUICK, "training.stream.buffer=12"])
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("recipe", "overrides", "folds", "error", "message"),
    [
        ("mel-cnn2d-segments", [], 0, RecipeError, r"reads .*but the shards .* hold"),
        ("mfcc-cnn", ["representation.dtype=float16"], 0, RecipeError, "dtype='float16'"),
        ("mfcc-cnn", ["representation.hop_s=1.5"], 0, RecipeError, "hop_s=1.5"),
        ("mfcc-cnn", ["data.labels=[jazz, metal]"], 0, RecipeError, "other labels"),
        ("mfcc-cnn", ["data.exclude=[jazz.00001]"], 0, RecipeError, "leaves out jazz.00001"),
        ("mfcc-cnn", ["augmentation.offline.copies=1"], 0, RecipeError, "copies=1"),
        ("mfcc-cnn", ["augmentation.online.waveform=a3"], 0, RecipeError, "needs the sound"),
        ("mfcc-cnn", [], 3, UsageError, "--folds cannot be had from shards"),
        ("mfcc-cnn-leaky", [], 0, UsageError, "segment-leaky"),
    ],
)
def test_shards_of_another_kind_are_refused(
    tmp_path: Path,
    written: Path,
    recipe: str,
    overrides: list[str],
    folds: int,
    error: type[MusicgenreError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        train(recipe, written, output=tmp_path / "run", overrides=overrides, folds=folds)


def test_without_webdataset_the_extra_is_named(
    tmp_path: Path, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "webdataset"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"musicgenre\[stream\]"):
        open_shards(folder)
    with pytest.raises(MissingExtraError, match=r"musicgenre\[stream\]"):
        write_shards(store, None, tmp_path / "other")


def test_classical_models_want_the_store(tmp_path: Path) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    material = gather_material(load_recipe("table-knn-30s", [SPLIT, "data.exclude=[]"]), table)
    write_shards(material.store, material.manifest, tmp_path / "shards")
    with pytest.raises(UsageError, match="cannot read shards"):
        train("table-knn-30s", tmp_path / "shards", output=tmp_path / "run", overrides=["data.exclude=[]"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{store}", "--recipe", "mfcc-cnn"], "is a store"),
        (["{music}"], "Give --recipe"),
        (["{nothing}", "--recipe", "mfcc-cnn"], "nothing.csv"),
    ],
)
def test_command_names_what_is_wrong(
    tmp_path: Path, store: Store, music: Path, words: list[str], message: str
) -> None:
    places = {"store": store.folder, "music": music, "nothing": tmp_path / "nothing.csv"}
    command = ["shard", *(word.format(**places) for word in words), "--output", str(tmp_path / "out"), "-q"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, MusicgenreError)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()
