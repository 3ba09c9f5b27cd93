"""The script that measures how the code reads, on a package of a few lines whose figures can be counted by hand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from scripts import measure_code

HEARING = '''"""Hear sounds."""

from hall.tools import _shared
import numpy  # noqa: F401

RATE_HZ = 16_000
"""Rate of all sounds."""


# One comment, and one more below.
def hear(path):
    """Hear one sound.

    At the rate of all.
    """
    import json

    sound = _once(path)  # as it is
    sound = _twice(sound)
    sound = _twice(sound)
    loud = [value for value in sound if value > 0]
    first = loud[0] if loud else 0
    text = """a

    text"""
    a = 1
    b = 2
    c = 3
    d = 4
    e = 5

    return first, text, a, b, c, d, e, json, _shared(sound)


def _once(path):
    return [path]


def _twice(sound):
    return sound


@register("x")
def _registered():
    return _registered
'''

TOOLS = """def _shared(sound):
    return _own(sound), _own(sound)


def _own(sound):
    def text():
        a = 1

        return a

    b = 1
    c = 1
    d = 1
    e = 1
    f = 1
    g = 1
    h = 1
    i = 1
    return Box()._open(text, b, c, d, e, f, g, h, i, sound)


class Box:
    def __init__(self):
        self.lid = None

    def _open(self, *things):
        return things
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a room and a file beside it."""
    folder = tmp_path / "hall"
    (folder / "room").mkdir(parents=True)
    (folder / "room" / "hearing.py").write_text(HEARING, encoding="utf-8")
    (folder / "tools.py").write_text(TOOLS, encoding="utf-8")
    return folder


def figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, float]]:
    measure_code.main([str(folder), "--by-room", "--json"])
    tables: dict[str, dict[str, float]] = json.loads(capsys.readouterr().out)
    return tables


def test_each_figure_is_counted_right(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = figures(package, capsys)["room"]

    assert room == {
        "files": 1,
        "lines": 45,
        "lines of code": 26,
        "median lines a file": 45,
        "functions": 4,
        "private helpers used once, % of functions": 25.0,  # _once; not _twice, nor what is registered
        "functions of 15 lines and more": 1,
        "of these with a blank line between steps, %": 100.0,
        "comments per 100 lines of code": 7.7,  # two; the one for a tool does not speak to a reader
        "comprehensions per 100 lines of code": 3.8,
        "conditional expressions per 100 lines of code": 3.8,
        "files over 700 lines": 0,
        "functions over 100 lines": 0,
    }


def test_a_helper_may_be_used_in_another_file_or_as_a_method(package: Path) -> None:
    used_once = measure_code.find_helpers_used_once(measure_code.read_package(package))

    assert used_once == {"room.hearing:_once", "tools:_shared", "tools:Box._open"}


def test_a_blank_line_after_an_import_in_a_text_or_in_a_nested_function_shows_no_steps() -> None:
    source = measure_code.Source("hearing.py", HEARING.replace("    e = 5\n\n", "    e = 5\n"))
    nested = measure_code.Source("tools.py", TOOLS.replace("        return a\n\n", "        return a\n"))

    assert not source.functions[0].shows_steps
    assert not nested.functions[1].shows_steps
    assert nested.functions[2].shows_steps


def test_the_table_tells_the_aims(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure_code.main([str(package)]) == 0

    printed = capsys.readouterr().out
    assert "private helpers used once, % of functions" in printed
    assert "aim: at most 10" in printed


def test_a_sample_can_be_drawn_again_after_a_move(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    measure_code.main([str(package), "--sample", "20", "--seed", "7", "--save-names", str(names)])
    drawn = capsys.readouterr().out
    (package / "tools.py").rename(package / "room" / "boxes.py")
    (package / "room" / "hearing.py").write_text("", encoding="utf-8")
    measure_code.main([str(package), "--names", str(names)])
    again = capsys.readouterr().out

    assert "== tools:Box._open\n# tools.py, line 26\n    def _open(self, *things):" in drawn
    assert "== tools:Box._open\n# room/boxes.py, line 26\n    def _open(self, *things):" in again
    assert "== room.hearing:hear\n# is no longer there" in again


def test_the_same_seed_draws_the_same_functions(package: Path) -> None:
    sources = measure_code.read_package(package)

    assert measure_code.draw(sources, 3, seed=7) == measure_code.draw(sources, 3, seed=7)
    assert len(measure_code.draw(sources, 3, seed=7)) == 3


def test_a_folder_without_code_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no Python file"):
        measure_code.read_package(tmp_path)


def test_a_trace_counts_calls_but_not_imports(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(package.parent)

    def job() -> None:
        importlib.import_module("hall.tools")._shared(1)

    # Box is made and opened from `_own`, which is called from `_shared`.
    assert measure_code.trace(job, package) == {"functions": 4, "files": 1, "depth": 3}
