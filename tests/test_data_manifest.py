"""The manifest: exact round trips, and every bad cell named by line and column."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.data.manifest import CORE_COLUMNS, Manifest, Track, read_manifest, require_classes, write_manifest
from musicgenre.errors import DataError

_NO_SURROGATES = st.characters(blacklist_categories=("Cs",))
_CELLS = st.text(_NO_SURROGATES, max_size=12)
_NAMES = st.text(string.ascii_letters + string.digits + " .,;\"'-äé日", min_size=1, max_size=8).filter(
    lambda name: name.strip(" .") and name == name.strip() and name not in {".", ".."}
)
_LABELS = st.text(_NO_SURROGATES, min_size=1, max_size=6).filter(
    lambda text: text.isprintable() and text == text.strip() and ";" not in text
)


@st.composite
def _manifests(draw: st.DrawFn) -> tuple[Track, ...]:
    ids = draw(st.lists(_CELLS.filter(bool), min_size=1, max_size=4, unique=True))
    names = draw(st.lists(_NAMES.filter(lambda n: n not in CORE_COLUMNS), max_size=3, unique=True))
    tracks = []
    for track_id in ids:
        labels = tuple(draw(st.lists(_LABELS, min_size=1, max_size=3, unique=True)))
        augmented = draw(st.booleans())
        tracks.append(
            Track(
                track_id,
                Path(os.path.abspath("/music"), *draw(st.lists(_NAMES, min_size=1, max_size=3))),  # noqa: PTH100 - it has no drive on Windows
                draw(st.sampled_from(labels)),
                labels,
                split=draw(st.sampled_from(["", "train", "validation", "test"])),
                fold=draw(st.none() | st.integers(0, 99)),
                group=draw(_CELLS),
                augmented=augmented,
                source_id=f"{track_id}x" if augmented else track_id,
                columns={name: draw(_CELLS) for name in names},
            )
        )
    return tuple(tracks)


@given(_manifests())
@settings(max_examples=200)
def test_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, tracks: tuple[Track, ...]) -> None:
    path = write_manifest(Manifest(None, tracks), tmp_path_factory.mktemp("m") / "manifest.csv")
    first = path.read_bytes()
    again = read_manifest(path)
    assert again.tracks == tracks
    write_manifest(again, path)
    assert path.read_bytes() == first


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "m.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_paths_are_relative_to_the_manifest_and_follow_it(tmp_path: Path) -> None:
    track = Track("a", tmp_path / "music" / "a.wav", "rock")
    near = write_manifest(Manifest(None, (track,)), tmp_path / "m.csv")
    far = write_manifest(Manifest(None, (track,)), tmp_path / "lists" / "m.csv")
    assert "\nmusic/a.wav,a," in near.read_text()
    assert "\n../music/a.wav,a," in far.read_text()
    assert read_manifest(far).tracks[0].path == tmp_path / "music" / "a.wav"


def test_minimal_csv_gets_its_ids_from_the_paths(tmp_path: Path) -> None:
    manifest = read_manifest(_write(tmp_path, "path,label\nrock/a.wav,rock\npop/a.wav,pop\n"))
    assert [track.track_id for track in manifest.tracks] == ["rock/a", "pop/a"]
    assert manifest.labels == ("pop", "rock")
    assert manifest.tracks[0].source_id == "rock/a"


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_spreadsheet_dialects_are_read(tmp_path: Path, start: bytes, mark: str, newline: str) -> None:
    rows = [
        ["path", "track_id", "label", "x"],
        ["a.wav", "a", "röck", "1"],
        ["", "", "", ""],
        ["b.wav", "b", "pop", ""],
    ]
    text = newline.join(mark.join(row) for row in rows) + newline
    manifest = read_manifest(_write(tmp_path, start + text.encode()))
    assert [(t.track_id, t.label, t.columns["x"]) for t in manifest.tracks] == [("a", "röck", "1"), ("b", "pop", "")]


def test_every_bad_cell_is_named_by_line_and_column(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "path,track_id,label,labels,split,fold,augmented,source_id\n"
        "a.wav,a,rock,,train,0,no,a\n"
        ",b,rock,,train,,,\n"
        "c.wav,a,rock,,train,,,\n"
        "d.wav,d,,,train,,,\n"
        '"e\n.wav",e,rock,pop;jazz,train,,,\n'
        "f.wav,f,rock,,valid,,,\n"
        "g.wav,g,rock,,test,-1,,\n"
        "h.wav,h,rock,,test,,maybe,\n"
        "i.wav,i,rock,,train,,true,\n"
        "j.wav,j,rock,,train,,false,a\n"
        "k.wav,k\n"
        "l.wav,,rock,,,,,\n",
    )
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert "has 11 bad cells" in message
    expected = [(3, "path"), (4, "track_id"), (5, "label"), (6, "label"), (8, "split"), (9, "fold")]
    expected += [(10, "augmented"), (11, "source_id"), (12, "source_id"), (13, "(all)"), (14, "track_id")]
    for line, column in expected:
        assert f"line {line}, column {column}:" in message
    assert "'valid' (valid: train, validation, test or empty)" in message
    assert "stands on line 2 already" in message


def test_many_bad_cells_are_counted(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label\n" + "a.wav,\n" * 30)
    with pytest.raises(DataError, match=r"has 59 bad cells.*and 39 more"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("path,label\n", "lists no tracks"),
        ("path\na.wav\n", "no column label"),
        ("file,genre\na.wav,rock\n", "no column path and no column label.*Its columns are file, genre"),
        ("path,label,path\na,b,c\n", "names the column path twice on line 1"),
        ("path,label,\na,b,c\n", r"line 2, column \(no name\): 'c'"),
        ('path,label\n"a,rock\n', "not valid CSV at line 2"),
        ("path,label\na,rock\n".encode("utf-16"), "UTF-16"),
        ("path,label\na.wav,rock\nb.wav,r\xf6ck\n".encode("latin-1"), "not UTF-8 text: byte 0xf6 on line 3"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(_write(tmp_path, text))


def test_absent_manifest_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"cannot be read.*data index FOLDER"):
        read_manifest(tmp_path)


def test_unknown_label_and_absent_file(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label\na.wav,rock\nb.wav,rok\n")
    (tmp_path / "a.wav").touch()
    with pytest.raises(DataError, match=r"line 3, column label: 'rok' .*one of rock, pop"):
        read_manifest(path, labels=["rock", "pop"])
    with pytest.raises(DataError, match=r"has 1 bad cell: line 3, column path: 'b.wav' \(valid: a file that exists"):
        read_manifest(path, check_files=True)
    assert [track.track_id for track in read_manifest(path).missing_files()] == ["b"]


def test_extra_empty_cells_of_spreadsheets_are_ignored(tmp_path: Path) -> None:
    manifest = read_manifest(_write(tmp_path, "path,label,,\na.wav,rock,,\nb.wav,pop,,,,\n"))
    assert [dict(track.columns) for track in manifest.tracks] == [{}, {}]


@pytest.mark.parametrize(
    ("track", "message"),
    [
        (Track("a", Path("/a"), " rock"), "cannot be a label"),
        (Track("a", Path("/a"), "ro\nck"), "cannot be a label"),
        (Track("a", Path("/a"), "x;y", ("x;y", "z")), "cannot be listed"),
        (Track("a", Path("/a"), "rock", ("pop",)), "not among its labels"),
        (Track("", Path("/a"), "rock"), "has no track_id"),
        (Track("a", Path("/a"), "rock", columns={"fold": "1"}), "cannot be a further column"),
        (Track("a", Path("/a\udcff.wav"), "rock"), "cannot be written as UTF-8"),
    ],
)
def test_what_cannot_come_back_is_not_written(tmp_path: Path, track: Track, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_manifest(Manifest(None, (track,)), tmp_path / "m.csv")
    assert list(tmp_path.iterdir()) == []


def test_repeated_ids_are_not_written(tmp_path: Path) -> None:
    track = Track("a", tmp_path / "a.wav", "rock")
    with pytest.raises(DataError, match="stands on two rows"):
        write_manifest(Manifest(None, (track, track)), tmp_path / "m.csv")


def test_parts_labels_and_counts() -> None:
    tracks = tuple(Track(f"{n}", Path(f"/{n}"), label, split=part) for n, (label, part) in enumerate(_PAIRS))
    manifest = Manifest(None, tracks)
    assert manifest.counts() == {"pop": 1, "rock": 2}
    assert [track.track_id for track in manifest.part("train").tracks] == ["0", "1"]
    assert len(manifest.with_labels(["rock"])) == 2
    with pytest.raises(DataError, match=r"'jazz'.*Labels are pop, rock"):
        manifest.with_labels(["jazz"])
    with pytest.raises(DataError, match="no part of a split"):
        manifest.part("valid")


_PAIRS = [("rock", "train"), ("pop", "train"), ("rock", "test")]


def test_classes_are_required() -> None:
    rock = Track("a", Path("/a"), "rock")
    pop = Track("b", Path("/b"), "pop")
    with pytest.raises(DataError, match="one label only: rock"):
        require_classes(Manifest(None, (rock,)))
    with pytest.raises(DataError, match=r"too few tracks of pop \(1\), rock \(1\)"):
        require_classes(Manifest(None, (rock, pop)), per_class=2)
    assert require_classes(Manifest(None, (rock, pop))) is None


@given(
    st.binary(max_size=200) | st.text(st.sampled_from('path,label;\t"\r\n\0ab \ufeff'), max_size=80).map(str.encode)
)
@settings(max_examples=300)
def test_any_bytes_are_a_manifest_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "m.csv"
    path.write_bytes(b"path,label\n" + data if len(data) % 2 else data)
    try:
        manifest = read_manifest(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert len(manifest) > 0


def test_a_manifest_of_tags_may_hold_a_track_without_any(tmp_path: Path) -> None:
    tracks = (Track("a", tmp_path / "a.mp3", "", ("pop", "rock")), Track("b", tmp_path / "b.mp3", ""))
    path = write_manifest(Manifest(None, tracks), tmp_path / "m.csv")
    assert read_manifest(path).tracks == tracks
    path.write_text("path,label,labels\na.mp3,pop,\nb.mp3,,\n")
    with pytest.raises(DataError, match="line 3, column label"):
        read_manifest(path)


def test_a_label_that_a_terminal_would_obey_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label\na.wav,rock\nb.wav,ja\x1b[31mzz\n")
    with pytest.raises(DataError, match=r"line 3, column label.*a label without control characters"):
        read_manifest(path)
