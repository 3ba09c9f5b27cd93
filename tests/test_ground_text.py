"""Words of messages: printable names, shortened lists, nearest names."""

from __future__ import annotations

import os

import pytest

from musicgenre._text import did_you_mean, nearest_name, printable, shortened, unknown_name
from musicgenre.errors import UsageError


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


def test_unknown_names_are_told_with_the_valid_ones() -> None:
    error = unknown_name("model", "mfc", iter(["mfcc", "table"]))
    assert isinstance(error, UsageError)
    assert str(error) == "there is no model named 'mfc'. Valid: mfcc, table. Nearest: 'mfcc'."
    assert str(unknown_name("model", "x", [])) == "there is no model named 'x'. Valid: none."
