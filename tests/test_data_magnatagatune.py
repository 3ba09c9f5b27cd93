"""MagnaTagATune: its table of tags and its clips, on files of the original form."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.data.audit import audit
from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.data.sets import get_set, set_that_reads
from musicgenre.data.sets.magnatagatune import (
    ALL_TAGS,
    FAULTS,
    SYNONYMS,
    TOP_50,
    index_magnatagatune,
    is_annotations,
    names_after_merging,
    read_annotations,
    read_clip_info,
)
from musicgenre.data.validate import validate_manifest, validate_set
from musicgenre.errors import DataError, UsageError
from tests.mtat_table import CLIPS, FOUR, INFO, manifest_of, table
from tests.sounds import music


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short MP3."""
    path = tmp_path_factory.mktemp("sound") / "clip.mp3"
    soundfile.write(path, music(0.3, 16000, 1), 16000, format="MP3")
    return path


@pytest.fixture
def folder(tmp_path: Path, sound: Path) -> Path:
    """The four clips and their table."""
    for _, _, path in CLIPS:
        (tmp_path / "mp3" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sound, tmp_path / "mp3" / path)
    (tmp_path / "annotations_final.csv").write_text(table(CLIPS))
    return tmp_path


def test_the_tags_are_whole() -> None:
    assert len(set(ALL_TAGS)) == 188
    assert len(set(TOP_50)) == 50
    assert set(TOP_50) < set(ALL_TAGS)
    members = [tag for group in SYNONYMS for tag in group]
    assert len(members) == len(set(members))
    assert set(members) <= set(ALL_TAGS)
    names = names_after_merging(ALL_TAGS)
    assert len(set(names.values())) == 134
    assert {names[tag] for tag in ("female vocal", "woman singing", "female vocals", "women")} == {"female"}
    assert names["harpsicord"] == "harpsichord"
    assert names["electric"] == "electronic", "the member that papers use stands for its group"
    assert names_after_merging(["woman singing", "electro"]) == {
        "woman singing": "woman singing",
        "electro": "electro",
    }


def test_the_page_lists_the_synonyms_and_faults() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "magnatagatune.md").read_text("utf-8")
    names = names_after_merging(ALL_TAGS)
    for group in SYNONYMS:
        name = names[group[0]]
        assert f"| `{name}` | {', '.join(tag for tag in group if tag != name)} |" in page
    assert all(f"- `{path}`" in page for path in FAULTS)


@pytest.mark.parametrize("mark", ["\t", ",", ";"])
@pytest.mark.parametrize(("end", "mark_of_order"), [("\n", ""), ("\r\n", "\ufeff")])
@pytest.mark.parametrize("quote", ['"', ""])
def test_reads_every_spelling(tmp_path: Path, mark: str, end: str, mark_of_order: str, quote: str) -> None:
    path = tmp_path / "annotations_final.csv"
    path.write_bytes((mark_of_order + table(CLIPS, mark=mark, end=end, quote=quote)).encode())
    assert is_annotations(path)
    found = read_annotations(path)
    assert found.tags == FOUR
    assert [(row.clip_id, row.tags, row.path) for row in found.rows] == [(a, tuple(b), c) for a, b, c in CLIPS]


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("mp3_path\tpop\tclip_id\trock\na.mp3\t1\t7\t0\n")
    found = read_annotations(path)
    assert (found.tags, found.rows[0].clip_id, found.rows[0].tags) == (("pop", "rock"), "7", ("pop",))


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters=';"\t,'), min_size=1)


@given(
    tags=st.lists(NAMES.filter(lambda name: name not in ("clip_id", "mp3_path")), min_size=1, max_size=6, unique=True),
    data=st.data(),
)
@settings(max_examples=30)
def test_any_table_comes_back(tmp_path: Path, tags: list[str], data: st.DataObject) -> None:
    ids = data.draw(st.lists(NAMES, max_size=8, unique=True))
    rows = [(name, data.draw(st.lists(st.sampled_from(tags), unique=True)), f"{name}.mp3") for name in ids]
    path = tmp_path / "a.csv"
    path.write_text(table(rows, tags, mark=data.draw(st.sampled_from("\t,"))), encoding="utf-8")
    found = read_annotations(path)
    assert found.tags == tuple(tags)
    assert [(row.clip_id, set(row.tags), row.path) for row in found.rows] == [(a, set(b), c) for a, b, c in rows]


@given(data=st.binary(max_size=200) | st.text(alphabet='clip_idmp3_path01\t\n",', max_size=200).map(str.encode))
@settings(max_examples=60)
def test_noise_is_an_error_or_a_table(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.csv"
    for content in (data, b"clip_id\tpop\tmp3_path\n" + data):
        path.write_bytes(content)
        is_annotations(path)
        try:
            assert read_annotations(path).tags
        except DataError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("\ufeff\r\n\r\n", "is empty"),
        ("id|pop|mp3\n1|0|a\n", r"no column clip_id or mp3_path: it begins 'id\|pop\|mp3'"),
        ("clip_id\tmp3_path\n1\ta\n", "line 1.*'2 columns'.*a tag beside"),
        ("clip_id\tpop\tpop\tmp3_path\n1\t0\t0\ta\n", "line 1, column pop.*each column once"),
        ("clip_id\tpop;rock\tmp3_path\n1\t0\ta\n", "'pop;rock'.*without ';'"),
        ("clip_id\tpop\trock\tmp3_path\n1\t0\t0\ta\n2\t0\t2\tb\n", r"line 3, column rock: '2' \(valid: 0 or 1\)"),
        ("clip_id\tpop\trock\tmp3_path\n1\t\tyes\ta\n", "2 bad cells.*column pop: ''.*column rock: 'yes'"),
        ("clip_id\tpop\tmp3_path\n1\t0\n2\t0\ta\tb\n", "line 2.*'2 cells' .valid: 3 cells.*line 3.*'4 cells'"),
        ("clip_id\tpop\tmp3_path\n1,0,a.mp3\n", "line 2.*'1 cell'"),
        ("clip_id\tpop\tmp3_path\n1\t0\ta\n1\t1\tb\n", "line 3, column clip_id: '1'.*line 2 has it too"),
        ("clip_id\tpop\tmp3_path\n1\t0\ta\n2\t1\ta\n", "line 3, column mp3_path: 'a'.*line 2 has it too"),
        ("clip_id\tpop\tmp3_path\n\t0\ta\n", "line 2, column clip_id: ''"),
        ('clip_id\tpop\tmp3_path\n1\t0\t"a', "not valid CSV at line 2"),
    ],
)
def test_every_bad_cell_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "annotations_final.csv"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(DataError, match=f"(?s){problem}"):
        read_annotations(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "annotations_final.csv"
    path.write_bytes(table(CLIPS).encode("utf-16"))
    assert not is_annotations(path)
    with pytest.raises(DataError, match="UTF-16"):
        read_annotations(path)
    path.write_bytes(b"clip_id\tpop\tmp3_path\n1\t0\t\xff.mp3\n")
    assert is_annotations(path)
    with pytest.raises(DataError, match="byte 0xff on line 2"):
        read_annotations(path)
    assert not is_annotations(tmp_path)
    assert not is_annotations(tmp_path / "none")


def test_clips_become_tracks(folder: Path) -> None:
    found = index_magnatagatune(folder, tags="all")
    assert [(t.track_id, t.label, t.labels, t.group) for t in found.manifest.tracks] == [
        ("2", "", ("guitar", "electric"), "ann"),
        ("6", "", ("electronic",), "ann"),
        ("10", "", (), "ann"),
        ("11", "", ("drone",), "bob"),
    ]
    assert [t.columns["parent"] for t in found.manifest.tracks] == [
        "ann-best_of-07-song",
        "ann-best_of-07-song",
        "ann-best_of-07-song",
        "bob-only-02-other",
    ], "one title by one artist is one song, on whatever album"
    assert [t.columns["top50_tags"] for t in found.manifest.tracks] == ["1", "1", "0", "0"]
    assert {t.columns["duration_s"][:3] for t in found.manifest.tracks} <= {"0.3", "0.4"}
    assert len({t.columns["md5"] for t in found.manifest.tracks}) == 1
    assert (found.skipped, found.expected) == ((), ())
    assert found.notes[0].startswith("1 of 4 tracks have none of the 4 tags and are kept")
    assert found.notes[0].endswith(": 10")
    assert index_magnatagatune(folder / "annotations_final.csv", tags="all").manifest == found.manifest
    assert set_that_reads(folder / "annotations_final.csv") is get_set("magnatagatune")
    read_back = read_manifest(write_manifest(found.manifest, folder / "manifest.csv"))
    assert read_back.tracks == found.manifest.tracks


def test_tags_are_chosen_and_merged(folder: Path) -> None:
    def labels(**options: object) -> list[tuple[str, ...]]:
        return [track.labels for track in index_magnatagatune(folder, **options).manifest.tracks]

    assert labels(tags="drone, guitar") == [("guitar",), (), (), ("drone",)]
    assert labels(tags="all", merge_synonyms=True) == [("guitar", "electronic"), ("electronic",), (), ("drone",)]
    assert labels(tags="top50", merge_synonyms=True) == labels(tags="all", merge_synonyms=True)
    with pytest.raises(DataError, match=r"no tag 'classical', 'slow', 'techno', 'strings', 'drums' and 43 more"):
        labels(tags="top50")
    with pytest.raises(DataError, match=r"no tag 'electroni'.*Did you mean 'electronic'"):
        labels(tags="electroni")
    with pytest.raises(DataError, match="no tag 'electric'"):
        labels(tags="electric", merge_synonyms=True)
    with pytest.raises(UsageError, match="names no tag"):
        labels(tags=" , ")


def test_untagged_clips_are_dropped_on_demand(folder: Path) -> None:
    found = index_magnatagatune(folder, tags="guitar", drop_untagged=True)
    assert [track.track_id for track in found.manifest.tracks] == ["2"]
    assert [(path.name, why) for path, why in found.expected] == [
        ("ann-first-01-song-29-58.mp3", "has none of the tags"),
        ("ann-best_of-07-song-0-29.mp3", "has none of the tags"),
        ("bob-only-02-other-0-29.mp3", "has none of the tags"),
    ]
    with pytest.raises(DataError, match="no clip that can be used"):
        (folder / "annotations_final.csv").write_text(table([("1", (), CLIPS[0][2])]))
        index_magnatagatune(folder, tags="guitar", drop_untagged=True)


def test_nothing_is_lost(folder: Path, sound: Path) -> None:
    fault = next(iter(FAULTS))
    rows = [*CLIPS, ("12", ("drone",), "0/none.mp3"), ("13", ("drone",), ""), ("14", ("guitar",), "0/empty.mp3")]
    rows += [("15", ("guitar",), "0/noise.mp3"), ("35644", ("guitar",), fault)]
    (folder / "annotations_final.csv").write_text(table(rows))
    (folder / "mp3/0/empty.mp3").touch()
    (folder / "mp3/0/noise.mp3").write_bytes(b"\0" * 3000)
    (folder / "mp3" / fault).parent.mkdir()
    (folder / "mp3" / fault).touch()
    shutil.copy(sound, folder / "mp3/0/extra.mp3")
    found = index_magnatagatune(folder, tags="all")
    assert [track.track_id for track in found.manifest.tracks] == ["2", "6", "10", "11"]
    reasons = {path.name: why for path, why in found.skipped}
    assert reasons.pop("noise.mp3")
    assert reasons == {
        "13": "line 7 of annotations_final.csv names no file",
        "none.mp3": "there is no such file",
        "empty.mp3": "is empty (0 bytes)",
        "extra.mp3": "no row names it",
    }
    assert [(path.name, why) for path, why in found.expected] == [
        (Path(fault).name, "known fault: an empty file (0 bytes) in the published archive")
    ]
    kinds = {finding.path.name: finding.kind for finding in validate_set(get_set("magnatagatune"), folder).findings}
    assert kinds == {
        "13": "missing",
        "none.mp3": "missing",
        "empty.mp3": "corrupt",
        "noise.mp3": "corrupt",
        "extra.mp3": "extra",
        Path(fault).name: "odd",
    }


def test_rows_without_any_file(folder: Path) -> None:
    shutil.rmtree(folder / "mp3")
    with pytest.raises(DataError, match=r"none of the files.*Files such as f/ann.*--clips FOLDER.*--no-files"):
        index_magnatagatune(folder, tags="all")
    found = index_magnatagatune(folder, tags="all", files=False)
    assert len(found.manifest) == 4
    assert found.manifest.tracks[0].path == folder / CLIPS[0][2]
    assert "md5" not in found.manifest.tracks[0].columns
    with pytest.raises(DataError, match="there is no folder"):
        index_magnatagatune(folder / "annotations_final.csv", tags="all", clips=folder / "none")
    with pytest.raises(DataError, match=r"holds no annotations_final\.csv"):
        index_magnatagatune(folder.parent / "other", tags="all")


def _info(rows: Sequence[Sequence[str]]) -> str:
    return "".join("\t".join(f'"{cell}"' for cell in row) + "\n" for row in [INFO, *rows])


def test_clip_info_adds_titles_and_joins_songs(folder: Path) -> None:
    rows = [
        ["2", "1", "Song", "Ann", "First", "http://x", "0", "29", "http://x/1.mp3", CLIPS[0][2]],
        ["6", "1", "Song", "Ann", "First", "http://x", "29", "58", "http://x/1.mp3", "f/moved.mp3"],
        ["11", "2", "Other", "Bob", "Only", "http://y", "0", "29", "http://x/1.mp3", CLIPS[3][2]],
        ["99", "2", "Not cut", "Bob", "Only", "http://y", "0", "29", "", ""],
    ]
    (folder / "clip_info_final.csv").write_text(_info(rows))
    found = index_magnatagatune(folder, tags="all", group="album")
    first = found.manifest.tracks[0]
    assert (first.columns["title"], first.columns["artist"], first.columns["album"]) == ("Song", "Ann", "First")
    assert [track.group for track in found.manifest.tracks] == ["ann-first", "ann-first", "ann-best_of", "bob-only"]
    assert len({track.columns["parent"] for track in found.manifest.tracks}) == 1, "one original file is one song"
    assert found.notes[1:] == (
        "1 clip is not in clip_info_final.csv: 10",
        "1 clip has another file in clip_info_final.csv: 6",
    )
    with pytest.raises(UsageError, match="'label' is no group"):
        index_magnatagatune(folder, tags="all", group="label")


def test_bad_clip_info(tmp_path: Path) -> None:
    path = tmp_path / "clip_info_final.csv"
    path.write_text(_info([["2"] * 10, ["2"] * 10, ["", *["3"] * 9], ["4"]]))
    with pytest.raises(DataError, match=r"(?s)3 bad cells: line 3, column clip_id: '2'.*line 4.*line 5.*'1 cell'"):
        read_clip_info(path)
    path.write_text("clip_id\ttitle\n")
    with pytest.raises(DataError, match="has no column"):
        read_clip_info(path)


def test_a_clip_of_full_length_is_kept(folder: Path) -> None:
    path = folder / "mp3/f/long.mp3"
    soundfile.write(path, music(29.0, 16000, 1), 16000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)
    (folder / "annotations_final.csv").write_text(table([("1", ("guitar",), "f/long.mp3"), *CLIPS[1:]]))
    length = float(index_magnatagatune(folder, tags="all").manifest.tracks[0].columns["duration_s"])
    assert length == pytest.approx(29.09, abs=0.01), "MP3 frames fill up: the originals decode to 29.124 s"


def test_audit_and_validate(folder: Path, sound: Path) -> None:
    shutil.copy(sound, folder / "mp3/0/extra.mp3")
    (folder / "mp3" / CLIPS[3][2]).write_bytes(sound.read_bytes()[:-50])
    found = index_magnatagatune(folder, tags="all")
    parts = {"2": "train", "6": "test", "10": "validation", "11": "train"}
    torn = found.manifest.with_tracks(
        dataclasses.replace(track, split=parts[track.track_id]) for track in found.manifest.tracks
    )
    seen = audit(torn)
    assert seen.leaks
    assert seen.songs_across == {"ann-best_of-07-song": ("test", "train", "validation")}
    assert seen.groups_across == {"ann": ("test", "train", "validation")}
    assert seen.balance["guitar"] == {"train": 1, "validation": 0, "test": 0}
    notes = "\n".join(seen.warnings)
    assert "1 of 4 tracks have no tag at all" in notes
    assert "3 tags have no track in test, so no score there: drone, electric, guitar" in notes
    assert "1 of 1 pairs of tags that occur together do so in fewer than 10 tracks" in notes
    assert "macro F1" not in notes
    assert validate_manifest(found.manifest).of_kind("extra")[0].path.name == "extra.mp3"
    (folder / "mp3" / CLIPS[0][2]).unlink()
    kinds = {finding.path.name: finding.kind for finding in validate_set(get_set("magnatagatune"), folder).findings}
    assert kinds == {"ann-first-01-song-0-29.mp3": "missing", "extra.mp3": "extra"}


def test_pairs_that_are_one_tag_are_named(tmp_path: Path) -> None:
    rows = [(str(n), ("electronic", "electric") if n % 2 else ("guitar",), f"{n}.mp3") for n in range(40)]
    warnings = audit(manifest_of(tmp_path, rows)).warnings
    assert "'electric' and 'electronic' nearly always occur together (20 tracks): two scores, one tag" in warnings


@pytest.mark.slow
def test_a_table_of_full_size(tmp_path: Path) -> None:
    rows = [
        (str(n), ALL_TAGS[n % 180 : n % 180 + 4], f"{n % 16:x}/a{n % 230}-b-{n % 99}-s{n // 5}-{n % 5}-9.mp3")
        for n in range(25_863)
    ]
    path = tmp_path / "annotations_final.csv"
    path.write_text(table(rows, ALL_TAGS))
    found = index_magnatagatune(path, tags="all", files=False)
    write_manifest(found.manifest, tmp_path / "manifest.csv")
    assert len(found.manifest) == 25_863
