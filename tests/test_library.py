"""Plans are made, looked at, applied and taken back; whatever happens, files are old or new and the journal agrees."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import LibraryError, UsageError
from musicgenre.filetags.music_file import read_tags
from musicgenre.library.genre_map import GenreMap, map_to_begin_with, read_map
from musicgenre.library.journal import Journal, journal_path
from musicgenre.library.make_plan import PlanOptions, make_plan
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow, decide, read_plan, selected
from musicgenre.library.playlists import write_lists, write_table
from musicgenre.library.undo import undo
from musicgenre.library.write import Left, Wanted, WriteOptions, Written, settle_open, write_files
from musicgenre.listening.answer import Answer
from musicgenre.models.wide import NamedGenre
from tests.cli import run
from tests.limits import GUARD_S
from tests.small_library import Ear, contents, genres, make_library
from tests.tagged_files import MAKERS, tagged

SUFFIXES = {
    "m4a": ".m4a",
    "flac": ".flac",
    "ogg": ".ogg",
    "opus": ".opus",
    "wma": ".wma",
    "wav": ".wav",
    "aiff": ".aiff",
}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Seven files: three without a genre."""
    return make_library(tmp_path / "music")


def planned(paths: Sequence[Path], ear: Ear, **options: Any) -> list[PlanRow]:
    with HeardMemory() as memory, Journal() as journal:
        rows = make_plan([str(path) for path in paths], ear, memory, journal, PlanOptions(**options), settings="x")  # type: ignore[arg-type]
        return list(rows)


def applied(rows: Sequence[PlanRow], **options: Any) -> list[Written | Left]:
    wanted = [
        Wanted(row.path, row.set, row.sound_sha256, row.tags_sha256, row.model, row.model_sha256)
        for row in rows
        if row.write
    ]
    with Journal() as journal:
        return list(write_files(journal, journal.begin("apply"), wanted, WriteOptions(**options)))


def taken_back(**which: Any) -> list[Written | Left]:
    with Journal() as journal:
        return list(undo(journal, journal.changes(state="done", **which), WriteOptions()))


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


@pytest.mark.parametrize(
    ("policy", "now", "written"),
    [
        ("keep", ("Rock",), None),
        ("keep", (), ("jazz", "bebop")),
        ("merge", ("Rock", "Jazz"), ("Rock", "Jazz", "bebop")),
        ("merge", ("jazz", "bebop"), None),
        ("merge", ("Be-Bop", "!!!"), ("Be-Bop", "!!!", "jazz")),
        ("replace", ("Rock",), ("jazz", "bebop")),
        ("replace", ("jazz", "bebop"), None),
    ],
)
def test_policies(policy: Any, now: tuple[str, ...], written: tuple[str, ...] | None) -> None:
    row = PlanRow("x", write=False, now=now, proposed=("jazz", "bebop", "pop"), why="heard")
    made = decide(row, policy=policy, ours={}, update_own=False, max_genres=2, extra={})
    assert made.write == (written is not None) and made.set.get("genre") == written
    assert made.why == ("heard" if written else {"keep": "kept"}.get(policy, "same"))


def test_what_is_ours_may_be_renewed_and_a_hand_edit_is_respected(music: Path) -> None:
    path = music / "e.mp3"
    applied(planned([path], Ear()))
    assert planned([path], Ear(e=("pop", 0.9)))[0].why in ("kept",)
    # the same ear remembers; another one hears anew
    other = Ear(e=("pop", 0.9))
    other.model_sha256 = "f" * 64
    [row] = planned([path], other, update_own=True)
    assert row.write and row.set == {"genre": ("pop",)}
    applied([row])
    with Journal() as journal:
        wanted = Wanted(str(path), {"genre": ("By hand",)}, row.sound_sha256, read_tags(path).tags_sha256)
        assert len(list(write_files(journal, journal.begin("apply"), [wanted], WriteOptions()))) == 1
    path.write_bytes(path.read_bytes().replace(b"By hand", b"My hand"))
    [row] = planned([path], other, update_own=True)
    assert not row.write and row.why == "kept" and row.now == ("My hand",)


def test_what_was_heard_is_known_again_by_its_sound(music: Path, tmp_path: Path) -> None:
    ear = Ear()
    (music / "copy.mp3").write_bytes((music / "b.mp3").read_bytes())
    paths = sorted(music.iterdir())
    rows = planned(paths, ear)
    # b.mp3, e.mp3 and the copy hold the same sound, whatever their tags
    assert len(ear.asked) == 6 and len(rows) == 8

    applied(planned(paths, ear, policy="replace"))
    moved = (music / "a.flac").rename(tmp_path / "moved.flac")
    planned([*sorted(music.iterdir()), moved], ear)
    assert len(ear.asked) == 6
    wav = tagged("wav-bare")
    (music / "f.wav").write_bytes(wav[:2000] + b"\1\2\3\4" + wav[2004:])
    planned([music / "f.wav"], ear)
    assert len(ear.asked) == 7


def test_a_damaged_memory_is_made_anew(music: Path, tmp_path: Path) -> None:
    ear = Ear()
    planned([music / "a.flac"], ear)
    (tmp_path / "cache" / "heard.sqlite").write_bytes(b"no database" * 1000)
    planned([music / "a.flac"], ear)
    assert ear.asked == ["a.flac", "a.flac"]


def test_a_memory_whose_names_are_no_text_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "heard.sqlite"
    with HeardMemory(path) as memory:
        memory.remember("0", "x", {"genre": "jazz"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE heard", b"CREATE \x80ABLE heard"))
    with HeardMemory(path) as memory:
        assert memory.heard("0", "x") is None


def test_albums_answer_together_where_they_agree(music: Path) -> None:
    files = sorted(music.glob("*.mp3")) + sorted(music.glob("*.ogg")) + sorted(music.glob("*.flac"))
    for path in files:
        path.unlink()
    for stem in "pqrst":
        kind = {"p": "flac", "q": "ogg", "r": "mp3-2.3", "s": "mp3-2.4", "t": "wavpack"}[stem]
        (music / f"{stem}.dat").write_bytes(tagged(kind))
    paths = [music / f"{stem}.dat" for stem in "prqt"]  # of one album; the two MP3s hold one sound
    ear = Ear(p=("jazz", 0.9), q=("jazz", 0.6), r=("rock", 0.8), t=("jazz", 0.45))
    rows = {Path(row.path).stem: row for row in planned(paths, ear, policy="replace", by_album=True)}
    assert {row.set["genre"] for row in rows.values()} == {("jazz",)}
    assert all(row.why == "album" for row in rows.values())
    assert rows["r"].note.startswith("alone it was heard as rock") and not rows["p"].note

    apart = Ear(p=("jazz", 0.9), q=("pop", 0.9), r=("rock", 0.8), t=("jazz", 0.3))
    apart.model_sha256 = "f" * 64
    rows = {Path(row.path).stem: row for row in planned(paths, apart, policy="replace", by_album=True)}
    assert rows["q"].set["genre"] == ("pop",) and rows["t"].why == "unsure" and rows["p"].why == "heard"


class WideEar(Ear):
    """Names what it is told to of the wide vocabulary: what leads, and all `(name, family, score, calibrated)`."""

    def classify(self, path: str) -> Answer:
        leading, told = self.answers[Path(path).stem]
        genres = tuple(NamedGenre(*values) for values in told)
        reason: Any = None if told else "low confidence"
        scores = {"jazz": 0.6, "pop": 0.4}
        return Answer(path, 30.0, 18.0, leading, 0.5, scores, model=self.model, genres=genres, reason=reason)


ELECTRONIC = [("electronic", "electronic", 0.5, False), ("house", "electronic", 0.5, False)]
POP = [("pop", "pop", 0.8, True)]
HOUSE, ALL, NOTHING = ("house", ELECTRONIC), ("house", ELECTRONIC + POP), ("unsure", [])


def test_wide_genres_are_planned_family_first(music: Path) -> None:
    tracks = [music / "a.flac", music / "b.mp3", music / "c.m4a"]
    ear = WideEar(a=ALL, b=NOTHING, c=("pop", POP))
    for most, proposed in ((1, ("house",)), (2, ("electronic", "house")), (3, ("electronic", "house", "pop"))):
        first, second, third = planned(tracks, ear, policy="replace", max_genres=most)
        assert (first.proposed, first.confidence) == (proposed, None), "a tag's score is no probability"
        assert (second.proposed, second.why) == ((), "unsure")
        assert (third.proposed, third.confidence) == (("pop",), 0.5)

    without = GenreMap(labels={"house": ()})
    [row] = planned(tracks[:1], ear, policy="replace", max_genres=2, genre_map=without)
    assert row.proposed == ("electronic", "pop"), "what a map drops takes no place"


def test_an_album_has_the_wide_genres_of_two_thirds_of_its_tracks(music: Path) -> None:
    tracks = [music / "a.flac", music / "b.mp3", music / "d.ogg"]
    ear = WideEar(a=ALL, b=HOUSE, d=("pop", POP))
    rows = planned(tracks, ear, policy="replace", max_genres=3, by_album=True)
    assert {row.proposed for row in rows} == {("electronic", "house", "pop")}
    assert {row.confidence for row in rows} == {None}

    apart = WideEar(a=HOUSE, b=("pop", POP), d=NOTHING)
    apart.model_sha256 = "f" * 64  # another ear: nothing is remembered of it
    rows = planned(tracks, apart, policy="replace", max_genres=3, by_album=True)
    assert [row.proposed for row in rows] == [("electronic", "house"), ("pop",), ()]


def test_moods_and_decades_go_into_fields_of_their_own(music: Path) -> None:
    [row] = planned([music / "e.mp3"], Ear(), mood=True, decade="grouping", style=True, max_genres=2)
    assert row.set == {"genre": ("jazz", "bebop"), "mood": ("happy",), "grouping": ("1980s",)}
    [row] = planned([music / "b.mp3"], Ear(), mood=True, decade="custom:DECADE")
    assert row.write and row.why == "kept" and row.set == {"mood": ("happy",), "custom:DECADE": ("1980s",)}
    before = (music / "b.mp3").read_bytes()
    applied([row])
    assert read_tags(music / "b.mp3").moods == ("happy",) and read_tags(music / "b.mp3").genres == ("Rock",)
    assert len(taken_back()) == 1 and (music / "b.mp3").read_bytes() == before


def test_a_field_that_holds_something_is_kept(music: Path) -> None:
    applied(planned([music / "e.mp3"], Ear(), mood=True, decade="custom:DECADE"))
    file = read_tags(music / "e.mp3")
    assert file.moods == ("happy",) and file.genres == ("jazz",)
    [row] = planned([music / "e.mp3"], Ear(), mood=True, decade="custom:DECADE")
    assert not row.write and row.set == {}

    path = str(music / "e.mp3")
    by_hand = Wanted(path, {"mood": ("Calm",), "custom:DECADE": ("1970s",)}, file.sound_sha256, file.tags_sha256)
    with Journal() as journal:
        assert isinstance(next(write_files(journal, journal.begin("apply"), [by_hand], WriteOptions())), Written)
    [row] = planned([music / "e.mp3"], Ear(), mood=True, decade="custom:DECADE")
    assert not row.write
    [row] = planned([music / "e.mp3"], Ear(), mood=True, decade="custom:DECADE", policy="replace")
    assert row.set == {"mood": ("happy",), "custom:DECADE": ("1980s",)}


def test_a_memory_that_another_holds_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HeardMemory(tmp_path / "heard.sqlite").close()
    before = (tmp_path / "heard.sqlite").read_bytes()

    def locked_out(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(sqlite3, "connect", locked_out)
    with pytest.raises(LibraryError, match=r"heard\.sqlite cannot be opened \(database is locked\)"):
        HeardMemory(tmp_path / "heard.sqlite")
    assert (tmp_path / "heard.sqlite").read_bytes() == before


def test_files_that_cannot_be_heard_or_written_have_a_row(music: Path) -> None:
    class Deaf(Ear):
        def classify(self, path: str) -> Answer:
            from musicgenre.errors import AudioError

            raise AudioError("it is broken")

    (music / "z.tta").write_bytes(b"TTA1" + bytes(100))
    rows = planned([music / "a.flac", music / "gone.mp3"], Deaf())
    assert [row.why for row in rows] == ["failed", "failed"]
    assert "broken" in rows[0].note and "could not be read" in rows[1].note
    [row] = planned([music / "z.tta"], Ear())
    assert row.why == "failed" and "cannot be written" in row.note and not row.write


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


def test_corrections_win_from_then_on(music: Path) -> None:
    [row] = planned([music / "e.mp3"], Ear())
    with Journal() as journal:
        journal.correct(row.sound_sha256, ("Swing",))
    [row] = planned([music / "e.mp3"], Ear())
    assert row.why == "corrected" and row.set == {"genre": ("Swing",)} and row.correction is None


class TestPlans:
    def test_a_line_is_a_row(self, tmp_path: Path) -> None:
        row = PlanRow("/m/\udcff.mp3", write=True, now=("a",), set={"genre": ("Ж",)}, meant=("Ж",), confidence=0.5)
        (tmp_path / "plan").write_text(row.to_line())
        assert list(read_plan(tmp_path / "plan")) == [row]

    def test_what_a_person_edits_is_a_correction(self) -> None:
        row = PlanRow("x", write=True, set={"genre": ("Soul",)}, meant=("jazz",))
        assert row.correction == ("Soul",) and PlanRow("x", write=True, set={}).correction is None

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("no json", "no JSON"),
            ("[]", "names no path"),
            ('{"path": "x", "write": true}', "format"),
            ('{"format": 1, "path": "x", "write": "yes"}', "neither true nor false"),
            ('{"format": 1, "path": "x", "write": true, "set": {"date": "1999"}}', "fields are genre"),
            ('{"format": 1, "path": "x", "write": true, "set": {"genre": 3}}', "no list of names"),
            ('{"format": 1, "path": "x", "write": true, "set": []}', "no table"),
            ('{"format": 1, "path": "x", "write": true, "confidence": 7}', "no probability"),
            ('{"format": 1, "path": "x", "write": true, "artist": 7}', "no text"),
            ('{"format": 1, "path": "x", "write": true, "gener": []}', "'gener' that no plan has"),
        ],
    )
    def test_lines_that_are_none_are_named(self, tmp_path: Path, line: str, said: str) -> None:
        (tmp_path / "plan").write_text(f"\n{line}\n")
        with pytest.raises(LibraryError, match="line 2 of") as caught:
            list(read_plan(tmp_path / "plan"))
        assert said in str(caught.value)

    def test_an_edited_name_may_stand_alone(self, tmp_path: Path) -> None:
        (tmp_path / "plan").write_text('{"format": 1, "path": "x", "write": true, "set": {"genre": " Soul "}}')
        assert next(read_plan(tmp_path / "plan")).set == {"genre": ("Soul",)}

    def test_rows_are_selected(self) -> None:
        rows = [
            PlanRow("a", write=True, now=("x",), proposed=("Jazz",), confidence=0.9, album="One"),
            PlanRow("b", write=True, proposed=("pop",), confidence=0.6, album="Two"),
            PlanRow("c", write=True, set={"genre": ("Soul",)}, why="corrected"),
        ]

        def names(**options: Any) -> str:
            return "".join(row.path for row in selected(rows, **options))

        assert names(only_missing=True) == "bc" and names(min_confidence=0.8) == "ac"
        assert names(genres=["jazz", "SOUL"]) == "ac" and names(albums=["two"]) == "b"


class TestMaps:
    def test_labels_become_ones_own(self, tmp_path: Path) -> None:
        (tmp_path / "m.toml").write_text(
            'casing = "title"\nwrite_parents = true\n'
            '[labels]\njazz = "bebop jazz"\npop = []\nrock = ["Rock", "guitar"]\n'
            '[parents]\n"bebop jazz" = "Jazz"\n[ignore.artists]\n"nina*" = ["Rock"]\n[ignore.folders]\nbooks = ["*"]\n'
        )
        made = read_map(tmp_path / "m.toml", ["jazz", "pop", "rock", "soul"])
        assert made.names(["jazz"]) == ("Bebop Jazz", "Jazz") and made.names(["pop"]) == ()
        assert made.names(["rock", "soul"], artist="Nina Simone") == ("Guitar", "Soul")
        assert made.names(["rock"], path="/m/Books/1.mp3") == ()

    def test_only_what_is_allowed(self) -> None:
        made = GenreMap(whitelist=("JAZZ",), casing="lower")
        assert made.names(["Jazz", "Pop"]) == ("jazz",)

    def test_parents_that_go_in_a_circle_end(self) -> None:
        made = GenreMap(parents={"a": "b", "b": "a"}, write_parents=True)
        assert made.names(["a"]) == ("a", "b")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("x = 1", "a key 'x'"),
            ("casing = 'up'", "as-is, title, lower"),
            ("[labels]\njaz = 'x'", "Did you mean 'jazz'"),
            ("[labels]\njazz = 3", "A name, or a list of names"),
            ("labels = 3", "A table"),
            ("write_parents = 1", "true, false"),
            ("[parents]\na = ['b']", "one broader genre"),
            ("ignore = 1", "ignore.artists"),
            ("=", "cannot be read"),
            ("parents = 5", "A table"),
            (f"casing = {'9' * 5_000}", "cannot be read"),
            (f"casing = 0x{'f' * 9_000}", "a number of thousands of digits"),
            (f"casing = {'[' * 5_000}", "cannot be read"),
            ('[labels]\njazz = "a\\u0007"', "control characters"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "m.toml").write_text(text)
        with pytest.raises(UsageError) as caught:
            read_map(tmp_path / "m.toml", ["jazz"])
        assert said in str(caught.value)

    @given(st.lists(st.text(min_size=1).filter(str.isprintable), unique=True, max_size=5))
    def test_one_to_begin_with_changes_nothing(self, labels: list[str]) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.toml"
            path.write_text(map_to_begin_with(labels, "a model"), encoding="utf-8")
            made = read_map(path, labels)
        assert all(made.names([label]) == ((label.strip(),) if label.strip() else ()) for label in labels)


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


def test_playlists_and_tables(tmp_path: Path) -> None:
    rows = [
        PlanRow("/m/a.mp3", write=True, set={"genre": ("AC/DC: rock",)}, proposed=("AC/DC: rock",)),
        PlanRow("/m/b.mp3", write=False, now=("jazz", "pop")),
        PlanRow("/m/new\nline.mp3", write=False, now=("jazz",)),
    ]
    made = list(write_lists(rows, tmp_path / "lists", is_smart=False, overwrite=False))
    assert [path.name for path in made] == ["AC_DC_ rock.m3u8", "jazz.m3u8", "pop.m3u8"]
    assert made[1].read_text() == "#EXTM3U\n/m/b.mp3\n"
    with pytest.raises(UsageError, match="exists already"):
        list(write_lists(rows, tmp_path / "lists", is_smart=False, overwrite=False))
    smart = list(write_lists(rows, tmp_path / "smart", is_smart=True, overwrite=False))
    assert json.loads(smart[1].read_text())["all"] == [{"is": {"genre": "jazz"}}]
    write_table(rows, tmp_path / "t.csv", overwrite=False)
    assert (tmp_path / "t.csv").read_text().splitlines()[2].split(",")[:1] == ["/m/b.mp3"]


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
        again = run("library", "apply", plan, "--yes")  # as after an interruption: what is written is written
        assert again.returncode == 0 and b"0 written, 2 said so already" in again.stderr

        done = run("library", "history")
        assert b"apply  2 files" in done.stdout and b"bytes per file that was written" in done.stderr
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
            (["plan", ".", "--show", "--map", "gone.toml"], b"cannot be read"),
            (["apply", "gone.jsonl"], b"cannot be read"),
            (["undo"], b"undo needs to know what"),
            (["undo", "--last", "--run", "3"], b"undo needs to know what"),
            (["undo", "--run", "3"], b"there is no run 3"),
            (["undo", "--since", "yesterday"], b"is no time"),
        ],
    )
    def test_misuse(self, tmp_path: Path, words: list[str], said: bytes) -> None:
        (tmp_path / "a.flac").write_bytes(tagged("flac"))
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


@pytest.mark.parametrize("kind", MAKERS)
def test_every_container_through_the_journal(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(tagged(kind))
    [row] = planned([path], Ear(), policy="replace")
    applied([row])
    assert read_tags(path).genres == ("jazz",)
    assert all(isinstance(outcome, Written) for outcome in taken_back()) and path.read_bytes() == tagged(kind)
