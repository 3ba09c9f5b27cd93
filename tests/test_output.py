"""Result files: whole lines, resumed by path, size and time first, by content on a miss."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from musicgenre.errors import UsageError
from musicgenre.inference.answer import Answer
from musicgenre.inference.batch import Failure
from musicgenre.inference.output import Format, ResultFile, csv_header, format_line

SETTINGS = {"model": "toy", "coverage": "default"}


def record(path: Path | str) -> dict:
    return Answer(
        path=str(path), duration_s=2.0, heard_s=2.0, genre="jazz", confidence=0.9, scores={"jazz": 0.9}, model="toy"
    ).as_dict()


def open_file(path: Path, kind: Format = "json", *, resume: bool = True, settings: dict = SETTINGS) -> ResultFile:
    return ResultFile(path, kind, settings, resume=resume, overwrite=False)


@pytest.fixture
def track(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"some sound")
    return path


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_resume_knows_unchanged_moved_and_touched_files(tmp_path: Path, track: Path, kind: Format) -> None:
    out = tmp_path / "results"
    with open_file(out, kind) as results:
        assert results.done(str(track)) is None
        results.add(record(track))
    moved = track.rename(tmp_path / "b.wav")
    os.utime(moved, ns=(1, 1))
    with open_file(out, kind) as results:
        assert results.done(str(moved)) is not None
    with open_file(out, kind) as results:
        assert results.done(str(moved)) is not None
        moved.write_bytes(b"other music")
        assert results.done(str(moved)) is None


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, track: Path, kind: Format) -> None:
    out = tmp_path / "results"
    with open_file(out, kind) as results:
        results.add(record(track))
    whole = out.read_bytes()
    out.write_bytes(whole + b'{"path": "half a li')
    with open_file(out, kind) as results:
        assert results.done(str(track)) is not None
    assert out.read_bytes() == whole


def test_failures_are_heard_again(tmp_path: Path, track: Path) -> None:
    out = tmp_path / "results"
    with open_file(out) as results:
        results.add(Failure(str(track), "not audio").as_dict())
    with open_file(out) as results:
        assert results.done(str(track)) is None


def test_other_settings_do_not_count_as_done(tmp_path: Path, track: Path) -> None:
    out = tmp_path / "results"
    with open_file(out) as results:
        results.add(record(track))
    with open_file(out, settings={"model": "toy", "coverage": "full"}) as results:
        assert results.done(str(track)) is None


def test_an_existing_file_is_never_overwritten_unasked(tmp_path: Path, track: Path) -> None:
    out = tmp_path / "results"
    out.write_text("precious")
    with pytest.raises(UsageError, match="--resume"):
        open_file(out, resume=False)
    for kind in ("json", "csv"):
        with pytest.raises(UsageError, match=f"not a {kind} result"):
            open_file(out, kind)
    assert out.read_text() == "precious"
    with ResultFile(out, "json", SETTINGS, resume=False, overwrite=True) as results:
        results.add(record(track))
    assert json.loads(out.read_text())["genre"] == "jazz"
    out.write_text("notes of mine\nmore\n")
    with pytest.raises(UsageError, match="not a json result"):
        open_file(out)
    assert out.read_text() == "notes of mine\nmore\n"


def test_strange_names_stay_one_valid_line(tmp_path: Path) -> None:
    name = os.fsdecode(b'caf\xe9 \xe2\x80\xa8, "x".wav')
    for kind in ("json", "csv"):
        line = format_line(record(name), kind)
        assert line.count("\n") == 1
        line.encode("utf-8")
    assert json.loads(format_line(record(name), "json"))["path"].startswith("caf\\xe9")


def test_csv_columns_match_the_header() -> None:
    line = format_line(record("x.wav"), "csv")
    assert len(line.split(",")) == len(csv_header(resumable=False).split(","))
