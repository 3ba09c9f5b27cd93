"""Words of messages: printable names, shortened lists, nearest names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musicgenre._text import (
    did_you_mean,
    did_you_mean_path,
    how_many,
    nearest_name,
    printable,
    short_repr,
    shortened,
    unknown_name,
)
from musicgenre.errors import UsageError
from tests.cli import run
from tests.toy import save_toy


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b.mp3", "a b.mp3"),
        (b"caf\xe9.mp3", "caf\\xe9.mp3"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("Möwe 鳥", "Möwe 鳥"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
    ],
)
def test_names_become_printable(name: str | bytes, shown: str) -> None:
    assert printable(name) == shown and printable(name).isprintable()
    assert os.fsencode(printable(name))


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("track",), "0 tracks"),
        (1, ("track",), "1 track"),
        (2, ("training track",), "2 training tracks"),
        (1, ("class", "classes"), "1 class"),
        (10, ("class", "classes"), "10 classes"),
    ],
)
def test_one_thing_is_told_in_the_singular(number: int, words: tuple[str, ...], said: str) -> None:
    assert how_many(number, *words) == said


def test_long_lists_are_cut_short() -> None:
    names = ["a", "b", "c", "d"]
    assert shortened(names, 4) == "a, b, c, d"
    assert shortened(names, 3) == "a, b, c and 1 more"
    assert shortened(names, 1, separator="; ") == "a and 3 more"
    assert shortened([], 3) == ""


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest_name("MFC", ["mel", "mfcc"]) == "mfcc"
    assert nearest_name("ast", ["AST", "CLAP"]) == "AST"
    assert nearest_name("zither", ["mel", "mfcc"]) == ""
    assert nearest_name("mel", []) == ""


def test_questions_end_where_a_list_can_follow() -> None:
    assert did_you_mean("trak", ["track", "song"]) == "Did you mean 'track'? "
    assert did_you_mean("zither", ["track", "song"]) == ""


def test_the_nearest_path_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "music" / "jazz").mkdir(parents=True)
    song = tmp_path / "music" / "jazz" / "song.mp3"
    song.touch()
    for wrong in ("music/jazz/sonq.mp3", "music/jaz/song.mp3", "musik/jazz/song.mp3"):
        assert did_you_mean_path(tmp_path / wrong) == f"Did you mean '{song}'? "
    assert did_you_mean_path(tmp_path / "musik" / "rock") == f"Did you mean '{tmp_path / 'music'}'? "
    for wrong in ("zither", "x" * 300, "music/jazz/song.mp3/below", "", "a\0b"):
        assert did_you_mean_path(tmp_path / wrong if wrong else "") == ""


def test_a_link_to_nothing_is_not_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "song.wav").symlink_to(tmp_path / "gone.wav")
    assert did_you_mean_path(tmp_path / "song.wav") == ""


def test_the_nearest_path_is_printable(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).touch()
    assert did_you_mean_path(tmp_path / "cafe.wav") == f"Did you mean '{tmp_path}/caf\\xe9.wav'? "


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("song.wav", "show sonq.wav --output p.png"),
        ("song.wav", "classify sonq.wav"),
        ("toys.onnx", "classify song.wav --model toy.onnx"),
        ("music/a/b.wav", "teach musik --name mine"),
        ("music/a/b.wav", "data index musik"),
        ("tracks.csv", "data validate track.csv"),
        ("tracks.csv", "train mfcc-cnn --data track.csv"),
        ("mine.yaml", "train mime.yaml --data track.csv"),
        ("runs/one/run.json", "evaluate runs/on"),
        ("tracks.npz", "similar song.wav --index track.npz"),
    ],
)
def test_commands_ask_for_the_nearest_path(there: str, words: str, tmp_path: Path) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).touch()
    ears = {"MUSICGENRE_CACHE": str(tmp_path / "cache")}
    if words == "classify sonq.wav":
        words += f" --model {save_toy(tmp_path / 'ears' / 'toy.onnx')}"
    done = run(*words.split(), cwd=tmp_path, env=ears)
    assert done.returncode in (1, 2) and b"Did you mean '" in done.stderr, done.stderr


def test_unknown_names_are_told_with_the_valid_ones() -> None:
    error = unknown_name("model", "mfc", iter(["mfcc", "table"]))
    assert isinstance(error, UsageError)
    assert str(error) == "there is no model named 'mfc'. Valid: mfcc, table. Nearest: 'mfcc'."
    assert str(unknown_name("model", "x", [])) == "there is no model named 'x'. Valid: none."


def test_values_are_shown_as_far_as_a_line_goes() -> None:
    assert short_repr(["a", 1]) == "['a', 1]"
    assert short_repr("x" * 999) == "'" + "x" * 199 + "[...]"
    assert short_repr([1 << 99_999]) == "a number of thousands of digits"
