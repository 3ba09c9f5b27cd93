"""Plans are applied and taken back; whatever happens, files are old or new and the journal agrees."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musicgenre.errors import LibraryError
from musicgenre.filetags.music_file import read_tags
from musicgenre.library.journal import Journal, journal_path
from musicgenre.library.undo import undo
from musicgenre.library.write import Left, Wanted, WriteOptions, Written, settle_open, write_files
from tests.limits import GUARD_S
from tests.small_library import Ear, applied, contents, genres, planned, taken_back
from tests.tagged_files import MAKERS, tagged

pytestmark = pytest.mark.usefixtures("own_folders")


def test_a_plan_touches_nothing_and_an_undo_gives_every_byte_back(music: Path) -> None:
    before = contents(music)
    rows = planned(sorted(music.iterdir()), Ear(c=("pop", 0.8)), policy="replace")
    assert contents(music) == before
    outcomes = applied(rows)
    assert all(isinstance(outcome, Written) for outcome in outcomes) and len(outcomes) == 7
    assert genres(music) == {name: ("pop",) if name == "c.m4a" else ("jazz",) for name in before}

    assert len(taken_back()) == 7 and contents(music) == before
    with Journal() as journal:  # the undo is a run of its own: taken back, the genres stand again
        [last, first] = journal.runs()
        assert (last.kind, first.kind, first.n_undone) == ("undo", "apply", 7)
        again = list(undo(journal, journal.changes(run_id=last.id), WriteOptions()))
    assert len(again) == 7 and genres(music)["c.m4a"] == ("pop",)
    assert len(taken_back(run_id=first.id)) == 7 and contents(music) == before


def test_a_file_that_changed_since_the_plan_is_left(music: Path) -> None:
    rows = planned(sorted(music.iterdir()), Ear(), policy="replace")
    (music / "a.flac").write_bytes(tagged("flac-bare"))
    (music / "b.mp3").write_bytes(tagged("mp3-2.3")[:-400])
    (music / "c.m4a").unlink()
    left = [outcome for outcome in applied(rows) if isinstance(outcome, Left)]
    assert len(left) == 3 and all(outcome.is_failure for outcome in left)
    assert left[0].reason.startswith(f"{music / 'a.flac'}: its tags were changed since the plan was made")
    assert left[1].reason.startswith(f"{music / 'b.mp3'}: its sound is another than when the plan was made")
    assert (music / "b.mp3").read_bytes() == tagged("mp3-2.3")[:-400]


def test_an_undo_looks_at_what_others_did_since(music: Path) -> None:
    before = contents(music)
    applied(planned(sorted(music.iterdir()), Ear(), policy="replace"))
    import mutagen

    tags = mutagen.File(music / "a.flac")
    tags["title"] = "Another title"
    tags.save()
    genre = mutagen.File(music / "d.ogg")
    genre["genre"] = "By hand"
    genre.save()
    (music / "g.wma").unlink()
    outcomes = {Path(outcome.path).name: outcome for outcome in taken_back()}
    assert read_tags(music / "a.flac").genres == ("Rock",) and read_tags(music / "a.flac").title == "Another title"
    assert isinstance(outcomes["d.ogg"], Left) and "other values since" in outcomes["d.ogg"].reason
    assert read_tags(music / "d.ogg").genres == ("By hand",)
    assert isinstance(outcomes["g.wma"], Left)
    same = ("b.mp3", "c.m4a", "e.mp3", "f.wav")
    assert {name: (music / name).read_bytes() for name in same} == {name: before[name] for name in same}


def test_many_changes_of_a_few_files_are_made_and_taken_back_in_turn(music: Path) -> None:
    before = contents(music)
    paths = [music / "e.mp3", music / "a.flac"]
    for turn in range(5):
        wanted = []
        for path in paths:
            tags = read_tags(path)
            wanted.append(Wanted(str(path), {"genre": (f"Turn {turn}",)}, tags.sound_sha256, tags.tags_sha256))
        with Journal() as journal:
            outcomes = list(write_files(journal, journal.begin("apply"), wanted, WriteOptions()))
        assert all(isinstance(outcome, Written) for outcome in outcomes)
    outcomes = taken_back()
    assert len(outcomes) == 10 and all(isinstance(outcome, Written) for outcome in outcomes)
    assert contents(music) == before


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a right on Windows")
def test_two_names_of_one_file_are_written_one_after_the_other(music: Path) -> None:
    before = (music / "e.mp3").read_bytes()
    (music / "link.mp3").symlink_to(music / "e.mp3")
    rows = planned([music / "e.mp3", music / "link.mp3"], Ear())
    first, second = applied(rows)
    assert isinstance(first, Written) and isinstance(second, Left) and second.reason == "it says so already"

    # written through one name and then through the other, and taken back together
    again = planned([music / "link.mp3"], Ear(link=("pop", 0.9)), policy="replace", update_own=True)
    tags = read_tags(music / "link.mp3")
    with Journal() as journal:
        wanted = Wanted(again[0].path, {"genre": ("Soul",)}, tags.sound_sha256, tags.tags_sha256)
        assert isinstance(next(write_files(journal, journal.begin("apply"), [wanted], WriteOptions())), Written)
    assert all(isinstance(outcome, Written) for outcome in taken_back()) and (music / "e.mp3").read_bytes() == before


class TestJournal:
    def test_a_damaged_or_newer_one_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "j.sqlite"
        path.write_bytes(b"no database" * 1000)
        with pytest.raises(LibraryError, match="cannot be opened"):
            Journal(path)
        path.unlink()
        Journal(path).close()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        with pytest.raises(LibraryError, match="newer musicgenre"):
            Journal(path)

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE change SET values_after = '?'",
            "UPDATE change SET values_after = '[]'",
            """UPDATE change SET values_after = '{"genre": [1]}'""",
            "UPDATE change SET splice = x'00'",
            "UPDATE change SET model = x'05'",
            "UPDATE change SET sound_sha256 = CAST(x'ce20' AS TEXT)",
            "ALTER TABLE change RENAME COLUMN model TO modem",
        ],
    )
    def test_a_damaged_row_is_told(self, music: Path, damage: str) -> None:
        applied(planned([music / "c.m4a"], Ear()))
        with sqlite3.connect(journal_path()) as database:
            database.execute(damage)
        with Journal() as journal, pytest.raises(LibraryError, match=r"the journal .* cannot be read"):
            journal.changes()

    def test_old_changes_are_forgotten_on_request_alone(self, music: Path) -> None:
        applied(planned([music / "a.flac", music / "e.mp3"], Ear(), policy="replace"))
        with Journal() as journal:
            assert journal.prune("2000-01-01") == 0 and len(journal.changes()) == 2
            assert journal.prune("2999-01-01") == 2 and journal.runs() == [] and journal.changes() == []

    def test_what_is_kept_of_a_track_is_small(self, music: Path, tmp_path: Path) -> None:
        applied(planned([music / "b.mp3"], Ear(), policy="replace"))
        with sqlite3.connect(tmp_path / "data" / "library.sqlite") as database:
            [size] = database.execute("SELECT length(splice) FROM change").fetchone()
        assert size < 400  # the picture of 10 kB is not in it


# What a child does until it is killed: write into every file, again and again, to and fro.
_WRITER = """
import os, sys
from pathlib import Path
from musicgenre.filetags.music_file import read_tags
from musicgenre.library.journal import Journal
from musicgenre.library.write import Wanted, WriteOptions, settle_open, write_files
with Journal() as journal:
    settle_open(journal)
    files = sorted(Path(sys.argv[1]).iterdir())
    print(os.getpid(), flush=True)
    for turn in range(10_000):
        wanted = []
        for path in files:
            tags = read_tags(path)
            values = {"genre": ("Turn %d" % turn, "x" * (turn % 7 * 50))[: 1 + turn % 2]}
            wanted.append(Wanted(str(path), values, tags.sound_sha256, tags.tags_sha256))
        list(write_files(journal, journal.begin("apply"), wanted, WriteOptions()))
"""


# The same in one child after another of a process that is warm: fifty starts of Python would be all that is measured.
_FORKING_WRITER = f"""
import os, sys
import musicgenre.filetags.music_file, musicgenre.library.write
for _ in sys.stdin:
    writer = os.fork()
    if not writer:
        exec({_WRITER!r})
    os.waitpid(writer, 0)
    print("killed", flush=True)
"""


def _kill_at_random_moments(music: Path, n_kills: int, seed: int) -> None:
    """Every file is old or new, the journal agrees after the next start, nothing is left behind."""
    originals = contents(music)
    dice = random.Random(seed)
    command = [sys.executable, "-c", _FORKING_WRITER, str(music)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as warm:
        assert warm.stdin is not None and warm.stdout is not None
        for _ in range(n_kills):
            print("another", file=warm.stdin, flush=True)
            writer = int(warm.stdout.readline())
            time.sleep(dice.random() * 0.15)
            os.kill(writer, signal.SIGKILL)
            assert warm.stdout.readline() == "killed\n"
        warm.stdin.close()
        assert warm.wait(GUARD_S) == 0

    with Journal() as journal:
        settle_open(journal)
        assert journal.unsettled() == [] and contents(music).keys() == originals.keys()
        for path in sorted(music.iterdir()):
            changes = journal.changes(path=str(path))
            if changes:
                assert read_tags(path).tags_sha256 == changes[0].tags_after
        outcomes = list(undo(journal, journal.changes(state="done"), WriteOptions()))
    assert all(isinstance(outcome, Written) for outcome in outcomes) and contents(music) == originals


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a thing of POSIX")
def test_a_kill_leaves_files_whole_and_a_journal_that_agrees(music: Path) -> None:
    _kill_at_random_moments(music, 50, seed=1)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a thing of POSIX")
def test_a_thousand_kills(music: Path) -> None:
    _kill_at_random_moments(music, 1000, seed=2)


@pytest.mark.skipif(os.name != "posix", reason="it is a kill at one place")
@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace", "shutil.copystat"])
def test_a_kill_at_the_worst_moments(music: Path, place: str) -> None:
    before = contents(music)
    kill = f"import os, pathlib, shutil\ndef die(*a, **k): os.kill(os.getpid(), 9)\n{place} = die\n"
    done = subprocess.run(
        [sys.executable, "-c", kill + _WRITER, str(music)], timeout=GUARD_S, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    with Journal() as journal:
        if place == "shutil.copystat":
            assert len(list(music.iterdir())) > len(before)  # what the kill left behind
        assert len(settle_open(journal)) == len(before) and journal.changes() == []
    assert contents(music) == before


@pytest.mark.parametrize("kind", MAKERS)
def test_every_container_through_the_journal(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(tagged(kind))
    [row] = planned([path], Ear(), policy="replace")
    applied([row])
    assert read_tags(path).genres == ("jazz",)
    assert all(isinstance(outcome, Written) for outcome in taken_back()) and path.read_bytes() == tagged(kind)
