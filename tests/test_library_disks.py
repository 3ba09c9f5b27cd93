"""The writer on disks that are full, read-only, or take two spellings of a name for one, where these can be mounted.

Each test mounts a small file system of its own. Where this may not be done (it needs root and Linux), or the system
knows no such file system, the test is skipped and says so.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from musicgenre.filetags.music_file import read_tags
from musicgenre.library.journal import Journal
from musicgenre.library.make_plan import PlanOptions, make_plan
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow
from musicgenre.library.undo import undo
from musicgenre.library.write import Left, Wanted, WriteOptions, Written, write_files
from tests.small_library import Ear, contents, make_library
from tests.tagged_files import tagged

pytestmark = pytest.mark.usefixtures("own_folders")


@contextmanager
def mounted(place: Path, *words: str | Path) -> Iterator[Path]:
    """Mount something for a while; skip the test where that cannot be done."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root, on Linux")
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this system does not mount it: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def planned(folder: Path) -> list[PlanRow]:
    with HeardMemory() as memory, Journal() as journal:
        paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
        options = PlanOptions(policy="replace")
        return list(make_plan(paths, Ear(), memory, journal, options, settings="x"))  # type: ignore[arg-type]


def applied(rows: list[PlanRow]) -> dict[str, Written | Left]:
    wanted = [Wanted(row.path, row.set, row.sound_sha256, row.tags_sha256) for row in rows if row.write]
    with Journal() as journal:
        outcomes = write_files(journal, journal.begin("apply"), wanted, WriteOptions())
        return {Path(outcome.path).name: outcome for outcome in outcomes}


def taken_back() -> list[Written | Left]:
    with Journal() as journal:
        assert journal.unsettled() == []
        return list(undo(journal, journal.changes(state="done"), WriteOptions()))


def test_on_a_nearly_full_disk_what_fits_is_written_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=512k", "tmpfs") as disk:
        music = make_library(disk / "music")  # 190 kB
        rows = planned(music)
        before = contents(music)
        free = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(bytes(free - 68_000))  # room for each but the largest, and not for two of them
        outcomes = applied(rows)
        assert {name for name, outcome in outcomes.items() if isinstance(outcome, Left)} == {"f.wav"}
        left = outcomes["f.wav"]
        assert isinstance(left, Left) and left.reason.count("\n") == 0
        assert "was not changed (No space left on device). The disk is full: free as much" in left.reason
        assert contents(music).keys() == before.keys() and (music / "f.wav").read_bytes() == before["f.wav"]
        assert read_tags(music / "a.flac").genres == ("jazz",)
        assert all(isinstance(outcome, Written) for outcome in taken_back()) and contents(music) == before


def test_a_full_disk_under_the_journal_changes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from musicgenre.errors import LibraryError

    music = make_library(tmp_path / "music")
    rows, before = planned(music), contents(music)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        monkeypatch.setenv("MUSICGENRE_DATA", str(disk))
        Journal().close()
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))
        with pytest.raises(LibraryError, match=r"the journal .* cannot be (written|opened)"):
            applied(rows)
        assert contents(music) == before


def test_a_read_only_disk_costs_a_line_per_file(tmp_path: Path) -> None:
    music = make_library(tmp_path / "music")
    with mounted(tmp_path / "disk", "--bind", music) as disk:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)
        with pytest.raises(OSError, match="Read-only") as caught:
            (disk / "new").touch()
        assert caught.value.errno == errno.EROFS
        before = contents(disk)
        outcomes = applied(planned(disk))
        assert len(outcomes) == 7 and contents(disk) == before
        for outcome in outcomes.values():
            assert isinstance(outcome, Left) and "mounted read-only" in outcome.reason and "\n" not in outcome.reason
        assert taken_back() == []


def test_two_spellings_of_a_name_are_one_file_where_the_disk_says_so(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 24_000_000)
    made = [
        ["mkfs.ext4", "-q", "-O", "casefold", "-E", "encoding=utf8", str(image)],
        ["mkfs.vfat", str(image)],
    ]
    for command in made:
        if shutil.which(command[0]) and not subprocess.run(command, capture_output=True, check=False).returncode:
            break
    else:
        pytest.skip("there is no mkfs.ext4 and no mkfs.vfat to make a disk that folds case")
    with mounted(tmp_path / "disk", "-o", "loop", image) as disk:
        folder = disk / "music"
        folder.mkdir()
        if command[0] == "mkfs.ext4":
            subprocess.run(["chattr", "+F", str(folder)], check=True)
        (folder / "Song.mp3").write_bytes(tagged("mp3-2.3"))
        [row] = planned(folder)
        outcomes = applied([row, replace(row, path=str(folder / "SONG.MP3"))])
        first, second = outcomes["Song.mp3"], outcomes["SONG.MP3"]
        assert isinstance(first, Written) and isinstance(second, Left) and second.reason == "it says so already"
        assert [path.name for path in folder.iterdir()] == ["Song.mp3"]
        assert read_tags(folder / "song.MP3").genres == ("jazz",)
        assert len(taken_back()) == 1 and (folder / "Song.mp3").read_bytes() == tagged("mp3-2.3")


def test_another_disk_below_a_link_is_written_where_it_is(tmp_path: Path) -> None:
    """Beside the file means on its own disk, wherever the link to it lies."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        (disk / "song.flac").write_bytes(tagged("flac"))
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "link.flac").symlink_to(disk / "song.flac")
        outcomes = applied(planned(tmp_path / "links"))
        assert isinstance(outcomes["link.flac"], Written) and (tmp_path / "links" / "link.flac").is_symlink()
        assert read_tags(disk / "song.flac").genres == ("jazz",) and list(disk.iterdir()) == [disk / "song.flac"]
