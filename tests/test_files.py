"""Files that are written whole or not at all, and what is said where a disk takes no more."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from musicgenre._files import place_advice, replacing, room_advice, write_bytes_atomic
from musicgenre.errors import UsageError
from musicgenre.runs.folder import check_output

from .cli import COMMAND
from .sounds import music as music_of
from .sounds import write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_disk_that_takes_no_more_names_the_file(tmp_path: Path, number: int) -> None:
    path = tmp_path / "result.csv"
    with pytest.raises(OSError, match=r"result\.csv") as caught, replacing(path):
        raise OSError(number, os.strerror(number))
    assert room_advice(caught.value) and not list(tmp_path.iterdir())


def test_other_errors_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError) as caught, replacing(tmp_path / "result.csv"):
        raise TimeoutError("timed out")
    assert str(caught.value) == "timed out" and not room_advice(caught.value)


def test_a_place_that_may_not_be_written_names_the_file_and_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{options['dir']}/.result.csv.x.tmp")

    monkeypatch.setattr("musicgenre._files.tempfile.mkstemp", refuse)
    with pytest.raises(PermissionError) as caught, replacing(tmp_path / "result.csv"):
        pass
    assert caught.value.filename == str(tmp_path / "result.csv") and "permissions" in place_advice(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="POSIX shells")
def test_a_limit_on_the_size_of_files_is_told_with_the_file_and_the_way_out(tmp_path: Path) -> None:
    music = tmp_path / "music" / "rock"
    music.mkdir(parents=True)
    for number in range(40):
        write(music / f"{number}.wav", music_of(0.05))
    out = tmp_path / "manifest.csv"
    command = f"ulimit -f 1; '{COMMAND}' data index '{music.parent}' --output '{out}' --quiet"  # blocks of 1 KiB
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 2 and not out.exists()
    assert b"manifest.csv: File too large. Lift the limit on the size of files (ulimit -f)" in done.stderr


def test_only_what_can_be_resumed_is_said_to_be(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "mine.txt", b"kept")
    with pytest.raises(UsageError, match="--resume"):
        check_output(tmp_path, resume=False)
    with pytest.raises(UsageError, match="not empty") as caught:
        check_output(tmp_path, resume=None)
    assert "--resume" not in str(caught.value)
