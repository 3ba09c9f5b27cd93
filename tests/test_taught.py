from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicgenre.errors import BundleError, UsageError
from musicgenre.models.head import heads_folder, list_taught, load_head, taught_path
from tests.test_head import small_head


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))


def test_a_head_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert list_taught() == ()
    small_head(name="mine").save(taught_path("mine"))
    small_head(name="other").save(tmp_path / "other.json")
    assert list_taught() == ("mine",)
    assert load_head("mine").name == "mine"
    assert load_head(tmp_path / "other.json").name == "other"
    assert load_head("default").labels[0] == "blues"


def test_an_unknown_name_lists_the_known_ones() -> None:
    small_head(name="mine").save(taught_path("mine"))
    with pytest.raises(BundleError, match="default, mine"):
        load_head("yours")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", ".hidden", "-x", "con", "NUL.txt", "x" * 65, "é", "a.", "a.json", "a.onnx"]
)
def test_names_that_cannot_be_files_everywhere_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        taught_path(name)
    with pytest.raises(BundleError):
        load_head(name)


def test_the_name_of_the_default_head_is_taken() -> None:
    with pytest.raises(UsageError, match="comes with musicgenre"):
        taught_path("default")


def test_stray_files_are_not_listed() -> None:
    heads_folder().mkdir(parents=True)
    (heads_folder() / ".mine.json.tmp").touch()
    (heads_folder() / "notes.txt").touch()
    assert list_taught() == ()


def test_a_folder_that_may_not_be_read_stops_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, pattern: str) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))  # as root, nothing would

    monkeypatch.setattr(Path, "glob", refuse)
    assert list_taught() == () and load_head("default").name == "default"
    with pytest.raises(BundleError, match="there is no model 'mine'"):
        load_head("mine")
