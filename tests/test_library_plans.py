"""What is proposed for tracks and their files: policies, memory, albums, maps, corrections, the lines of a plan."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import LibraryError, UsageError
from musicgenre.filetags.music_file import read_tags
from musicgenre.library.genre_map import GenreMap, map_to_begin_with, read_map
from musicgenre.library.journal import Journal
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow, decide, read_plan, selected
from musicgenre.library.playlists import write_lists, write_table
from musicgenre.library.write import Wanted, WriteOptions, Written, write_files
from musicgenre.listening.answer import Answer
from musicgenre.models.wide import NamedGenre
from tests.small_library import Ear, applied, planned, taken_back
from tests.tagged_files import tagged

pytestmark = pytest.mark.usefixtures("own_folders")


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
