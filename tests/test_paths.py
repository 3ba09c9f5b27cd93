"""From what a person typed to a list of tracks."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from musicgenre.errors import UsageError
from musicgenre.listening.paths import gather_paths


def gathered(*arguments: str, stdin: bytes = b"") -> tuple[str, ...]:
    return gather_paths(arguments, [], stdin=io.BytesIO(stdin)).paths


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.wav", "b[1].wav", "deep/c.wav", "deep/deeper/d.wav", "deep/e.flac", ".hidden/f.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.wav", ["a.wav", "b[1].wav"]),
        ("b[[]1].wav", ["b[1].wav"]),
        ("b[1].wav", ["b[1].wav"]),
        ("**/*.wav", ["a.wav", "b[1].wav", "deep/c.wav", "deep/deeper/d.wav"]),
        ("./**/c.wav", ["./deep/c.wav"]),
        ("de*/**/*.wav", ["deep/c.wav", "deep/deeper/d.wav"]),
        ("**/deeper/**/*.wav", ["deep/deeper/d.wav"]),
        ("deep/**", ["deep/c.wav", "deep/deeper/d.wav", "deep/e.flac"]),
        ("nothing*", ["nothing*"]),
    ],
)
def test_globs(folder: Path, pattern: str, found: list[str]) -> None:
    assert sorted(path.replace(os.sep, "/") for path in gathered(pattern)) == found


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_links_that_lead_back_do_not_multiply_what_a_glob_finds(folder: Path) -> None:
    for name in ("again", "deep/up", "deep/deeper/top"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    assert sorted(Path(path).name for path in gathered("**/*.wav")) == ["a.wav", "b[1].wav", "c.wav", "d.wav"]


def test_names_that_no_file_can_have_are_left_to_who_opens_them(folder: Path) -> None:
    names = ("", "x" * 5000 + ".wav", "a.wav/b.wav")
    assert gathered(*names) == names


def test_lists_on_standard_input() -> None:
    assert gathered("-", stdin=b"\xef\xbb\xbfa.wav\r\n\r\nb c.wav\n") == ("a.wav", "b c.wav")
    assert gathered("-", stdin=b"a\nb.wav\0c.wav\0") == ("a\nb.wav", "c.wav")


@pytest.mark.parametrize(
    "start",
    [
        b"RIFF\xe8\x14\0\0WAVEfmt ",
        b"fLaC\0",
        b"OggS\0",
        b"ID3\4",
        b"\xff\xfb\x90",
        b"\0\0\0\x20ftypM4A ",
        b"\x1aE\xdf\xa3",
    ],
)
def test_sound_on_standard_input_is_no_list(start: bytes) -> None:
    with pytest.raises(UsageError, match="standard input holds sound"):
        gathered("-", stdin=start + b"\n/\n")
