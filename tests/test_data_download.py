"""Getting data sets: over HTTP from this machine, resumed and checked, or from a copy at hand."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from musicgenre.cli import app
from musicgenre.data.download import checksum_problem, download, fetch_data_set
from musicgenre.data.index import Index
from musicgenre.data.manifest import read_manifest
from musicgenre.data.sets import Archive, DataSet, get_set, list_sets, set_that_reads
from musicgenre.errors import DataError, MissingExtraError, UsageError
from tests.sounds import music
from tests.test_data_archives import make_zip

pytest.importorskip("pooch")


def get_data_set(data_set: DataSet, folder: Path, *, source: Path | None = None, **options: object) -> Index:
    """Fetch a data set into a folder and list its tracks, as `musicgenre data get` does."""
    return data_set.list_tracks(fetch_data_set(data_set, folder, source=source), **options)


class Server(ThreadingHTTPServer):
    """Serves one body; breaks off after ``limit`` bytes if that is set; keeps the Range headers it saw."""

    body = b""
    limit: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.zip"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if "none" in self.path:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked[6:-1]) if asked and self.server.ranges else 0
        if start >= len(self.server.body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.server.body) - start))
        self.end_headers()
        self.wfile.write(self.server.body[start:][: self.server.limit])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def _archive(server: Server, checksum: str | None = "") -> Archive:
    known = f"md5:{hashlib.md5(server.body).hexdigest()}" if checksum == "" else checksum
    return Archive("set.zip", (server.url,), known, "us")


def test_downloads_and_tells_how_far(server: Server, tmp_path: Path) -> None:
    server.body = bytes(range(256)) * 4000
    told: list[tuple[str, int, int]] = []
    path = download(_archive(server), tmp_path, progress=lambda *now: told.append(now))
    assert path.read_bytes() == server.body
    assert told[-1] == ("set.zip", 1_024_000, 1_024_000)
    assert len(told) > 2
    assert download(_archive(server), tmp_path) == path
    assert server.asked == [None], "a complete file is not fetched again"
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_resumes_a_broken_download(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.body = bytes(range(256)) * 4000
    server.limit, server.ranges = 300_000, ranges
    with pytest.raises(DataError, match=r"could not be downloaded.*a broken download resumes"):
        download(_archive(server), tmp_path)
    part = tmp_path / "set.zip.part"
    assert part.stat().st_size == 300_000
    server.limit = None
    assert download(_archive(server), tmp_path).read_bytes() == server.body
    assert server.asked == [None, "bytes=300000-"]
    assert not part.exists()


def test_without_a_checksum_it_starts_again(server: Server, tmp_path: Path) -> None:
    server.body = b"x" * 1000
    (tmp_path / "set.zip.part").write_bytes(b"other half")
    assert download(_archive(server, None), tmp_path).read_bytes() == server.body
    assert server.asked == [None]


def test_a_part_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    server.body = b"x" * 1000
    (tmp_path / "set.zip.part").write_bytes(server.body)
    assert download(_archive(server), tmp_path).read_bytes() == server.body


def test_a_wrong_checksum_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.body = b"changed"
    with pytest.raises(DataError, match="checksum is another one than published"):
        download(_archive(server, f"sha1:{'0' * 40}"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.body = b"good"
    gone = server.url.replace("set.zip", "none")
    archive = dataclasses.replace(_archive(server), urls=(gone, "http://127.0.0.1:9/closed", server.url))
    assert download(archive, tmp_path).read_bytes() == b"good"
    with pytest.raises(DataError, match=r"none: HTTP 404 .*closed: no connection.*--from FILE_OR_FOLDER"):
        download(dataclasses.replace(archive, filename="other.zip", urls=archive.urls[:2]), tmp_path)


def test_without_pooch(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"downloading set.zip.*musicgenre\[train\]"):
        download(_archive(server), tmp_path)


def _sound(folder: Path) -> dict[str, bytes]:
    path = folder / "tmp.wav"
    soundfile.write(path, music(0.1), 44100)
    data = path.read_bytes()
    path.unlink()
    return {f"mini-main/genres/{label}/{label}.0000{n}.wav": data for label in ("rock", "pop") for n in range(2)}


def _mini(server: Server | None = None) -> DataSet:
    urls = (server.url,) if server else ("http://127.0.0.1:9/none",)
    return dataclasses.replace(get_set("gtzan-mini"), archives=(Archive("mini.zip", urls),))


def test_get_over_http(server: Server, tmp_path: Path) -> None:
    server.body = make_zip(tmp_path / "made.zip", _sound(tmp_path)).read_bytes()
    folder = tmp_path / "set"
    found = get_data_set(_mini(server), folder)
    assert [track.track_id for track in found.manifest.tracks] == [
        "pop.00000",
        "pop.00001",
        "rock.00000",
        "rock.00001",
    ]
    assert all(track.path.is_file() and folder in track.path.parents for track in found.manifest.tracks)
    again = get_data_set(_mini(server), folder)
    assert again == found
    assert len(server.asked) == 1


def test_get_from_an_archive_or_a_folder(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "made.zip", _sound(tmp_path))
    found = get_data_set(_mini(), tmp_path / "set", source=archive)
    assert len(found.manifest) == 4
    unpacked = get_data_set(_mini(), tmp_path / "other", source=tmp_path / "set" / "made")
    assert [t.path for t in unpacked.manifest.tracks] == [t.path for t in found.manifest.tracks]
    assert not (tmp_path / "other").exists()
    kept = tmp_path / "kept"
    kept.mkdir()
    archive.rename(kept / "mini.zip")
    assert len(get_data_set(_mini(), tmp_path / "third", source=kept).manifest) == 4


def test_copies_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        get_data_set(_mini(), tmp_path / "set", source=tmp_path / "none")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(DataError, match="is no zip or tar archive"):
        get_data_set(_mini(), tmp_path / "set", source=text)
    archive = make_zip(tmp_path / "fma_small.zip", {"fma_small/000/000002.mp3": b""})
    with pytest.raises(DataError, match="has 2 archives"):
        get_data_set(get_set("fma-small"), tmp_path / "set", source=archive)
    with pytest.raises(DataError, match=r"fma_small.zip but not fma_metadata.zip"):
        get_data_set(get_set("fma-small"), tmp_path / "set", source=tmp_path)


def test_checksum_of_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "copy.zip"
    path.write_bytes(b"copy")
    right = Archive("copy.zip", (), f"md5:{hashlib.md5(b'copy').hexdigest()}")
    assert checksum_problem(path, right) == ""
    assert checksum_problem(path, dataclasses.replace(right, checksum=None)) == ""
    assert "published is 00" in checksum_problem(path, dataclasses.replace(right, checksum="md5:00"))


def test_every_card_is_whole() -> None:
    assert [data_set.name for data_set in list_sets()] == [
        "fma-small",
        "gtzan",
        "gtzan-mini",
        "magnatagatune",
        "mtg-jamendo",
    ]
    for data_set in list_sets():
        card = data_set.card()
        assert data_set.licence in card
        assert data_set.citation in card
        files = (*data_set.archives, *data_set.files)
        assert all(url.startswith("https://") for archive in files for url in archive.urls)
        assert len(set(data_set.track_ids())) in (0, data_set.n_tracks)
    with pytest.raises(UsageError, match="Did you mean 'gtzan'"):
        get_set("gtzn")


FMA_TABLE = """,set,set,track,artist
,subset,split,genre_top,id
track_id,,,,
2,small,training,Hip-Hop,1
5,small,test,Rock,2
10,large,training,Pop,6
140,small,validation,Folk,54
"""


def test_fma_small_takes_split_and_artists_from_its_table(tmp_path: Path) -> None:
    archives = tmp_path / "archives"
    archives.mkdir()
    sound = {"fma_small/000/000002.mp3": b"two", "fma_small/000/000005.mp3": b"five"}
    sums = f"{hashlib.sha1(b'two').hexdigest()}  000/000002.mp3\n"
    make_zip(archives / "fma_small.zip", {**sound, "fma_small/checksums": sums.encode()})
    make_zip(archives / "fma_metadata.zip", {"fma_metadata/tracks.csv": FMA_TABLE.encode()})
    data_set = get_set("fma-small")
    found = get_data_set(data_set, tmp_path / "set", source=archives)
    assert [(t.track_id, t.label, t.split, t.group) for t in found.manifest.tracks] == [
        ("000002", "Hip-Hop", "train", "artist-1"),
        ("000005", "Rock", "test", "artist-2"),
    ]
    assert [path.name for path, _ in found.skipped] == ["000140.mp3"]
    assert data_set.local_checksums(tmp_path / "set") == {"000002": f"sha1:{hashlib.sha1(b'two').hexdigest()}"}
    with pytest.raises(DataError, match=r"holds no tracks\.csv"):
        data_set.index(tmp_path / "set" / "fma_small")
    (tmp_path / "set/fma_metadata/fma_metadata/tracks.csv").write_text("a,b\nc,d\n")
    with pytest.raises(DataError, match=r"has no column set.subset"):
        data_set.index(tmp_path / "set")


@pytest.fixture
def fma(tmp_path: Path) -> Path:
    """FMA's clips and metadata as they are unpacked, beside each other."""
    for name in ("000/000002.mp3", "000/000005.mp3", "000/000010.mp3", "000/000077.mp3"):
        path = tmp_path / "fma" / "fma_small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "fma" / "fma_metadata").mkdir()
    (tmp_path / "fma" / "fma_metadata" / "tracks.csv").write_text(FMA_TABLE + "77,large,training,,6\n")
    raw = "track_id,album_id,license_title,track_genres,track_title\n2,1,CC,[],Food\n"
    (tmp_path / "fma" / "fma_metadata" / "raw_tracks.csv").write_text(raw)
    return tmp_path / "fma"


@pytest.mark.parametrize("source", ["", "fma_small", "fma_metadata/tracks.csv"])
def test_fma_is_known_by_its_layout(fma: Path, source: str) -> None:
    manifest = fma / "m.csv"
    result = CliRunner().invoke(app, ["data", "index", str(fma / source), "-o", str(manifest)])
    assert result.exit_code == 1, "a clip is absent"
    assert "in the form of FMA" in result.stderr and "Creative Commons" in result.stderr
    tracks = [(track.track_id, track.label, track.split) for track in read_manifest(manifest).tracks]
    assert tracks == [("000002", "Hip-Hop", "train"), ("000010", "Pop", "train"), ("000005", "Rock", "test")]
    assert "000077.mp3: tracks.csv names no one genre of it" in result.stderr
    assert "000140.mp3: the clip is not there" in result.stderr
    chosen = ["data", "index", str(fma / source), "-o", str(manifest), "--overwrite", "--labels", "Pop,Rock"]
    CliRunner().invoke(app, chosen)
    assert read_manifest(manifest).labels == ("Pop", "Rock")


def test_fma_without_its_table_says_what_to_do(fma: Path) -> None:
    with pytest.raises(DataError, match=r"raw metadata of FMA.*fma_metadata/tracks\.csv.*data index FOLDER"):
        get_set("fma-small").index(fma / "fma_metadata" / "raw_tracks.csv")
    assert set_that_reads(fma / "fma_metadata" / "raw_tracks.csv") is get_set("fma-small")
    (fma / "fma_metadata" / "tracks.csv").unlink()
    with pytest.raises(DataError, match=r"holds no tracks\.csv.*Put fma_metadata/tracks\.csv.*beside"):
        get_set("fma-small").index(fma / "fma_small")


def test_folders_of_numbers_may_be_anybodys(tmp_path: Path) -> None:
    for name in ("001/a.mp3", "002/b.mp3"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"sound")
    assert set_that_reads(tmp_path) is None


def _pieces(folder: Path) -> Path:
    """MagnaTagATune's three pieces and its table, of one clip."""
    data = make_zip(folder / "made.zip", {"f/ann-first-01-song-0-29.mp3": _mp3(folder)}).read_bytes()
    (folder / "made.zip").unlink()
    for n in range(3):
        (folder / f"mp3.zip.00{n + 1}").write_bytes(data[n * 100 : (n + 1) * 100 if n < 2 else None])
    (folder / "annotations_final.csv").write_text("clip_id\tguitar\tmp3_path\n2\t1\tf/ann-first-01-song-0-29.mp3\n")
    return folder


def _mp3(folder: Path) -> bytes:
    path = folder / "tmp.mp3"
    soundfile.write(path, music(0.1, 16000, 1), 16000, format="MP3")
    data = path.read_bytes()
    path.unlink()
    return data


def test_an_archive_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    source = _pieces(tmp_path / "copy")
    data_set = get_set("magnatagatune")
    found = get_data_set(data_set, tmp_path / "set", source=source, tags="all")
    assert [track.labels for track in found.manifest.tracks] == [("guitar",)]
    assert found.manifest.tracks[0].path == tmp_path / "set/mp3/f/ann-first-01-song-0-29.mp3"
    assert (tmp_path / "set/annotations_final.csv").is_file()
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["annotations_final.csv", "mp3"]
    unpacked = get_data_set(data_set, tmp_path / "other", source=tmp_path / "set", tags="guitar")
    assert unpacked.manifest == found.manifest
    (source / "mp3.zip.002").unlink()
    with pytest.raises(DataError, match=r"holds mp3\.zip\.001 but not mp3\.zip\.002"):
        get_data_set(data_set, tmp_path / "third", source=source)
    make_zip(source / "mp3.zip", {"f/ann-first-01-song-0-29.mp3": _mp3(tmp_path)})
    joined = get_data_set(data_set, tmp_path / "fourth", source=source, tags="all")
    assert len(joined.manifest) == 1, "pieces that somebody has joined"


def test_pieces_over_http(server: Server, tmp_path: Path) -> None:
    server.body = b"clip_id"
    data_set = get_set("magnatagatune")
    local = tuple(dataclasses.replace(piece, urls=(server.url,)) for piece in data_set.archives)
    files = tuple(dataclasses.replace(file, urls=(server.url,)) for file in data_set.files)
    with pytest.raises(DataError, match=r"mp3\.zip\.001 \+ mp3\.zip\.002 \+ mp3\.zip\.003 is damaged"):
        get_data_set(dataclasses.replace(data_set, archives=local, files=files), tmp_path / "set")
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == [
        "annotations_final.csv",
        "clip_info_final.csv",
        "downloads",
    ]
    assert sorted(p.name for p in (tmp_path / "set/downloads").iterdir()) == [piece.filename for piece in local]


def test_a_set_that_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mtg-jamendo is not downloaded.*get mtg-jamendo --from FOLDER"):
        get_data_set(get_set("mtg-jamendo"), tmp_path)
