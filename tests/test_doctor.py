"""`musicgenre doctor`: what a bug report needs, whatever state the installation is in."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from musicgenre import __version__
from musicgenre.cli import app
from musicgenre.config import config_path


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))


def test_doctor_names_versions_folders_and_models() -> None:
    done = CliRunner().invoke(app, ["doctor"])
    rows = dict(line.split(maxsplit=1) for line in done.output.splitlines())
    assert done.exit_code == 0
    assert rows["musicgenre"] == __version__
    assert {"python", "numpy", "onnxruntime", "cache", "config"} <= set(rows)
    assert "msd-musicnn" in done.output
    assert "problem" not in rows


def test_doctor_reports_a_config_file_that_stops_other_commands() -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text("[classify]\ncoverge = 3\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0
    assert "unknown key in [classify]: 'coverge'" in done.output.splitlines()[-1]


def test_doctor_reports_folders_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "bundles")

    monkeypatch.setattr("musicgenre.bundle.store.list_bundles", refuse)
    monkeypatch.setattr("musicgenre.models.head.list_taught", refuse)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0
    assert done.output.count("cannot be listed: [Errno 13] Permission denied: 'bundles'") == 2
