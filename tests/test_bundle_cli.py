from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.errors import BundleError
from musicgenre.models.head import list_taught, taught_path
from tests.published_weights import publish, random_variables
from tests.test_head import small_head


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("musicgenre.features.published.musicnn.weights.installed_copy", lambda: None)
    return publish(monkeypatch, tmp_path, "msd-vgg", random_variables("vgg", rng))


def test_get_list_verify_remove(wheel: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    result = run(app, ["bundles", "get", "msd-vgg", "--from", str(wheel)])
    assert result.exit_code == 0, result.output
    assert "converting msd-vgg" in result.output
    path = tmp_path / "cache" / "bundles" / "msd-vgg.onnx"
    assert path.is_file()
    listed = run(app, ["bundles", "list"]).output.splitlines()
    assert [line.split("\t")[0] for line in listed] == [
        "msd-musicnn",
        "mtt-musicnn",
        "msd-vgg",
        "mtt-vgg",
        "discogs-effnet",
    ]
    assert listed[2].split("\t")[1].endswith(" MB")
    assert listed[3].split("\t")[1] == "not cached"
    assert run(app, ["bundles", "verify"]).output == "msd-vgg\tfine\n"
    path.write_bytes(path.read_bytes()[:-1])
    verified = run(app, ["bundles", "verify", "msd-vgg"])
    assert verified.exit_code == 1
    assert str(path) in verified.output
    assert run(app, ["bundles", "remove", "msd-vgg"]).output == f"removed {path}\n"
    assert not path.exists()
    assert "no bundles in the cache" in run(app, ["bundles", "verify"]).output


def test_quiet_says_nothing(wheel: Path) -> None:
    result = CliRunner().invoke(app, ["bundles", "get", "msd-vgg", "--quiet", "--from", str(wheel)])
    assert (result.exit_code, result.output) == (0, "")


def test_an_error_is_one_of_ours(wheel: Path) -> None:
    result = CliRunner().invoke(app, ["bundles", "get", "--from", str(wheel)])
    assert isinstance(result.exception, BundleError)
    assert "no MSD_musicnn" in str(result.exception)


def test_taught_models_are_listed_and_removed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))
    run = CliRunner().invoke
    mine, torn = taught_path("mine"), taught_path("torn")
    small_head(name="mine").save(mine)
    torn.write_text("{", encoding="utf-8")
    listed = run(app, ["bundles", "list"]).output.splitlines()
    assert listed[-2:] == [f"mine\ttaught\t{mine}", f"torn\tdamaged\t{torn}"]

    refused = run(app, ["bundles", "remove", "mine", "yours"])
    assert isinstance(refused.exception, BundleError) and "taught: mine, torn" in str(refused.exception)
    assert mine.is_file(), "nothing is deleted where one name is wrong"
    assert run(app, ["bundles", "remove", "mine", "torn"]).output == f"removed {mine}\nremoved {torn}\n"
    assert list_taught() == ()


def test_of_a_bundle_and_a_taught_model_of_one_name_the_bundle_goes(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))
    small_head(name="msd-vgg").save(taught_path("msd-vgg"))
    run = CliRunner().invoke
    run(app, ["bundles", "get", "msd-vgg", "--from", str(wheel)])
    assert run(app, ["bundles", "remove", "msd-vgg"]).output.endswith("msd-vgg.onnx\n")
    assert list_taught() == ("msd-vgg",)
