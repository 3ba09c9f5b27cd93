"""Making manifests from folders, CSVs of one's own, feature tables and pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from musicgenre._files import md5_of
from musicgenre.data.audit import audit
from musicgenre.data.index import index_csv, index_folder, index_table, read_artists, with_artists
from musicgenre.data.labels import similar_labels
from musicgenre.data.manifest import read_manifest, write_manifest
from musicgenre.errors import DataError


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def ids(index: object) -> list[str]:
    return [track.track_id for track in index.manifest.tracks]


GTZAN = ("rock/rock.00000.wav", "rock/rock.00001.au", "blues/blues.00000.wav")


@pytest.mark.parametrize("root", ["", "genres", "Data/genres_original", "mini-main/genres", "mini-main/mini/tracks"])
def test_gtzan_layout_wherever_it_stands(tmp_path: Path, root: str) -> None:
    make(tmp_path / root, *GTZAN)
    make(tmp_path, "README.md")
    found = index_folder(tmp_path)
    assert ids(found) == ["blues.00000", "rock.00000", "rock.00001"]
    assert found.manifest.labels == ("blues", "rock")
    assert found.manifest.tracks[0].columns["md5"] == md5_of(found.manifest.tracks[0].path)
    assert found.skipped == ()


def test_one_genre_folder_alone_is_a_genre(tmp_path: Path) -> None:
    assert index_folder(make(tmp_path, "rock/album/a.mp3")).manifest.labels == ("rock",)


def test_ids_stay_unique(tmp_path: Path) -> None:
    assert ids(index_folder(make(tmp_path / "1", "a/x.mp3", "b/y.mp3"))) == ["x", "y"]
    assert ids(index_folder(make(tmp_path / "2", "a/x.mp3", "b/x.mp3"))) == ["a/x", "b/x"]
    assert ids(index_folder(make(tmp_path / "3", "a/x.mp3", "a/x.wav", "b/y.mp3"))) == [
        "a/x.mp3",
        "a/x.wav",
        "b/y.mp3",
    ]


def test_files_left_out_are_listed(tmp_path: Path) -> None:
    make(tmp_path, "rock/a.mp3", "pop/b.mp3", "stray.mp3", "pop/cover.jpg")
    (tmp_path / "rock" / "empty.mp3").touch()
    found = index_folder(tmp_path)
    assert ids(found) == ["b", "a"]
    reasons = {path.name: reason for path, reason in found.skipped}
    assert reasons == {"stray.mp3": "stands in no genre folder", "empty.mp3": "is empty"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_names_that_are_not_utf8_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "rock/a.mp3")
    with open(os.fsencode(tmp_path / "rock") + b"/\xff.mp3", "wb") as stream:  # noqa: PTH123 - a name in bytes
        stream.write(b"x")
    found = index_folder(tmp_path)
    assert ids(found) == ["a"]
    assert found.skipped[0][1] == "its name is not UTF-8: rename it"


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be written there")
@pytest.mark.parametrize("name", [" ", "\u00a0", "a\nb", "a\x1b[31m"])
def test_folders_whose_names_cannot_be_labels_are_left_out(tmp_path: Path, name: str) -> None:
    make(tmp_path, "rock/a.wav", "jazz/b.wav")
    odd = make(tmp_path, f"{name}/c.wav") / name / "c.wav"
    found = index_folder(tmp_path)
    assert found.manifest.labels == ("jazz", "rock")
    assert found.skipped == ((odd, "its folder's name cannot be a label: rename the folder"),)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system makes no links")


def test_link_loops_end(tmp_path: Path) -> None:
    make(tmp_path / "music", "rock/a.mp3", "pop/b.mp3")
    link(tmp_path / "music" / "rock" / "again", tmp_path / "music")
    link(tmp_path / "music" / "pop" / "out", tmp_path)
    found = index_folder(tmp_path / "music")
    assert [(track.track_id, track.label) for track in found.manifest.tracks] == [("b", "pop"), ("a", "rock")]
    assert found.notes == ()


def test_a_file_linked_into_several_genres_is_a_track_of_each(tmp_path: Path) -> None:
    library = make(tmp_path / "library", "one.mp3", "two.mp3", "three.mp3")
    for place in ("pop/one.mp3", "rock/one.mp3", "pop/two.mp3", "rock/three.mp3", "rock/best of/three.mp3"):
        link(tmp_path / "genres" / place, library / Path(place).name)
    link(tmp_path / "genres" / "all", library)
    found = index_folder(tmp_path / "genres")
    labels = [(track.path.name, track.label) for track in found.manifest.tracks]
    assert sorted(labels) == [
        ("one.mp3", "all"),
        ("one.mp3", "pop"),
        ("one.mp3", "rock"),
        ("three.mp3", "all"),
        ("three.mp3", "rock"),
        ("two.mp3", "all"),
        ("two.mp3", "pop"),
    ]
    (note,) = found.notes
    assert note.startswith("3 files stand under several genres")
    assert "one.mp3 (all, pop, rock)" in note
    assert ("pop/one", "rock/one") in {ids[1:] for ids in audit(found.manifest).conflicts}


def test_spellings_that_look_alike_are_one_genre(tmp_path: Path) -> None:
    csv = tmp_path / "mine.csv"
    names = ("Caf\u00e9", "Cafe\u0301", "Caf\u00e9 ", "Caf\u00e9\u00a0", "Rock")
    for n, name in enumerate(names):
        make(tmp_path / "music", f"{name}/{n}.mp3")
    found = index_folder(tmp_path / "music")
    assert found.manifest.counts() == {"Caf\u00e9": 4, "Rock": 1}
    rows = [f"music/{name}/{n}.mp3,{name}" for n, name in enumerate(names)]
    csv.write_text("path,label\n" + "\n".join(rows) + "\n")
    assert index_csv(csv).manifest.counts() == {"Caf\u00e9": 4, "Rock": 1}
    csv.write_text(csv.read_text().replace("label", "labels", 1).replace(",Rock", ",Rock; Cafe\u0301"))
    assert index_csv(csv, label_column="labels").manifest.counts() == {"Caf\u00e9": 5, "Rock": 1}


def test_labels_that_differ_by_case_blanks_or_punctuation_are_named(tmp_path: Path) -> None:
    make(tmp_path, "Hip-Hop/a.mp3", "Hip-Hop/b.mp3", "hiphop/c.mp3", "Hip Hop/d.mp3", "Rock/e.mp3", "R&B/f.mp3")
    (note,) = index_folder(tmp_path).notes
    assert "'Hip Hop' (1), 'Hip-Hop' (2), 'hiphop' (1)" in note
    assert "Rock" not in note


def test_a_word_for_nothing_known_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "b.mp3", "c.mp3", "folder/d.mp3")
    csv = tmp_path / "mine.csv"
    csv.write_text("path,label\na.mp3,NaN\nb.mp3,nan\nc.mp3,rock\nfolder,rock\n")
    found = index_csv(csv)
    assert "here it is a genre: 'NaN' (1), 'nan' (1)" in found.notes[0]
    assert found.skipped == ((tmp_path / "folder", "is a folder"),)


def test_words_of_other_scripts_are_not_taken_for_one_another() -> None:
    assert similar_labels(["\u0915\u093f", "\u0915\u0941", "!!!", "???", "rock", "C++", "c"]) == [("C++", "c")]


def test_labels_are_chosen(tmp_path: Path) -> None:
    make(tmp_path, *GTZAN, "pop/pop.00000.wav")
    assert index_folder(tmp_path, labels=["rock", "pop"]).manifest.labels == ("pop", "rock")
    with pytest.raises(DataError, match=r"'jazz'.*Labels are blues, pop, rock"):
        index_folder(tmp_path, labels=["jazz"])


def test_a_label_with_commas_is_chosen_as_it_is(tmp_path: Path) -> None:
    make(tmp_path, "Soul, Funk/a.mp3", "Soul/b.mp3", "Funk/c.mp3", "Pop/d.mp3")
    assert index_folder(tmp_path, labels=["Soul, Funk"]).manifest.labels == ("Soul, Funk",)
    assert index_folder(tmp_path, labels=["Soul, Funk", "Pop"]).manifest.labels == ("Pop", "Soul, Funk")
    assert index_folder(tmp_path, labels=["Funk, Soul"]).manifest.labels == ("Funk", "Soul")


def test_progress_and_no_checksums(tmp_path: Path) -> None:
    make(tmp_path, *GTZAN)
    told: list[tuple[int, int]] = []
    index_folder(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert index_folder(tmp_path, checksums=False).manifest.extra_columns == ()


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        index_folder(tmp_path / "none")
    with pytest.raises(DataError, match="no sound file stands in a genre folder"):
        index_folder(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        index_folder(make(tmp_path, "a.csv") / "a.csv")
    with pytest.raises(DataError, match="no picture"):
        index_folder(make(tmp_path, "rock/a.mp3"), pictures=True)


def test_pictures(tmp_path: Path) -> None:
    make(tmp_path, "rock/rock.00000.png", "pop/pop.00000.JPG", "pop/sound.wav")
    assert ids(index_folder(tmp_path, pictures=True)) == ["pop.00000", "rock.00000"]


def test_csv_of_ones_own(tmp_path: Path) -> None:
    make(tmp_path, "music/a.mp3", "music/b.mp3")
    csv = tmp_path / "mine.csv"
    csv.write_text(
        "file,genre,year,group,path\nmusic/a.mp3,Röck,1999,abba,x\nmusic/b.mp3,pop,2001,,y\nc.mp3,pop,,,z\n"
    )
    found = index_csv(csv, path_column="file", label_column="genre")
    assert [(t.track_id, t.label, t.group) for t in found.manifest.tracks] == [
        ("music/a", "Röck", "abba"),
        ("music/b", "pop", ""),
    ]
    first = dict(found.manifest.tracks[0].columns)
    assert first.pop("md5") == md5_of(tmp_path / "music/a.mp3")
    assert first == {"year": "1999", "original_path": "x"}
    assert found.skipped == ((tmp_path / "c.mp3", "there is no such file"),)
    written = write_manifest(found.manifest, tmp_path / "lists" / "manifest.csv")
    assert read_manifest(written, check_files=True).tracks == found.manifest.tracks


@pytest.mark.parametrize(
    "text",
    [
        ",path,label\n0,music/a.mp3,pop\n1,music/b.mp3,rock\n",
        ",path,label\n17,music/a.mp3,pop\n4,music/b.mp3,rock\n",
        "sep=;\npath;label\nmusic/a.mp3;pop\nmusic/b.mp3;rock\n",
        "\ufeffsep=,\r\npath,label\r\nmusic/a.mp3,pop\r\nmusic/b.mp3,rock\r\n",
        "sep=\t\npath\tlabel\nmusic/a.mp3\tpop\nmusic/b.mp3\trock\n",
        '"path";"label";"name, artist";"so ""it"", goes"\nmusic/a.mp3;pop;x, y;\nmusic/b.mp3;rock;z;\n',
        'path;label;"name,\nartist, year"\nmusic/a.mp3;pop;x, y\nmusic/b.mp3;rock;z\n',
        'path\tlabel\tsize 5", or 7"\nmusic/a.mp3\tpop\t\nmusic/b.mp3\trock\t\n',
        "path,label\nmusic\\a.mp3,pop\n.\\music\\b.mp3,rock\n",
    ],
    ids=["pandas", "pandas, filtered", "Excel", "Excel, comma", "Excel, tab", "header", "lines", "inches", "Windows"],
)
def test_csv_as_people_make_them(tmp_path: Path, text: str) -> None:
    make(tmp_path, "music/a.mp3", "music/b.mp3")
    csv = tmp_path / "mine.csv"
    csv.write_text(text, encoding="utf-8", newline="")
    for tracks in (index_csv(csv).manifest.tracks, read_manifest(csv, check_files=True).tracks):
        assert [(track.track_id, track.path, track.label) for track in tracks] == [
            ("music/a", tmp_path / "music" / "a.mp3", "pop"),
            ("music/b", tmp_path / "music" / "b.mp3", "rock"),
        ]


def test_a_nameless_column_that_is_no_index_is_refused_with_its_line(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "b.mp3")
    csv = tmp_path / "mine.csv"
    for first, second in (("0", "x"), ("1", "1"), ("0", "")):
        csv.write_text(f"sep=,\n,path,label\n{first},a.mp3,pop\n{second},b.mp3,rock\n")
        with pytest.raises(DataError, match=r"line 3, column \(no name\): '[01]'"):
            index_csv(csv)


@pytest.mark.skipif(os.name == "nt", reason="there a backslash stands between folders")
def test_a_backslash_in_a_name_stays_where_the_file_has_it(tmp_path: Path) -> None:
    make(tmp_path, "music/a.mp3", "music\\a.mp3")
    csv = tmp_path / "mine.csv"
    csv.write_text("path,label\nmusic\\a.mp3,pop\nnone\\c.mp3,rock\n")
    found = index_csv(csv)
    assert [track.path.name for track in found.manifest.tracks] == ["music\\a.mp3"]
    assert found.skipped[0][0].name == "none\\c.mp3"


def test_csv_of_ones_own_that_cannot_be_used(tmp_path: Path) -> None:
    csv = tmp_path / "mine.csv"
    csv.write_text("file,genre\na.mp3,rock\n")
    with pytest.raises(DataError, match=r"no column 'path' and no column 'label'.*Its columns are file, genre"):
        index_csv(csv)
    with pytest.raises(DataError, match="none of the files"):
        index_csv(csv, path_column="file", label_column="genre")
    csv.write_text("file,genre\na.mp3,rock\nb.mp3,\n,pop\n")
    with pytest.raises(DataError, match=r"2 bad cells: line 3, column genre.*line 4, column file"):
        index_csv(csv, path_column="file", label_column="genre")
    csv.write_text("file,genre,id\na.mp3,rock,1\nb.mp3,pop,1\n")
    with pytest.raises(DataError, match="stands on line 2 already"):
        index_csv(csv, path_column="file", label_column="genre", id_column="id")


def test_several_labels(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3")
    csv = tmp_path / "mine.csv"
    csv.write_text("path,labels\na.mp3,pop; rock\n")
    assert index_csv(csv, label_column="labels").manifest.tracks[0].labels == ("pop", "rock")


def test_feature_table(tmp_path: Path) -> None:
    table = tmp_path / "features.csv"
    table.write_text("filename,length,tempo,label\nblues.00000.wav,661794,-4.5e-05,blues\nrock.00001.wav,1,2,rock\n")
    found = index_table(table)
    assert ids(found) == ["blues.00000", "rock.00001"]
    track = found.manifest.tracks[0]
    assert (track.path, track.label) == (table, "blues")
    assert track.columns == {"filename": "blues.00000.wav", "length": "661794", "tempo": "-4.5e-05"}
    written = write_manifest(found.manifest, tmp_path / "m.csv")
    assert read_manifest(written, check_files=True).tracks == found.manifest.tracks


def test_segment_table_names_the_parent(tmp_path: Path) -> None:
    table = tmp_path / "features.csv"
    table.write_text("filename,tempo,label\nblues.00000.0.wav,1,blues\nblues.00000.1.wav,1,blues\n")
    tracks = index_table(table).manifest.tracks
    assert [track.track_id for track in tracks] == ["blues.00000.0", "blues.00000.1"]
    assert {track.columns["parent"] for track in tracks} == {"blues.00000"}


def test_artists(tmp_path: Path) -> None:
    make(tmp_path, *GTZAN)
    table = tmp_path / "artists.csv"
    table.write_text("track_id,artist_group,artist\nrock.00000,queen,Queen\nrock.00001,,\n")
    groups = [t.group for t in index_folder(tmp_path, artists=read_artists(table)).manifest.tracks]
    assert groups == ["", "queen", ""]
    with pytest.raises(DataError, match=r"names none of these tracks \(ids like 'blues.00000'\)"):
        with_artists(index_folder(tmp_path).manifest, {"x": "y"})
    table.write_text("track_id,artist\nx,y\n")
    with pytest.raises(DataError, match="no column 'artist_group'"):
        read_artists(table)


@pytest.mark.real_data
def test_real_folders_and_tables(shared_data: Path) -> None:
    artists = read_artists(shared_data / "gtzan-tables" / "artists.csv")
    mini = index_folder(shared_data / "gtzan-mini", artists=artists)
    assert len(mini.manifest) == 100
    assert set(mini.manifest.counts().values()) == {10}
    assert mini.manifest.tracks[0].group == "johnleehooker"
    table = index_table(shared_data / "gtzan-tables" / "features_30_sec.csv", artists=artists)
    assert len(table.manifest) == 1000
    assert len(table.manifest.extra_columns) == 59
    assert sum(not track.group for track in table.manifest.tracks) == 14
    pictures = index_folder(shared_data / "gtzan-spectrogram-png", pictures=True, checksums=False)
    assert len(pictures.manifest) == 999
    assert set(ids(table)) - set(ids(pictures)) == {"jazz.00054"}


def test_a_name_that_no_file_can_have_names_none(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "list.csv").write_text(f"path,label\na.wav,x\n{'b' * 5_000},y\n", encoding="utf-8")
    found = index_csv(tmp_path / "list.csv", checksums=False)
    assert [reason for _, reason in found.skipped] == ["there is no such file"]
