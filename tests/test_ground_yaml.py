"""YAML that people write: what is wrong with it is told, and nothing of it grows when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicgenre._yaml import parsed_yaml, read_yaml

# Some 300 bytes that stand for 9 to the power of 9 values, 387 million.
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n"
for before, name in zip("abcdefgh", "bcdefghi", strict=True):
    BOMB += f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notes: 2001-99-99", "line 1: 2001-99-99 is a date to YAML, .* put it in quotes"),
        ("a: 1\nnotes: 2001-01-01", "line 2: 2001-01-01 is a date"),
        ("a: !!set {b}", "of the kind 'set'"),
        ("a: !!binary aGVsbG8=", "of the kind 'binary'"),
        ("a: !!python/object/apply:os.system [ls]", "of the kind 'python/object/apply:os.system'"),
        ("a: !mine 5", "of the kind '!mine'"),
        ("a: !!bool maybe", "not of the kind that stands in front"),
        ("a: !!float many", "could not convert"),
        ("a: !!int many", "many is no whole number"),
        (f"a: {'9' * 5_000}", r"line 1: 9{40}\.\.\. is no whole number up to 2\^64"),
        (f"a: 0x{'f' * 9_000}", "is no whole number"),
        ('a: "\\ud800"', "half a character"),
        ("a: \0", "special characters are not allowed"),
        ("a: [", "expected the node content"),
        ("a: *b", "undefined alias"),
        ("a: 1\na: 2", "line 2: a stands twice as a key"),
        ("5: a", "line 1: 5 stands as a key, and keys are words"),
        ("yes: a", "line 1: yes stands as a key"),
        ("? [a]\n: b", "a list or mapping stands as a key"),
        ("[" * 5_000, "line 1: more than 50 lists or mappings stand within each other"),
        ("a: " + "{a: " * 3_000, "more than 50 lists"),
        ("- " * 3_000, "more than 50 lists"),
        ("a: &a [*a]", "line 1: what begins there holds itself"),
        ("a: &a\n  b: *a", "line 1: what begins there holds itself"),
        ("a: &a\n  <<: *a", "holds itself"),
        (BOMB, "its aliases stand for more than 100,000 values"),
        ("x: {" + BOMB.replace("\n", ", ") + "}", "its aliases stand for more than"),
        ("a: &a {k: 1}\nb: &b {<<: [" + "*a," * 400 + "]}\nc: {<<: [" + "*b," * 400 + "]}", "aliases stand for more"),
        ("[" + "x," * 100_001 + "]", "more than 100,000 values"),
        ("a\n---\nb", "expected a single document"),
    ],
)
def test_what_no_recipe_holds_is_a_value_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parsed_yaml(text)
    assert len(str(caught.value)) < 500


def test_plain_values_aliases_and_merged_mappings_are_read() -> None:
    assert parsed_yaml("") is None
    assert parsed_yaml("[1, 2.5, yes, null, '2001-01-01', -3e2, x]") == [1, 2.5, True, None, "2001-01-01", "-3e2", "x"]
    assert parsed_yaml("a: &a {k: 1, l: 2}\nb: {<<: *a, l: 3}\nc: *a") == {
        "a": {"k": 1, "l": 2},
        "b": {"k": 1, "l": 3},
        "c": {"k": 1, "l": 2},
    }


def test_files_are_text_of_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffa: é\n", encoding="utf-8")
    assert read_yaml(path) == {"a": "é"}
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(ValueError):
        read_yaml(path)
    with path.open("wb") as file:
        file.truncate(20_000_000)
    with pytest.raises(ValueError, match="it has 20 MB, and 10 MB are the most"):
        read_yaml(path)
    with pytest.raises(OSError):
        read_yaml(tmp_path / "none.yaml")
