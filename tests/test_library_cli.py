"""The commands of `musicgenre library`, from a plan to an undo, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicgenre._locks import file_lock
from musicgenre.filetags.music_file import read_tags
from musicgenre.library.journal import Journal
from musicgenre.library.plan import read_plan
from tests.cli import run
from tests.small_library import Ear, contents, genres, planned
from tests.tagged_files import tagged

pytestmark = pytest.mark.usefixtures("own_folders")


def test_two_applies_at_once(music: Path, tmp_path: Path) -> None:
    rows = planned(sorted(music.iterdir()), Ear(), policy="replace")
    (tmp_path / "plan").write_text("".join(row.to_line() for row in rows))
    from musicgenre.library.write import locked

    with Journal() as journal, locked(journal):
        done = run("library", "apply", tmp_path / "plan", "--yes")
        assert done.returncode == 2 and b"is writing into" in done.stderr
    assert run("library", "apply", tmp_path / "plan", "--yes").returncode == 0


class TestCommands:
    @pytest.fixture(autouse=True)
    def ear(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        made = Ear(f=("pop", 0.4))
        monkeypatch.setattr("musicgenre.listening.classifier.Classifier", lambda *_, **__: made)
        yield

    def test_from_plan_to_undo(self, music: Path, tmp_path: Path) -> None:
        before = contents(music)
        plan = tmp_path / "plan.jsonl"
        done = run("library", "plan", music, "-o", plan)
        assert done.returncode == 0 and b"2 of 7 files would change: jazz 2" in done.stderr
        assert b"to write it: musicgenre library apply" in done.stderr
        shown = run("library", "show", plan).stdout.decode()
        assert "  c.m4a: (none) -> jazz  90%\n" in shown and "f.wav" not in shown and "kept 4" in shown
        unsure = run("library", "show", plan, "--unsure").stdout.decode()
        assert "  f.wav: (none) stays: unsure  (perhaps " in unsure and "  a.flac: Rock stays: kept" in unsure

        assert run("library", "plan", music, "-o", plan).returncode == 2
        asked = run("library", "apply", plan)
        assert asked.returncode == 2 and b"nobody is there to be asked" in asked.stderr and contents(music) == before
        done = run("library", "apply", plan, "--yes")
        assert done.returncode == 0 and b"2 written" in done.stderr
        assert read_tags(music / "c.m4a").genres == ("jazz",)
        assert b"to take it back" in done.stderr
        again = run("library", "apply", plan, "--yes")  # as after an interruption: what is written is written
        assert again.returncode == 0 and b"0 written, 2 said so already" in again.stderr
        assert b"to take it back" not in again.stderr, "the last run is another one"

        done = run("library", "history")
        assert b"apply  2 files" in done.stdout and b"the journal takes 0." in done.stderr
        assert b"nothing was written there" in run("library", "history", "--path", tmp_path / "else").stderr
        files = run("library", "history", "--path", music).stdout.decode()
        assert f"(none) -> jazz  {music / 'c.m4a'}" in files
        done = run("library", "undo", "--last", "--yes")
        assert done.returncode == 0 and b"2 given back" in done.stderr and contents(music) == before
        assert b"undo" in run("library", "history").stdout
        again = run("library", "undo", "--last", "--yes")  # takes the undo back, and says so
        assert b"2 written again" in again.stderr and read_tags(music / "c.m4a").genres == ("jazz",)
        done = run("library", "undo", "--last", "--yes")
        assert b"2 given back" in done.stderr and contents(music) == before
        assert run("library", "undo", "--since", "2020-01-01", "--yes").stdout == b"nothing to take back\n"
        assert b"forgot" in run("library", "history", "prune", "--older-than", "2999-01-01", "--yes").stdout

    def test_a_misspelt_folder_makes_no_plan(self, music: Path, tmp_path: Path) -> None:
        done = run("library", "plan", "musik", music / "a.flac", "-o", "plan.jsonl", cwd=tmp_path)
        assert done.returncode == 2 and b"no file or folder musik. Did you mean 'music'?" in done.stderr
        assert not (tmp_path / "plan.jsonl").exists()
        listed = run("library", "plan", "-", "-o", "plan.jsonl", cwd=tmp_path, stdin=b"music/gone.mp3\nmusic/a.flac\n")
        assert listed.returncode == 1 and b"1 stay" not in listed.stderr, "of a list what is there is planned"
        place = str(music / "gone.mp3").encode()
        assert (
            listed.stderr.count(place) == 1 and b"failed: " + place + b": the file could not be read" in listed.stderr
        )

    def test_a_name_that_no_track_has_is_told(self, music: Path, tmp_path: Path) -> None:
        plan = tmp_path / "plan.jsonl"
        run("library", "plan", music, "-o", plan)
        for command in (["show"], ["apply", "--yes"]):
            done = run("library", *command, plan, "--genre", "jaz", "--album", "one")
            assert done.returncode == 0
            assert b"no track of the plan has the genre 'jaz'. Did you mean 'jazz'?\n" in done.stderr
            assert b"no track of the plan has the album 'one'" in done.stderr
        assert run("library", "show", plan, "--genre", "JAZZ").stderr == b""

    def test_genres_that_stay_are_no_changes(self, music: Path, tmp_path: Path) -> None:
        done = run("library", "plan", music, "--policy", "merge", "-o", tmp_path / "plan.jsonl")
        assert b"6 of 7 files would change: jazz 6\n" in done.stderr, done.stderr

    def test_a_plan_that_another_writes_is_left_alone(self, music: Path, tmp_path: Path) -> None:
        plan = tmp_path / "plan.jsonl"
        with file_lock(plan, "'musicgenre library plan'"):
            done = run("library", "plan", music, "-o", plan, "--resume")
        assert done.returncode == 2 and b"another 'musicgenre library plan'" in done.stderr
        assert not plan.exists()
        assert run("library", "plan", music, "-o", plan, "--resume").returncode == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "data", "music", "plan.jsonl"]

    def test_edits_survive_a_plan_made_again(self, music: Path, tmp_path: Path) -> None:
        plan = tmp_path / "plan.jsonl"
        run("library", "plan", music, "-o", plan)
        plan.write_text(plan.read_text().replace('"set": {"genre": ["jazz"]}', '"set": {"genre": ["Swing"]}', 1))
        assert run("library", "plan", music, "-o", plan, "--resume").returncode == 0
        assert sum(row.correction == ("Swing",) for row in read_plan(plan)) == 1
        run("library", "apply", plan, "--yes")
        assert sorted(genres(music).values()).count(("Swing",)) == 1
        run("library", "undo", "--last", "--yes")
        run("library", "plan", music, "-o", plan, "--overwrite")
        # the sound of c.m4a (or e.mp3) is known to be Swing from now on
        assert [row.why for row in read_plan(plan)].count("corrected") >= 1

    def test_review_shows_the_surest_disagreement_first(self, music: Path, tmp_path: Path) -> None:
        run("library", "plan", music, "-o", tmp_path / "plan.jsonl")
        done = run("library", "review", tmp_path / "plan.jsonl").stdout.decode().splitlines()
        assert (
            done[0].startswith("Rock <> jazz  90%") and done[-1] == "4 of 4 tracks with a genre were heard otherwise"
        )

    def test_maps_and_lists(self, music: Path, tmp_path: Path) -> None:
        assert run("library", "map", "init", "-o", tmp_path / "g.toml").returncode == 0
        assert run("library", "map", "init", "-o", tmp_path / "g.toml").returncode == 2
        text = (tmp_path / "g.toml").read_text().replace('"jazz" = "jazz"', '"jazz" = "Folk, World, & Country"')
        (tmp_path / "g.toml").write_text(text)
        plan = tmp_path / "plan.jsonl"
        done = run("library", "plan", music, "-o", plan, "--show", "--map", tmp_path / "g.toml")
        assert "(none) -> Folk, World, & Country" in done.stdout.decode() and b"some players split" in done.stdout
        for kind in ("m3u8", "nsp"):
            assert run("library", "export", plan, "-o", tmp_path / kind, "--format", kind).returncode == 0
        assert run("library", "export", plan, "-o", tmp_path / "t.csv", "--format", "csv").returncode == 0
        assert (tmp_path / "m3u8" / "Folk, World, & Country.m3u8").is_file()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["plan", "."], b"a plan needs a place"),
            (["plan", ".", "--show", "--style"], b"--max-genres 2"),
            (["plan", ".", "--show", "--style", "--max-genres", "2", "--genres", "wide"], b"--genres wide"),
            (["plan", ".", "--show", "--decade", "date"], b"says something else already"),
            (["plan", ".", "--show", "--decade", "a=b"], b"no field that can be written"),
            (
                ["plan", ".", "--show", "--map", "gone.toml"],
                b"cannot be read (No such file or directory). ",
            ),
            (["plan", ".", "--show", "--map", "b.toml"], b"Did you mean 'a.toml'? `musicgenre library map init`"),
            (["plan", "b.flac", "--show"], b"there is no file or folder b.flac. Did you mean 'a.flac'?"),
            (["plan", "*.mp3", "--show"], b"there is no file or folder *.mp3"),
            (["history", "--run", "9"], b"there is no run 9"),
            (["apply", "gone.jsonl"], b"cannot be read"),
            (["undo"], b"undo needs to know what"),
            (["undo", "--last", "--run", "3"], b"undo needs to know what"),
            (["undo", "--run", "3"], b"there is no run 3"),
            (["undo", "--since", "yesterday"], b"is no time"),
        ],
    )
    def test_misuse(self, tmp_path: Path, words: list[str], said: bytes) -> None:
        (tmp_path / "a.flac").write_bytes(tagged("flac"))
        (tmp_path / "a.toml").touch()
        done = run("library", *words, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr

    def test_files_left_are_told(self, music: Path, tmp_path: Path) -> None:
        run("library", "plan", music, "-o", tmp_path / "plan.jsonl")
        (music / "c.m4a").unlink()
        (music / "other.mp3").hardlink_to(music / "e.mp3")
        done = run("library", "apply", tmp_path / "plan.jsonl", "--yes")
        assert done.returncode == 1 and b"has 2 names (hard links)" in done.stderr
        assert b"0 written, 2 left as they were" in done.stderr
        done = run("library", "apply", tmp_path / "plan.jsonl", "--yes", "--break-links")
        assert b"1 written, 1 left" in done.stderr and (music / "other.mp3").read_bytes() == tagged("mp3-bare")
