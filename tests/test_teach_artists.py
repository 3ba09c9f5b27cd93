"""Who plays: groups from tables, folders and tags; trees of artists; genres from the tags of a library."""

from __future__ import annotations

from pathlib import Path

import mutagen
import numpy as np
import pytest

from musicgenre.errors import DataError, UsageError
from musicgenre.teaching.advice import meaning_for_new_artists, notes_on_confused
from musicgenre.teaching.artists import TrackTags, groups_of, name_key, read_all_tags, refuse_artist_tree, with_artists
from musicgenre.teaching.from_tags import lessons_from_tags
from musicgenre.teaching.lessons import Lesson
from musicgenre.teaching.sources import LessonSource
from tests.sounds import music, write


def tagged(path: Path, sound: np.ndarray | None = None, **tags: str) -> Path:
    """A FLAC file with these tags, at 8 kHz; without `sound` (n,) a short one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, music(0.1, 8_000, 1) if sound is None else sound[:, np.newaxis].astype(np.float32), 8_000)
    file = mutagen.File(path)
    for name, value in tags.items():
        file[name] = value
    file.save()
    return path


def tree(sizes: dict[str, int], artist: str = "") -> tuple[list[Lesson], dict[Path, TrackTags]]:
    """Lessons a folder; `artist` makes the tags' artist of the folder's name and the track's number."""
    lessons, tags = [], {}
    for label, size in sizes.items():
        for number in range(size):
            path = Path(f"/music/{label}/{number}.mp3")
            lessons.append(Lesson(path, label))
            if artist:
                tags[path] = TrackTags((), (name_key(artist.format(label=label, number=number)),))
    return lessons, tags


def test_names_compare_as_people_read_them() -> None:
    assert name_key("The Beatles") == name_key("Beatles, The") == name_key("beatles") == "beatles"
    assert name_key("AC/DC") == name_key("ACDC")
    assert name_key("!!!") == "!!!"
    assert {name_key(name) for name in ("", "Various Artists", "V.A.", "unknown artist")} == {""}
    assert name_key("Theremin") == "theremin"


def test_tracks_that_share_any_name_are_one_group() -> None:
    groups = groups_of([{"a"}, {"b"}, {"a", "c"}, set(), {"c"}, set()])
    assert groups == ["a", "b", "a", "", "a", ""]


def test_tags_give_artist_and_album_artist_and_no_guests(tmp_path: Path) -> None:
    tags = read_all_tags(
        [
            tagged(tmp_path / "a.flac", artist="Ann feat. Bob", albumartist="Various Artists", genre="Ska"),
            tagged(tmp_path / "b.flac", artist="Bob", albumartist="The Bobs"),
            tagged(tmp_path / "c.flac"),
            tmp_path / "gone.flac",
        ]
    )
    assert [found.artists for found in tags.values()] == [("ann",), ("bob", "bobs"), (), ()]
    assert [found.genres for found in tags.values()] == [("Ska",), (), (), ()]


def test_artists_from_a_level_a_table_and_tags_together(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("ska/Ann/1.mp3", "ska/Ann/x/2.mp3", "ska/Bob/3.mp3", "dub/4.mp3")]
    lessons = [Lesson(path, path.relative_to(tmp_path).parts[0]) for path in paths]

    def groups(*wanted: str, tags: dict[Path, TrackTags] | None = None) -> list[str]:
        return [lesson.group for lesson in with_artists(lessons, tmp_path, wanted, tags or {}, first_level=2)]

    assert groups("2") == ["ann", "ann", "bob", ""]
    assert groups("none") == groups() == ["", "", "", ""]
    by_path, by_id = tmp_path / "by_path.csv", tmp_path / "by_id.csv"
    by_path.write_text("path,artist\nska/Bob/3.mp3,Cid\ndub/../dub/4.mp3,cid\n")
    by_id.write_text("track_id,artist_group\n4,Bob\n")
    assert groups(str(by_path)) == ["", "", "cid", "cid"]
    assert groups("2", str(by_id)) == ["ann", "ann", "bob", "bob"]
    assert groups("2", str(by_path)) == ["ann", "ann", "bob", "bob"]
    assert groups("tags", tags={paths[0]: TrackTags((), ("eve",))}) == ["eve", "", "", ""]

    (tmp_path / "other.csv").write_text("path,artist\nelsewhere.mp3,Cid\n")
    (tmp_path / "odd.csv").write_text("name,artist\nx,Cid\n")
    for wanted, message in (
        (("1",), "no level of"),
        (("9",), "no track lies in a folder of level 9"),
        (("folder",), "says nothing of artists"),
        (("none", "2"), "goes with no other"),
        ((str(tmp_path / "other.csv"),), "artist of none of the tracks"),
        ((str(tmp_path / "odd.csv"),), "no table of artists"),
        ((str(tmp_path / "missing.csv"),), "missing.csv"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            groups(*wanted)


GENRES = [
    "Blues",
    "Classical",
    "Country",
    "Disco",
    "Funk",
    "Jazz",
    "Metal",
    "Pop",
    "Punk",
    "Rap",
    "Reggae",
    "Rock",
    "Ska",
]
ARTISTS = {f"Band {number}": 8 for number in range(42)}


@pytest.mark.parametrize(
    ("sizes", "artist", "sign"),
    [
        (ARTISTS, "", "42 folders of mostly 8 tracks"),
        (ARTISTS, "{label}", "42 of 42 folders have the name of the artist"),
        ({"Band A": 40, "Band B": 60}, "The {label}", "2 of 2 folders have the name of the artist"),
        (ARTISTS, "someone else than {label}", "42 of 42 folders have one artist each"),
    ],
)
def test_a_tree_of_artists_is_refused_with_the_ways_to_go_on(sizes: dict[str, int], artist: str, sign: str) -> None:
    with pytest.raises(DataError, match=f"look like artists, not genres: {sign}") as caught:
        refuse_artist_tree(Path("/music"), *tree(sizes, artist))
    assert all(way in str(caught.value) for way in ("--from-tags", "CSV", "folders of genres", "--anyway"))


@pytest.mark.parametrize(
    ("sizes", "artist"),
    [
        (ARTISTS, "player {number}"),  # several artists in each: they are genres, however many and small
        ({"Ska": 8, "Mine": 4, "Dub": 5}, ""),
        ({f"Mood {number}": 40 for number in range(30)}, ""),
        (dict.fromkeys(GENRES, 5), ""),
        ({"ska": 9, "dub": 9}, "{label} artist"),  # an artist a genre is too little to learn, and no tree of artists
    ],
)
def test_a_tree_of_genres_is_none(sizes: dict[str, int], artist: str) -> None:
    refuse_artist_tree(Path("/music"), *tree(sizes, artist))


def test_how_deep_files_lie_says_nothing() -> None:
    lessons = [Lesson(Path(f"/music/{genre}/a/b/{n}.mp3"), genre) for genre in ("x", "y") for n in range(5)]
    refuse_artist_tree(Path("/music"), lessons, {})


def test_genres_of_a_library(tmp_path: Path) -> None:
    genres = {"Ska": 9, "ska": 3, "Dub": 12, "Polka": 4, "Other": 11}
    tags: dict[Path, TrackTags] = {tmp_path / "untagged.mp3": TrackTags()}
    for genre, size in genres.items():
        for number in range(size):
            tags[tmp_path / f"{genre}{number}.mp3"] = TrackTags((genre, "Second") if number == 0 else (genre,))
    lessons, warnings = lessons_from_tags(tmp_path, list(tags), tags)
    counts = {label: sum(lesson.label == label for lesson in lessons) for label in ("Ska", "Dub")}
    assert counts == {"Ska": 12, "Dub": 12} and len(lessons) == 24
    told = "\n".join(warnings)
    # The first genre that is one counts: of the track of `Other` it is the second.
    assert "11 of 40 files are left out: their tags name no genre" in told
    assert "fewer than 10 tracks are left out: Polka (4), Second (1)" in told
    assert "4 tracks have several genres" in told
    with pytest.raises(DataError, match=r"name 1 genre of 10 tracks or more: Dub.*Too small: Polka.*Ska \(9\)"):
        few = {path: found for path, found in tags.items() if not path.name.startswith("ska")}
        lessons_from_tags(tmp_path, list(few), few)
    with pytest.raises(DataError, match="no folder of music"):
        LessonSource(tmp_path / "untagged.mp3", from_tags=True).lessons()


def test_one_artist_never_stands_on_both_sides_of_what_tags_teach(tmp_path: Path) -> None:
    for number in range(10):
        tagged(tmp_path / "a" / f"{number}.flac", genre="Ska", artist=f"Ann {number % 3}")
        tagged(tmp_path / f"b{number % 2}" / f"{number}.flac", genre="Dub")
    lessons, warnings = LessonSource(tmp_path, from_tags=True).lessons()
    groups = {lesson.path.parent.name: set() for lesson in lessons}
    for lesson in lessons:
        groups[lesson.path.parent.name].add(lesson.group)
    assert groups == {
        "a": {"ann0", "ann1", "ann2"}, "b0": {str(tmp_path / "b0")}, "b1": {str(tmp_path / "b1")}
    }  # fmt: skip
    assert "the artists of 10 tracks are not known: those of one folder count as one" in warnings
    alone, _ = LessonSource(tmp_path, from_tags=True, artists=("none",)).lessons()
    assert {lesson.group for lesson in alone} == {""}


def test_the_tags_of_folders_of_genres_give_artists_unless_a_manifest_has_groups(tmp_path: Path) -> None:
    for genre in ("ska", "dub"):
        tagged(tmp_path / genre / "1.flac", artist="Ann")
        tagged(tmp_path / genre / "2.flac", artist="Bob")
    assert [lesson.group for lesson in LessonSource(tmp_path).lessons()[0]] == ["ann", "bob"] * 2
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,label,group\nska/1.flac,ska,X\ndub/1.flac,dub,\n")
    assert [lesson.group for lesson in LessonSource(manifest).lessons()[0]] == ["x", ""]
    manifest.write_text("path,label\nska/1.flac,ska\ndub/1.flac,dub\n")
    assert [lesson.group for lesson in LessonSource(manifest).lessons()[0]] == ["ann", "ann"]


def test_genres_that_cannot_be_told_apart_are_named() -> None:
    confusion = np.array([[6.0, 5.0, 0.0], [6.0, 5.0, 0.0], [1.0, 0.0, 10.0]])
    (note,) = notes_on_confused(confusion, ("pop", "rock", "metal"))
    assert note.startswith("pop and rock cannot be told apart: 11 of 22 rightly")
    assert notes_on_confused(np.diag([9.0, 9.0]), ("a", "b")) == []
    assert notes_on_confused(np.array([[2.0, 2.0], [2.0, 2.0]]), ("a", "b")) == [], "too few to say so"
    assert notes_on_confused(np.array([[40.0, 15.0], [15.0, 40.0]]), ("a", "b")) == [], "often confused, and known"


def test_what_a_score_means_for_new_artists() -> None:
    assert "expect as much for an artist it has never heard" in meaning_for_new_artists(12, 12)
    assert meaning_for_new_artists(12, 12, ["folk", "soul"]).startswith("nothing of folk, soul could be tested")
    assert "of 4 of 12 tracks are known" in meaning_for_new_artists(4, 12)
    assert "expect less for an artist it has never heard" in meaning_for_new_artists(0, 12)


def test_whoever_goes_on_with_folders_of_artists_gets_a_score_all_the_same(tmp_path: Path) -> None:
    for name in ("Ann", "Bob", "Cy"):
        for number in range(2):
            tagged(tmp_path / name / f"{number}.flac", artist=name)
    lessons, warnings = LessonSource(tmp_path, anyway=True).lessons()
    assert {lesson.group for lesson in lessons} == {""} and "telling these artists apart" in warnings[-1]

    tagged(tmp_path / "Cy" / "2.flac", artist="Dee")  # one folder of two artists: they can be kept apart
    lessons, warnings = LessonSource(tmp_path, anyway=True).lessons()
    assert all(lesson.group for lesson in lessons) and not warnings
