"""JSON that is read with clear errors, and files that say their version."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from musicgenre._json import check_version, is_plain, json_sha256, parsed_json, pretty_json, read_versioned_json
from musicgenre.errors import DataError, RunError


def read(path: Path) -> dict[str, Any]:
    return read_versioned_json(path, 2, kind="run", error=RunError, remedy="Train this run again")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff"])
def test_damaged_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parsed_json(text)


def test_halves_of_a_character_are_refused_where_they_must_be_stored() -> None:
    assert parsed_json('"\\ud800"') == "\ud800"
    assert parsed_json('"\\u00e9"', storable=True) == "é"
    with pytest.raises(ValueError):
        parsed_json('"\\ud800"', storable=True)


def test_pretty_json_is_read_back_and_keeps_characters() -> None:
    text = pretty_json({"b": "é", "a": [1]}, indent=1)
    assert text.startswith('{\n "b": "é"') and text.endswith("}\n")
    assert json.loads(text) == {"b": "é", "a": [1]}


def test_hashes_name_values_and_not_their_order() -> None:
    assert json_sha256({"a": 1, "b": [2]}) == json_sha256({"b": [2], "a": 1})
    assert json_sha256({"a": 1}) != json_sha256({"a": 2})
    assert json_sha256([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


@pytest.mark.parametrize("version", [1, 2])
def test_known_versions_are_read(tmp_path: Path, version: int) -> None:
    path = tmp_path / "run.json"
    path.write_text(pretty_json({"format_version": version, "seed": 3}), encoding="utf-8")
    assert read(path) == {"format_version": version, "seed": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format_version": 3}', r"has run format 3, written by a newer musicgenre.*up to 2.*pip install --upgrade"),
        ('{"format_version": "1"}', "no format version.*Train this run again"),
        ('{"format_version": true}', "no format version"),
        ('{"format_version": 0}', "no format version"),
        ("{}", "no format version"),
        ("[1]", "not a JSON object"),
        ("{", "is damaged.*Train this run again"),
    ],
)
def test_other_versions_and_damage_are_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match="is damaged"):
        read(tmp_path / "run.json")


def test_what_an_absent_file_means_is_left_to_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "run.json")


def test_content_from_elsewhere_is_checked_alike() -> None:
    with pytest.raises(DataError, match=r"^the card of a\.npz has embeddings format 4"):
        check_version({"format_version": 4}, 1, "the card of a.npz", kind="embeddings", error=DataError, remedy="")


def test_plain_values_are_what_json_holds_and_numbers_of_a_size() -> None:
    assert is_plain([None, True, 1.5, "é", (2**64, -(2**64)), {"a": [float("inf")]}])
    for value in ({1}, b"x", ..., 1j, 2**64 + 1, [{5: 6}], {"a": datetime.date(2001, 1, 1)}, "\ud800"):
        assert not is_plain(value)
