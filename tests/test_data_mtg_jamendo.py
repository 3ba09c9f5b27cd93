"""MTG-Jamendo: its ragged tables, its categories and its five published splits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.data.sets import get_set, set_that_reads
from musicgenre.data.sets.mtg_jamendo import CATEGORIES, index_jamendo, is_jamendo, read_table
from musicgenre.data.splits import get_protocol, split
from musicgenre.errors import DataError, UsageError
from tests.sounds import music

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
ROCK, PIANO, SAD = "genre---rock", "instrument---piano", "mood/theme---sad"
ROWS = (
    f"track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\t{ROCK}\t{PIANO}",
    f"track_0000215\tartist_000014\talbum_000031\t15/215.mp3\t151.4\t{ROCK}",
    f"track_0000382\tartist_000020\talbum_000046\t82/382.mp3\t211.1\t{PIANO}\t{SAD}\t",
    f"track_0000387\tartist_000021\talbum_000047\t87/387.mp3\t346.2\t{SAD}",
)


def write(path: Path, rows: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the repository with two splits, and the audio, one of it at the low bit rate."""
    sound = tmp_path / "one.mp3"
    soundfile.write(sound, music(0.3, 16000, 1), 16000, format="MP3")
    for name in ("14/214.mp3", "15/215.low.mp3", "82/382.mp3", "87/387.mp3"):
        (tmp_path / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sound, tmp_path / "audio" / name)
    sound.unlink()
    for number, order in ((0, (0, 2, 3)), (1, (3, 2, 0))):
        for part, row in zip(("train", "validation", "test"), order, strict=True):
            own = [ROWS[row]] + ([ROWS[1]] if row == 0 else [])
            write(tmp_path / f"data/splits/split-{number}/autotagging-{part}.tsv", own)
    return tmp_path


def test_reads_ragged_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "autotagging.tsv", ROWS)
    assert is_jamendo(path)
    assert set_that_reads(path) is get_set("mtg-jamendo")
    rows = read_table(path)
    assert [row.tags for row in rows] == [(ROCK, PIANO), (ROCK,), (PIANO, SAD), (SAD,)]
    assert (rows[0].artist_id, rows[0].path, rows[0].duration_s) == ("artist_000014", "14/214.mp3", "124.6")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_table(path) == rows


TAGS = st.builds("{}---{}".format, st.sampled_from(CATEGORIES), st.text("abc01", min_size=1, max_size=5))


@given(st.lists(st.lists(TAGS, unique=True, max_size=5), max_size=8))
@settings(max_examples=40)
def test_any_tags_come_back(tmp_path: Path, tags: list[list[str]]) -> None:
    rows = ["\t".join([f"t{n}", "a", "b", f"{n}.mp3", "1.5", *own]) for n, own in enumerate(tags)]
    assert [list(row.tags) for row in read_table(write(tmp_path / "t.tsv", rows))] == tags


@given(st.text(alphabet='\t\n"genre---:01.,ab', max_size=120))
@settings(max_examples=60)
def test_noise_is_an_error_or_a_table(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "t.tsv", [text])
    try:
        assert all(row.track_id for row in read_table(path))
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("t1\ta\tb\tp.mp3", "line 2.*'4 cells'"),
        (f"t1\ta\tb\tp.mp3\tlong\t{ROCK}", "line 2, column DURATION: 'long'"),
        (f"t1\ta\tb\tp.mp3\tinf\t{ROCK}", "column DURATION: 'inf'"),
        (f"\ta\tb\tp.mp3\t1\t{ROCK}", "column TRACK_ID: ''.*not empty"),
        (f"t1\t\tb\t\t1\t{ROCK}", "column ARTIST_ID.*column PATH"),
        (f"t1\ta\0\tb\tp.mp3\t1\t{ROCK}", "column ARTIST_ID.*an id"),
        (f"t1\ta\tb\x1b\tp.mp3\t1\t{ROCK}", "column ALBUM_ID.*an id"),
        ("t1\ta\tb\tp.mp3\t1\trock", "column TAGS: 'rock'.*three hyphens"),
        ("t1\ta\tb\tp.mp3\t1\tmood---sad", "column TAGS: 'mood---sad'"),
        (f"t1\ta\tb\tp.mp3\t1\t{ROCK}\nt1\ta\tb\tq.mp3\t1\t{ROCK}", "line 3, column TRACK_ID: 't1'.*line 2 has it"),
    ],
)
def test_every_bad_cell_is_named(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(DataError, match=f"(?s){problem}"):
        read_table(write(tmp_path / "t.tsv", [row]))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_table(path)
    path.write_text("TRACK_ID\tTAGS\n")
    with pytest.raises(DataError, match="has no column"):
        read_table(path)
    path.write_text(f"{HEADER}\tMORE\n")
    with pytest.raises(DataError, match="line 1"):
        read_table(path)


def test_one_table_with_chosen_categories(folder: Path) -> None:
    path = write(folder / "data" / "autotagging.tsv", ROWS)
    found = index_jamendo(path, clips=folder / "audio")
    assert [(t.track_id[-3:], t.label, t.labels, t.group) for t in found.manifest.tracks] == [
        ("214", "", (ROCK, PIANO), "artist_000014"),
        ("215", "", (ROCK,), "artist_000014"),
        ("382", "", (PIANO, SAD), "artist_000020"),
        ("387", "", (SAD,), "artist_000021"),
    ]
    assert found.manifest.tracks[1].path == folder / "audio" / "15" / "215.low.mp3"
    assert found.manifest.tracks[0].columns["listed_duration_s"] == "124.6"
    assert found.skipped == ()
    moods = index_jamendo(path, clips=folder, tags="mood/theme", drop_untagged=True)
    assert [track.labels for track in moods.manifest.tracks] == [(SAD,), (SAD,)]
    assert len(moods.expected) == 2
    with pytest.raises(DataError, match=r"no tag 'mood/them'.*Did you mean 'mood/theme'"):
        index_jamendo(path, clips=folder, tags="mood/them")
    (folder / "audio/14/214.mp3").unlink()
    shutil.copy(folder / "audio/87/387.mp3", folder / "audio/14/999.mp3")
    assert {(path.name, why) for path, why in index_jamendo(path, clips=folder / "audio").skipped} == {
        ("214.mp3", "there is no such file"),
        ("999.mp3", "no row names it"),
    }


def test_published_splits(folder: Path) -> None:
    found = index_jamendo(folder)
    manifest = read_manifest(write_manifest(found.manifest, folder / "manifest.csv"))
    assert [t.columns["published_parts"] for t in manifest.tracks] == [
        "train test - - -",
        "train test - - -",
        "validation validation - - -",
        "test train - - -",
    ]
    assert [t.split for t in split(manifest, "mtg-jamendo").tracks] == ["train", "train", "validation", "test"]
    assert [t.split for t in split(manifest, "mtg-jamendo", number=1).tracks] == [
        "test",
        "test",
        "validation",
        "train",
    ]
    assert "number" in get_protocol("mtg-jamendo").options
    with pytest.raises(DataError, match="split 2 finds no train and no validation and no test track"):
        split(manifest, "mtg-jamendo", number=2)
    with pytest.raises(UsageError, match="has no split 5"):
        split(manifest, "mtg-jamendo", number=5)
    plain = index_jamendo(folder / "data/splits/split-0/autotagging-train.tsv", clips=folder / "audio").manifest
    with pytest.raises(DataError, match="as its published_parts"):
        split(plain, "mtg-jamendo")


def test_lists_that_disagree(folder: Path) -> None:
    path = folder / "data/splits/split-1/autotagging-test.tsv"
    write(path, [ROWS[0].replace("rock", "pop")])
    with pytest.raises(DataError, match=r"line 2: track_0000214 has another file, artist or tags"):
        index_jamendo(folder)
    write(path, [ROWS[2]])
    with pytest.raises(DataError, match="is in validation of the same split as well"):
        index_jamendo(folder)
    (folder / "data/splits/split-0/autotagging-test.tsv").unlink()
    write(path, [ROWS[0]])
    with pytest.raises(DataError, match=r"autotagging-test\.tsv cannot be found"):
        index_jamendo(folder)
    with pytest.raises(DataError, match=r"autotagging_top50tags-train\.tsv"):
        index_jamendo(folder, tags="top50")
    shutil.rmtree(folder / "data")
    with pytest.raises(DataError, match="holds no data/splits"):
        index_jamendo(folder)
