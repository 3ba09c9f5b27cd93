"""The config file: defaults for options, unknown names refused with the nearest valid one."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicgenre.config import read_config
from musicgenre.errors import UsageError
from tests.cli import run

COMMANDS = {"classify": ["coverage", "top", "format"], "data": []}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_values_are_keyed_by_parameter(tmp_path: Path) -> None:
    path = write(tmp_path / "config.toml", '[classify]\ncoverage = "full"\ntop = 5\n')
    assert read_config(path, COMMANDS) == {"classify": {"coverage": "full", "top": 5}}


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "config.toml", "\ufeff[classify]\ntop = 5\n")
    assert read_config(path, COMMANDS) == {"classify": {"top": 5}}


def test_absent_means_no_defaults(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none.toml", COMMANDS) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[classify]\ncoverge = 3\n", "Did you mean 'coverage'"),
        ("[clasify]\ntop = 3\n", "Did you mean 'classify'"),
        ("top = 3\n", "unknown table"),
        ("classify = 3\n", "not a table"),
        ("[data]\ntop = 3\n", "unknown table: 'data'. .*Known: classify"),
        ("[classify\n", "cannot be read"),
        ("[classify]\ntop = 2001-99-99\n", "cannot be read"),
        (f"[classify]\ntop = {'9' * 5_000}\n", "cannot be read"),
        (f"[classify]\ntop = {'[' * 5_000}\n", "nested too deeply"),
        (f"[classify]\ntop = {'{a=' * 5_000}\n", "nested too deeply"),
        ("[classify]\ntop = 2001-01-01\n", r"'top' in \[classify\] has the value datetime.* Valid: text in quotes"),
        ("[classify.top]\na = 1\n", "has the value {'a': 1}"),
        ("[classify]\ntop = [[1], 12:00:00]\n", "has the value"),
        (f"[classify]\ntop = 0x{'f' * 9_000}\n", "a number of thousands of digits"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(write(tmp_path / "config.toml", text), COMMANDS)


def test_a_folder_that_may_not_be_read_means_no_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert read_config(tmp_path / "config.toml", COMMANDS) == {}


def test_a_command_goes_on_where_its_config_folder_is_a_file(tmp_path: Path) -> None:
    in_the_way = write(tmp_path / "config", "no folder")
    own = {"MUSICGENRE_CONFIG": str(in_the_way), "MUSICGENRE_CACHE": str(tmp_path / "cache")}
    done = run("bundles", "list", env=own)
    assert done.returncode == 0
    assert done.stderr.decode().count("warning: the config file") == 1
