"""Find the sound files in folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from musicgenre.audio import AUDIO_SUFFIXES, find_audio_files

NAMES = (
    "b.mp3",
    "a.WAV",
    "notes.txt",
    ".hidden.mp3",
    "._a.wav",
    "sub/c.flac",
    "sub/deep/d.opus",
    ".git/e.wav",
    "f.MP4",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(found: Iterable[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_folders_are_walked_in_order(folder: Path) -> None:
    assert names(find_audio_files([folder]), folder) == ["a.WAV", "b.mp3", "f.MP4", "sub/c.flac", "sub/deep/d.opus"]
    assert list(find_audio_files(folder)) == list(find_audio_files(str(folder)))


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["*.mp3"], ["a.WAV", "f.MP4", "sub/c.flac", "sub/deep/d.opus"]),
        (["sub"], ["a.WAV", "b.mp3", "f.MP4"]),
        (["sub/deep"], ["a.WAV", "b.mp3", "f.MP4", "sub/c.flac"]),
        (["sub/*"], ["a.WAV", "b.mp3", "f.MP4"]),
        (["?.flac", "[ab].*"], ["f.MP4", "sub/deep/d.opus"]),
        (["*"], []),
    ],
)
def test_excluded_names_are_left_out(folder: Path, exclude: list[str], left: list[str]) -> None:
    assert names(find_audio_files([folder], exclude=exclude), folder) == left


def test_named_files_come_back_as_they_are(folder: Path, tmp_path: Path) -> None:
    named = [folder / "notes.txt", folder / ".hidden.mp3", tmp_path / "missing.wav"]
    assert list(find_audio_files(named, exclude=["*"])) == named


def test_every_file_comes_once(folder: Path) -> None:
    (folder / "link.mp3").symlink_to(folder / "b.mp3")
    found = list(find_audio_files([folder / "sub" / "c.flac", folder, folder]))
    assert found[0] == folder / "sub" / "c.flac"
    assert len(found) == 5


def test_loops_of_links_end(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "self").symlink_to(folder / "self")
    (folder / "self.mp3").symlink_to(folder / "self.mp3")
    found = names(find_audio_files([folder]), folder)
    assert found == ["a.WAV", "b.mp3", "f.MP4", "self.mp3", "sub/c.flac", "sub/deep/d.opus"]


def test_links_to_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "g.ogg").touch()
    (folder / "z").symlink_to(tmp_path / "other", target_is_directory=True)
    assert names(find_audio_files([folder]), folder)[-1] == "z/g.ogg"


def test_a_folder_that_cannot_be_listed_is_given_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_scandir = os.scandir

    def locked(path: Path) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert names(find_audio_files([folder]), folder)[-1] == "sub/deep"


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="this file system wants UTF-8 names")
def test_names_that_are_not_utf8(folder: Path) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp3")
    Path(odd).touch()
    assert Path(odd) in list(find_audio_files([folder]))
    assert Path(odd) not in list(find_audio_files([folder], exclude=["caf?.mp3"]))


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in AUDIO_SUFFIXES)
    assert {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".wma", ".wv", ".mp4", ".mkv", ".webm"} <= AUDIO_SUFFIXES
