"""Checking files: missing, changed, corrupt and extra ones are named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import soundfile

from musicgenre._files import md5_of
from musicgenre.data.index import index_folder
from musicgenre.data.manifest import Manifest
from musicgenre.data.sets import Archive, get_set
from musicgenre.data.validate import published_checksums, read_checksums, validate_manifest, validate_set
from musicgenre.errors import DataError
from tests.sounds import music


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """Two genres of gtzan-mini, as far as names go."""
    for label in ("jazz", "rock"):
        (tmp_path / "genres" / label).mkdir(parents=True)
        for n in range(2):
            path = tmp_path / "genres" / label / f"{label}.{n:05d}.wav"
            soundfile.write(path, music(0.2, 22050, 1, seed=len(label) + 10 * n if label == "jazz" else n), 22050)
    return tmp_path


def _found(validation: object) -> list[tuple[str, str]]:
    return [(f.kind, f.track_id or f.path.name) for f in validation.findings]


def test_a_good_folder(mini: Path) -> None:
    told: list[tuple[int, int]] = []
    result = validate_manifest(index_folder(mini).manifest, progress=lambda *now: told.append(now))
    assert (result.ok, result.n_checked, result.n_compared, result.findings) == (True, 4, 4, ())
    assert told[-1] == (4, 4)
    without = validate_manifest(index_folder(mini, checksums=False).manifest)
    assert (without.ok, without.n_compared) == (True, 0)


def test_every_fault_is_named(mini: Path) -> None:
    manifest = index_folder(mini).manifest
    jazz, rock = mini / "genres" / "jazz", mini / "genres" / "rock"
    (jazz / "jazz.00000.wav").write_bytes(b"RIFF not music at all")
    (jazz / "jazz.00001.wav").unlink()
    soundfile.write(rock / "rock.00000.wav", music(0.1, 22050, 1), 22050)
    shutil.copy(rock / "rock.00001.wav", rock / "copy.wav")
    (rock / "notes.txt").write_text("not a sound")
    result = validate_manifest(manifest)
    assert not result.ok
    assert _found(result) == [
        ("corrupt", "jazz.00000"),
        ("missing", "jazz.00001"),
        ("changed", "rock.00000"),
        ("extra", "copy.wav"),
    ]
    assert [finding.track_id for finding in result.of_kind("missing")] == ["jazz.00001"]
    quick = validate_manifest(_without_md5(manifest), decode=False)
    assert _found(quick) == [("missing", "jazz.00001"), ("extra", "copy.wav")]
    decoded = validate_manifest(_without_md5(manifest))
    assert _found(decoded) == [("corrupt", "jazz.00000"), ("missing", "jazz.00001"), ("extra", "copy.wav")]


def _without_md5(manifest: Manifest) -> Manifest:
    return manifest.with_tracks(dataclasses.replace(track, columns={}) for track in manifest.tracks)


def test_a_truncated_file_without_checksum_is_odd(mini: Path) -> None:
    path = mini / "genres" / "rock" / "rock.00000.wav"
    path.write_bytes(path.read_bytes()[:4000])
    result = validate_manifest(index_folder(mini, checksums=False).manifest)
    assert _found(result) == [("odd", "rock.00000")]
    assert result.ok


def test_against_a_data_set(mini: Path) -> None:
    small = dataclasses.replace(
        get_set("gtzan-mini"),
        track_ids=lambda: ("jazz.00000", "jazz.00001", "jazz.00054", "rock.00000", "rock.00001", "rock.00002"),
        faults={"jazz.00054": "corrupt in most copies"},
    )
    rock = mini / "genres" / "rock"
    checksums = {path.stem: md5_of(path) for path in mini.rglob("*.wav")}
    (mini / "genres" / "jazz" / "jazz.00054.wav").write_bytes(b"RIFF\0\0 nothing")
    soundfile.write(rock / "rock.00099.wav", music(0.1, 22050, 1), 22050)
    (rock / "rock.00002.wav").touch()
    result = validate_set(small, mini, checksums=checksums)
    assert set(_found(result)) == {
        ("corrupt", "rock.00002"),
        ("corrupt", "jazz.00054"),
        ("extra", "rock.00099.wav"),
    }
    assert len(result.findings) == 3
    assert result.n_checked == 6
    assert result.n_compared == 4
    reasons = {finding.track_id: finding.reason for finding in result.findings}
    assert "(known fault: corrupt in most copies)" in reasons["jazz.00054"]
    assert reasons["rock.00002"] == "is empty"


def test_missing_tracks_of_a_data_set(mini: Path) -> None:
    result = validate_set(get_set("gtzan-mini"), mini)
    assert len(result.of_kind("missing")) == 96
    assert result.n_checked == 100


def test_checksums_from_csv_and_mirdata(tmp_path: Path) -> None:
    table = tmp_path / "md5.csv"
    table.write_text("track_id,wav_md5\na,AB\nb,\n")
    assert read_checksums(table) == {"a": "ab"}
    index = tmp_path / "index.json"
    index.write_text(
        json.dumps({"version": "1.0", "tracks": {"a": {"audio": ["a.wav", "ab"], "tempo": [None, None]}}})
    )
    assert read_checksums(index) == {"a": "ab"}
    for text, name in (("{", "i.json"), ("[]", "i.json"), ('{"tracks": {"a": {}}}', "i.json")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="no index of mirdata"):
            read_checksums(tmp_path / name)
    table.write_text("id,hash\na,b\n")
    with pytest.raises(DataError, match="has the columns id, hash"):
        read_checksums(table)
    table.write_text("track_id,md5\na,\n")
    with pytest.raises(DataError, match="names no checksum"):
        read_checksums(table)


def test_published_checksums_come_from_where_they_are(
    tmp_path: Path, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    table = tmp_path / "md5.csv"
    table.write_text("track_id,md5\na,ab\n")
    gone = Archive("index.json", ("http://127.0.0.1:9/index.json",), "md5:00")
    data_set = dataclasses.replace(get_set("gtzan-mini"), checksums=gone)
    assert published_checksums(data_set, mini, index=table) == ({"a": "ab"}, ())
    known, notes = published_checksums(data_set, mini)
    assert known == {}
    assert "--index FILE takes a list at hand" in notes[0]
    local = dataclasses.replace(
        data_set, local_checksums=lambda folder: {"a": f"sha1:{hashlib.sha1(b'').hexdigest()}"}
    )
    assert published_checksums(local, mini)[1] == ()
    none = dataclasses.replace(data_set, checksums=None)
    assert "no checksums of gtzan-mini are published" in published_checksums(none, mini)[1][0]


@pytest.mark.real_data
def test_the_real_mini_set_is_whole(shared_data: Path) -> None:
    checksums = read_checksums(shared_data / "gtzan-tables" / "gtzan_md5.csv")
    assert len(checksums) == 1000
    result = validate_set(get_set("gtzan-mini"), shared_data / "gtzan-mini", checksums=checksums)
    assert (result.ok, result.n_checked, result.n_compared) == (True, 100, 100)
    whole = validate_set(get_set("gtzan"), shared_data / "gtzan-mini", checksums=checksums)
    assert len(whole.of_kind("missing")) == 900
