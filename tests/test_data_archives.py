"""Unpacking archives from elsewhere: nothing escapes, nothing explodes, nothing is left behind."""

from __future__ import annotations

import io
import itertools
import stat
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.data.archives import is_archive, open_joined, unpack
from musicgenre.errors import DataError
from tests.limits import little_memory

FILES = {"genres/rock/rock.00000.wav": b"a" * 5000, "genres/pop/pop.00000.wav": b"", "README.md": b"hello"}


def make_zip(path: Path, files: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], *, mode: str = "w:gz", kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data) if kind == tarfile.REGTYPE else 0, "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_unpacks_every_kind(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"set.{ending}"
    archive = make_zip(path, FILES) if ending == "zip" else make_tar(path, FILES, mode=f"w:{ending[4:]}")
    told: list[tuple[int, int]] = []
    assert is_archive(archive)
    folder = unpack(archive, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert told[-1] == (5005, 5005)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", archive.name]


BAD_NAMES = ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "a\\..\\evil", "a/nul.txt", "a/con", "a/b. ", "a\nb"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_lead_elsewhere(tmp_path: Path, make: object, name: str) -> None:
    archive = make(tmp_path / "set.any", {"good.wav": b"x", name: b"x"})
    with pytest.raises(DataError, match="leads elsewhere"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set.any"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes) -> None:
    archive = make_tar(tmp_path / "set.tar.gz", {"link": b""}, kind=kind)
    with pytest.raises(DataError, match="is a link or a device"):
        unpack(archive, tmp_path / "out")


def test_links_in_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="is a link or a device"):
        unpack(archive, tmp_path / "out")


def test_bombs(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", {"zeros.wav": bytes(200_000_000)})
    with pytest.raises(DataError, match="times its size"):
        unpack(bomb, tmp_path / "out")
    small = make_zip(tmp_path / "small.zip", FILES)
    with pytest.raises(DataError, match=r"At most 0.0 GB"):
        unpack(small, tmp_path / "out", max_bytes=1000)
    with pytest.raises(DataError, match="holds 3 files"):
        unpack(small, tmp_path / "out", max_files=2)
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_sizes(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"a.wav": b"x" * 9999})
    data = archive.read_bytes().replace((9999).to_bytes(4, "little"), (99).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged|larger than it says"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a.wav", "A.wav"), ("a", "a/b.wav")])
def test_names_that_clash(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(DataError, match="stands in it twice"):
        unpack(make_zip(tmp_path / "set.zip", dict.fromkeys(names, b"x")), tmp_path / "out")


def test_encrypted_and_foreign_files(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"a.wav": b"x"})
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is encrypted"):
        unpack(archive, tmp_path / "out")
    text = tmp_path / "set.txt"
    text.write_text("hello")
    assert not is_archive(text)
    with pytest.raises(DataError, match="is no zip or tar archive"):
        unpack(text, tmp_path / "out")
    with pytest.raises(DataError, match="does not exist"):
        unpack(tmp_path / "none.zip", tmp_path / "out")


def test_a_cut_archive_is_one_all_the_same(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "set.tar.gz", FILES)
    archive.write_bytes(archive.read_bytes()[:60])
    assert is_archive(archive)
    with pytest.raises(DataError, match="damaged or cut off"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("mark", "place", "value"),
    [
        (b"PK\x01\x02", 6, b"\xae"),  # needs version 17.4 of zip
        (b"PK\x01\x02", 28, b"\0\0"),  # has no name
        (b"PK\x03\x04", 30 + 5 + 4 + 1, b"\xff" * 4),  # packed by LZMA with a dictionary of 4 GB
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_headers_that_no_reader_foresees(tmp_path: Path, mark: bytes, place: int, value: bytes) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.wav", b"x" * 99)
    data = path.read_bytes()
    start = data.index(mark) + place
    path.write_bytes(data[:start] + value + data[start + len(value) :])
    with little_memory(), pytest.raises(DataError, match="damaged or cut off"):
        unpack(path, tmp_path / "out")


@given(cut=st.floats(0, 0.999), ending=st.sampled_from(["zip", "tar.gz"]))
@settings(max_examples=40)
def test_cut_archives_leave_nothing(tmp_path_factory: pytest.TempPathFactory, cut: float, ending: str) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = folder / f"set.{ending}"
    archive = make_zip(path, FILES) if ending == "zip" else make_tar(path, FILES)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * cut)])
    try:
        unpack(archive, folder / "out")
    except DataError:
        assert [path.name for path in folder.iterdir()] == [path.name]
    else:  # tar's padding at the end may be cut without harm
        assert (folder / "out" / "README.md").read_bytes() == b"hello"


def test_what_is_there_stays(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", FILES)
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="there already and not empty"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "set.zip", FILES)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("musicgenre.data.archives._write_all", full)
    with pytest.raises(DataError, match="the disk is full"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def _cut(path: Path, sizes: list[int]) -> list[Path]:
    """Cut a file into pieces of these sizes; the last takes the rest."""
    data = path.read_bytes()
    pieces = []
    for n, size in enumerate([*sizes, len(data)], 1):
        pieces.append(path.with_name(f"{path.name}.{n:03d}"))
        pieces[-1].write_bytes(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("sizes", [[], [1], [700, 5], [0, 300]])
def test_pieces_of_a_zip_are_read_in_place(tmp_path: Path, sizes: list[int]) -> None:
    files = {f"{n:x}/clip.mp3": bytes([n]) * 5000 + str(n).encode() for n in range(16)}
    pieces = _cut(make_zip(tmp_path / "mp3.zip", files), sizes)
    (tmp_path / "mp3.zip").unlink()
    unpack(pieces, tmp_path / "mp3")
    assert {
        p.relative_to(tmp_path / "mp3").as_posix(): p.read_bytes() for p in (tmp_path / "mp3").rglob("*.mp3")
    } == files
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["mp3", *(p.name for p in pieces)])


def test_pieces_in_the_wrong_order_or_cut_off(tmp_path: Path) -> None:
    pieces = _cut(make_zip(tmp_path / "mp3.zip", {"a.mp3": bytes(range(256)) * 200}), [200, 200])
    for bad in (pieces[::-1], pieces[:2], [*pieces[:2], tmp_path / "none"]):
        with pytest.raises(DataError, match=r"damaged or cut off|cannot be unpacked"):
            unpack(bad, tmp_path / "mp3")
        assert not (tmp_path / "mp3").exists()
    unsafe = _cut(make_zip(tmp_path / "bad.zip", {"../a.mp3": b"a" * 2000}), [20])
    with pytest.raises(DataError, match="leads elsewhere"):
        unpack(unsafe, tmp_path / "mp3")


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4), st.integers(0, 220), st.integers(1, 90))
@settings(max_examples=60)
def test_pieces_read_like_the_whole(data: bytes, cuts: list[int], start: int, length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        paths = [Path(folder, str(n)) for n in range(len(edges) - 1)]
        for path, (one, other) in zip(paths, itertools.pairwise(edges), strict=True):
            path.write_bytes(data[one:other])
        with open_joined(paths) as stream:
            assert stream.read() == data
            stream.seek(start)
            assert stream.read(length) == data[start : start + length]
            assert stream.seek(0, io.SEEK_END) == len(data)
