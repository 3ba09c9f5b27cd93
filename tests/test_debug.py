"""Without `--debug` native libraries write nothing to the terminal, and a fault of ours is one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from musicgenre.augment import show
from tests.cli import run
from tests.fresh import run_python

FROM_C = b"[mp3 @ 0x5581] Header missing\n"


def write_as_native_code(*_: object, **__: object) -> None:
    os.write(2, FROM_C)


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("no error of ours")


@pytest.mark.parametrize(
    ("words", "env", "expected"),
    [
        ([], {}, b""),
        ([], {"MUSICGENRE_DEBUG": "0"}, b""),
        (["--debug"], {}, FROM_C),
        ([], {"MUSICGENRE_DEBUG": "1"}, FROM_C),
    ],
)
def test_what_native_libraries_write_is_seen_with_debug_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], env: dict[str, str], expected: bytes
) -> None:
    monkeypatch.setattr(show, "show_track", write_as_native_code)
    arguments = ["show", "a.wav", "--output", str(tmp_path / "a.png")]
    for command in ([*words, *arguments], [*arguments, *words]):  # in front of the command, and behind it
        done = run(*command, env=env)
        assert (done.returncode, done.stderr) == (0, expected)
        assert done.stdout.startswith(b"wrote ")


def test_errors_are_told_while_native_libraries_are_silent(tmp_path: Path) -> None:
    done = run("classify", tmp_path / "none.wav", "--timeline=never")
    assert done.returncode == 2
    assert b"never" in done.stderr


def test_a_fault_of_ours_is_one_line_and_has_its_place_with_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "show_track", fail)
    arguments = ["show", "a.wav", "--output", str(tmp_path / "a.png")]
    done = run(*arguments, may_fail=True)
    assert done.returncode == 1
    assert done.stderr.startswith(b"internal error: ZeroDivisionError: no error of ours.")
    assert b"--debug" in done.stderr
    with pytest.raises(ZeroDivisionError):  # Python prints where
        run(*arguments, "--debug")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_crash_at_a_single_track_names_it_where_native_libraries_are_silent(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from musicgenre.augment import show; from musicgenre.cli import main\n"
        "show._beginning = lambda path, duration_s: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.argv = ['musicgenre', 'show', 'a song.m4a', '--output', 'a.png']; main()"
    )
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == -signal.SIGSEGV
    assert 'File "while hearing a song.m4a"' in done.stderr
