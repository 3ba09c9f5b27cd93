"""A folder is watched: each file that comes is heard once it stopped growing, and gets a line in the plan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from musicgenre.errors import LibraryError
from musicgenre.filetags.music_file import read_tags
from musicgenre.library.journal import Journal
from musicgenre.library.make_plan import PlanOptions
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow, append_rows, mend_last_line, read_plan
from musicgenre.library.watch import Arrivals, PlanThatGrows, all_below, take_in_once, watch
from tests.cli import COMMAND, run
from tests.limits import GUARD_S
from tests.small_library import Ear, contents
from tests.tagged_files import tagged

pytestmark = pytest.mark.usefixtures("own_folders")


class Desk:
    """A plan with all that it needs, open as long as a test lasts."""

    def __init__(self, plan: Path, ear: Ear | None = None) -> None:
        self.plan, self.ear = plan, ear or Ear()
        self.memory, self.journal = HeardMemory(), Journal()

    def begin(self, *, writes: bool = False, **options: Any) -> PlanThatGrows:
        return PlanThatGrows(
            self.plan,
            self.ear,  # type: ignore[arg-type]
            self.memory,
            self.journal,
            PlanOptions(**options),
            settings="x",
            writes=writes,
        )

    def names(self) -> list[str]:
        return [Path(row.path).name for row in read_plan(self.plan)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "plan.jsonl")
    yield made
    made.memory.close()
    made.journal.close()


class TestArrivals:
    def test_a_file_is_ready_once_it_stopped_growing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp3"
        path.write_bytes(b"x")
        arrivals = Arrivals(settle_s=10)
        arrivals.note(str(path), 0)
        assert arrivals.ready(9) == []
        path.write_bytes(b"xx")
        assert arrivals.ready(11) == [] and arrivals.ready(20) == []
        assert arrivals.ready(21) == [str(path)] and arrivals.ready(40) == []

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who writes to a file")
    def test_one_that_somebody_holds_open_to_write_is_not(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mp3"
        arrivals = Arrivals(settle_s=1)
        with path.open("wb") as stream:
            stream.write(b"x")
            stream.flush()
            arrivals.note(str(path), 0)
            assert arrivals.ready(100) == []
        assert arrivals.ready(101) == [str(path)]

    def test_one_that_is_empty_or_gone_never_is(self, tmp_path: Path) -> None:
        (tmp_path / "empty.mp3").touch()
        (tmp_path / "gone.mp3").write_bytes(b"x")
        arrivals = Arrivals(settle_s=1)
        for name in ("empty.mp3", "gone.mp3", "never.mp3"):
            arrivals.note(str(tmp_path / name), 0)
        (tmp_path / "gone.mp3").unlink()
        assert arrivals.ready(100) == []
        (tmp_path / "empty.mp3").write_bytes(b"x")
        assert arrivals.ready(200) == [] and arrivals.ready(201) == [str(tmp_path / "empty.mp3")]


class TestPlansThatGrow:
    def test_each_file_once_whoever_begins_again(self, music: Path, desk: Desk) -> None:
        paths = all_below([music])
        assert len(list(desk.begin().take_in(paths))) == 7
        (music / "later.flac").write_bytes(tagged("flac-bare"))
        rows = list(desk.begin().take_in(all_below([music])))
        assert [Path(row.path).name for row in rows] == ["later.flac"] and len(desk.names()) == 8
        assert list(desk.begin().take_in(all_below([music]))) == [] and len(desk.names()) == 8

    def test_what_is_written_says_so_and_can_be_taken_back_at_once(self, music: Path, desk: Desk) -> None:
        before = contents(music)
        plan = desk.begin(writes=True)
        rows = {Path(row.path).name: row for row in plan.take_in(all_below([music]))}
        assert {name for name, row in rows.items() if row.why == "written"} == {"c.m4a", "e.mp3", "f.wav"}
        assert read_tags(music / "c.m4a").genres == ("jazz",) and read_tags(music / "a.flac").genres == ("Rock",)
        assert not any(row.write for row in read_plan(desk.plan))

        (music / "later.m4a").write_bytes(tagged("m4a-bare"))
        assert [row.why for row in plan.take_in(all_below([music]))] == ["written"]
        assert [one.n_files for one in desk.journal.runs()] == [4]  # one run for all that one watch writes
        assert list(desk.begin(writes=True).take_in(all_below([music]))) == []
        assert run("library", "undo", "--last", "--yes").returncode == 0
        (music / "later.m4a").unlink()
        assert contents(music) == before

    def test_one_that_cannot_be_written_is_told_and_stays_proposed(self, music: Path, desk: Desk) -> None:
        (music / "again.mp3").hardlink_to(music / "e.mp3")
        [row] = desk.begin(writes=True).take_in([str(music / "e.mp3")])
        assert row.write and row.set == {"genre": ("jazz",)} and "hard links" in row.note

    def test_a_kill_between_the_file_and_the_plan_is_made_good(self, music: Path, desk: Desk) -> None:
        list(desk.begin(writes=True).take_in([str(music / "e.mp3")]))
        desk.plan.unlink()  # as if it had not come to that
        [row] = desk.begin(writes=True).take_in([str(music / "e.mp3")])
        assert row.why == "kept" and row.now == ("jazz",) and len(desk.journal.changes()) == 1

    def test_what_failed_is_in_it_once_and_tried_again(self, music: Path, desk: Desk) -> None:
        from musicgenre.errors import AudioError

        class Deaf(Ear):
            def classify(self, path: str) -> Any:
                if self.answers["deaf"]:
                    raise AudioError("it is broken")
                return super().classify(path)

        desk.ear = Deaf(deaf=True)
        path = str(music / "e.mp3")
        assert [row.why for row in desk.begin().take_in([path])] == ["failed"]
        assert list(desk.begin().take_in([path])) == []
        desk.ear.answers["deaf"] = False
        assert [row.why for row in desk.begin().take_in([path])] == ["heard"]

    def test_another_sound_under_a_known_name_is_heard(self, music: Path, desk: Desk) -> None:
        plan, path = desk.begin(), music / "f.wav"
        list(plan.take_in([str(path)]))
        wav = tagged("wav-bare")
        path.write_bytes(wav[:2000] + b"\1\2\3\4" + wav[2004:])
        assert len(list(plan.take_in([str(path)]))) == 1
        before = read_tags(path)
        assert run("library", "apply", desk.plan, "--yes").returncode == 1  # the first row names a sound that is gone
        assert read_tags(path).tags_sha256 != before.tags_sha256
        assert list(plan.take_in([str(path)])) == []  # other tags, the same sound

    def test_a_torn_last_line_is_cut_off_and_a_missing_end_is_added(self, tmp_path: Path) -> None:
        path = tmp_path / "plan.jsonl"
        lines = [PlanRow(f"/m/{n}.mp3", write=False).to_line() for n in range(2)]
        path.write_text(lines[0] + lines[1][:20])
        mend_last_line(path)
        assert path.read_text() == lines[0]
        path.write_text(lines[0].rstrip("\n"))
        mend_last_line(path)
        append_rows([PlanRow("/m/1.mp3", write=False)], path)
        assert path.read_text() == "".join(lines)


def test_what_comes_is_heard_when_it_is_whole(music: Path, desk: Desk) -> None:
    """Files that lie there, that grow, that are moved in with their folder, that have another name first."""
    arrived = music.parent / "album"
    arrived.mkdir()
    (arrived / "1.flac").write_bytes(tagged("flac"))

    def bring() -> None:
        deadline = time.monotonic() + GUARD_S
        while len(desk.names()) < 7 and time.monotonic() < deadline:  # those that lay there
            time.sleep(0.05)
        arrived.rename(music / "album")
        whole = tagged("ogg")
        with (music / "slow.ogg").open("wb") as stream:
            for start in range(0, len(whole), len(whole) // 8):
                stream.write(whole[start : start + len(whole) // 8])
                stream.flush()
                time.sleep(0.1)  # far less than makes it count as whole, on a busy machine too
        (music / "x.part").write_bytes(tagged("opus"))
        (music / "x.part").rename(music / "x.opus")
        (music / ".hidden.mp3").write_bytes(tagged("mp3-bare"))
        (music / "left-out.mp3").write_bytes(tagged("mp3-bare"))

    desk.plan.touch()
    bringing = threading.Thread(target=bring)
    bringing.start()
    pytest.importorskip("watchdog", reason="library watch needs the extra 'watch'")
    rows = []
    for row in watch([music], desk.begin(), exclude=["left-out*"], settle_s=3.0):
        rows.append(row)
        if len(rows) == 10:
            break
    bringing.join()
    assert sorted(desk.names())[-3:] == ["g.wma", "slow.ogg", "x.opus"] and "1.flac" in desk.names()
    assert len(desk.names()) == 10 and all(row.why in ("heard", "kept") for row in rows)
    assert all(row.sound_sha256 for row in rows)  # none was heard half-written


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, desk: Desk) -> None:
    with pytest.raises(LibraryError, match="is not there"):
        list(take_in_once([tmp_path / "gone"], desk.begin(), settle_s=0))


class TestCommands:
    @pytest.fixture(autouse=True)
    def ear(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("musicgenre.listening.classifier.Classifier", lambda *_, **__: Ear())

    def test_once_and_again(self, music: Path, tmp_path: Path) -> None:
        words = ("library", "watch", music, "-o", tmp_path / "plan.jsonl", "--once", "--settle", "0")
        done = run(*words)
        assert done.returncode == 0 and b"7 lines added" in done.stderr
        assert f"{music / 'c.m4a'}: (none) -> jazz  90%  heard\n" in done.stdout.decode()
        assert f"{music / 'a.flac'}: Rock stays  kept\n" in done.stdout.decode()
        assert b"0 lines added" in run(*words).stderr
        (music / "new.mp3").write_bytes(tagged("mp3-bare"))
        done = run(*words, "--apply")
        assert b"1 line added" in done.stderr and b"(none) -> jazz  90%  written" in done.stdout
        assert read_tags(music / "new.mp3").genres == ("jazz",) and read_tags(music / "c.m4a").genres == ()

    def test_nothing_is_written_into_what_nobody_saw(self, music: Path, tmp_path: Path) -> None:
        done = run("library", "watch", music, "-o", tmp_path / "plan.jsonl", "--once", "--apply")
        assert done.returncode == 2 and b"into 7 files that nobody saw" in done.stderr
        assert b"First: musicgenre library plan" in done.stderr

    def test_what_is_no_plan_stays(self, music: Path, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine\n")
        done = run("library", "watch", music, "-o", tmp_path / "notes.txt", "--once", "--settle", "0")
        assert done.returncode == 2 and (tmp_path / "notes.txt").read_text() == "mine\n"

    def test_without_watchdog_the_extra_is_named(
        self, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "watchdog", None)
        done = run("library", "watch", music, "-o", tmp_path / "plan.jsonl")
        assert done.returncode == 2 and b"musicgenre[watch]" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals are a thing of POSIX")
def test_ctrl_c_ends_it_and_it_goes_on(music: Path, tmp_path: Path) -> None:
    from tests.toy import save_toy

    pytest.importorskip("watchdog", reason="library watch needs the extra 'watch'")
    save_toy(tmp_path / "toy.onnx")
    words = [COMMAND, "library", "watch", music, "-o", tmp_path / "plan.jsonl", "--model", tmp_path / "toy.onnx"]
    child = subprocess.Popen([*words, "--settle", "0.2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(7):
        assert child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=GUARD_S)
    assert child.returncode == 0 and b"ended; 7 lines added" in said and b"Traceback" not in said
    lines = (tmp_path / "plan.jsonl").read_text().splitlines()
    assert len({json.loads(line)["path"] for line in lines}) == 7
    done = run(*words[1:], "--once", "--settle", "0")
    assert b"0 lines added" in done.stderr
