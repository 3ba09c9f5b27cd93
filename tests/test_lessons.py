from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from musicgenre.errors import AudioError, DataError
from musicgenre.teaching.lessons import Lesson, gather_lessons, hear_lessons


class Ear:
    """Hears the length of a file's name; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def hear(self, path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        self.asked.append(path.name)
        if path.read_bytes() == b"broken":
            raise AudioError(f"{path.name} is not audio")
        return {"embedding": np.full((2, 3), len(path.name), np.float32)}, ("noticed",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    for name in (
        "rock/a.wav",
        "rock/deep/b.mp3",
        "ska/c.flac",
        "ska/cover.jpg",
        ".hidden/d.wav",
        "empty/x.txt",
        "loose.wav",
    ):
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "music"


def test_a_folder_a_genre(folder: Path) -> None:
    lessons, warnings = gather_lessons(folder)
    assert [(lesson.path.name, lesson.label) for lesson in lessons] == [
        ("a.wav", "rock"),
        ("b.mp3", "rock"),
        ("c.flac", "ska"),
    ]
    assert any("'empty' holds no sound" in warning for warning in warnings)
    assert any("1 file beside" in warning for warning in warnings)


def test_a_manifest_with_groups_and_augmented_rows(folder: Path) -> None:
    manifest = folder / "list.csv"
    manifest.write_text(
        "path,label,group,augmented,source_id\nrock/a.wav,rock,Ann,,\nska/c.flac,ska,,,\n"
        "rock/deep/b.mp3,rock,Ann,true,rock/a\n",
        encoding="utf-8",
    )
    lessons, warnings = gather_lessons(manifest)
    assert [(lesson.label, lesson.group) for lesson in lessons] == [("rock", "Ann"), ("ska", "")]
    assert warnings == ("1 augmented rows are left out",)


@pytest.mark.parametrize("missing", ["rock", "both"])
def test_one_genre_or_none_is_an_error(missing: str, folder: Path) -> None:
    for label in ("rock", "ska") if missing == "both" else ("rock",):
        (folder / label).rename(folder / f".{label}")
    with pytest.raises(DataError, match="only the genre 'ska'" if missing == "rock" else "no tracks"):
        gather_lessons(folder)


def test_something_else_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a manifest"):
        gather_lessons(folder / "loose.wav")


def test_a_genre_cannot_be_called_unsure(folder: Path) -> None:
    (folder / "rock").rename(folder / "unsure")
    with pytest.raises(DataError, match="cannot be called 'unsure'"):
        gather_lessons(folder)


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be written there")
def test_spellings_that_look_alike_are_one_genre(tmp_path: Path) -> None:
    names = ("Caf\u00e9", "Cafe\u0301", "Caf\u00e9 ", "Caf\u00e9\u00a0", "Hip-Hop", "hiphop", " ")
    for n, name in enumerate(names):
        (tmp_path / "music" / name).mkdir(parents=True)
        (tmp_path / "music" / name / f"{n}.wav").touch()
    lessons, warnings = gather_lessons(tmp_path / "music")
    assert Counter(lesson.label for lesson in lessons) == {"Caf\u00e9": 4, "Hip-Hop": 1, "hiphop": 1}
    assert warnings[0] == "the folder ' ' is left out: its name cannot be a genre"
    assert "'Hip-Hop' (1), 'hiphop' (1)" in warnings[1]
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,label\na.wav,Caf\u00e9\nb.wav,Cafe\u0301\nc.wav,Rock\n", encoding="utf-8")
    assert {lesson.label for lesson in gather_lessons(manifest)[0]} == {"Caf\u00e9", "Rock"}


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux only")
def test_names_of_folders_become_printable_labels(folder: Path) -> None:
    (folder / "rock").rename(folder / os.fsdecode(b"caf\xe9\n"))
    assert {lesson.label for lesson in gather_lessons(folder)[0]} == {"caf\\xe9\\n", "ska"}


def test_a_cache_that_cannot_be_written_costs_no_lesson(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    heard, failures = hear_lessons(gather_lessons(folder)[0], Ear(), cache_key="k")
    assert (len(heard), failures) == (3, ())


def test_what_was_heard_is_not_heard_again(folder: Path) -> None:
    lessons, _ = gather_lessons(folder)
    ear, seen = Ear(), []
    first, failures = hear_lessons(
        lessons, ear, cache_key="k", progress=lambda done, total: seen.append((done, total))
    )
    assert failures == ()
    assert seen == [(1, 3), (2, 3), (3, 3)]
    (folder / "rock" / "a.wav").rename(folder / "rock" / "renamed.wav")
    again, _ = hear_lessons(gather_lessons(folder)[0], ear, jobs=2, cache_key="k")
    assert len(ear.asked) == 3, "the content is known, whatever the file is called"
    assert sorted(item.content for item in again) == sorted(item.content for item in first)
    assert again[0].warnings == ("noticed",)
    hear_lessons(lessons[1:], ear, cache_key="other coverage")
    assert len(ear.asked) == 5


def test_a_damaged_cache_file_is_heard_again(folder: Path, tmp_path: Path) -> None:
    lessons, _ = gather_lessons(folder)
    ear = Ear()
    hear_lessons(lessons, ear, cache_key="k")
    for number, path in enumerate(sorted((tmp_path / "cache").rglob("*.npz"))):
        path.write_bytes([b"", b"PK\x03\x04 torn", path.read_bytes()[:100]][number])
    heard, failures = hear_lessons(lessons, ear, cache_key="k")
    assert (len(heard), failures, len(ear.asked)) == (3, (), 6)


def test_bad_files_are_listed_and_the_others_heard(folder: Path) -> None:
    (folder / "rock" / "a.wav").write_bytes(b"broken")
    lessons = (*gather_lessons(folder)[0], Lesson(folder / "gone.wav", "ska"))
    heard, failures = hear_lessons(lessons, Ear())
    assert [item.lesson.path.name for item in heard] == ["b.mp3", "c.flac"]
    assert [path.name for path, _ in failures] == ["a.wav", "gone.wav"]
    assert "not audio" in failures[0][1]
