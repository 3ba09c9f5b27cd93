"""Offline augmentation: the training part only, each copy repeatable, nothing lost, nothing made twice."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from musicgenre import _files
from musicgenre._locks import folder_lock
from musicgenre.audio import load
from musicgenre.augment.offline import augment, drawn_of, replay, seed_of
from musicgenre.augment.waveform import get_chain
from musicgenre.data.manifest import Manifest, Track, read_manifest
from musicgenre.data.splits import split
from musicgenre.errors import DataError, UsageError
from musicgenre.features.prepare import prepare
from tests.representations import Pieces

RATE_HZ = 8_000


@pytest.fixture
def manifest(tmp_path: Path, rng: np.random.Generator) -> Manifest:
    folder = tmp_path / "sounds"
    folder.mkdir()
    tracks = []
    for index, part in enumerate(("train", "train", "train", "validation", "test", "")):
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.3 * rng.standard_normal(RATE_HZ), RATE_HZ)
        columns = {"tempo": "120", "protocol": "track", "protocol_seed": "0", "protocol_options": ""}
        tracks.append(Track(f"set/{index}", path, "ab"[index % 2], split=part, group=f"g{index}", columns=columns))
    return Manifest(None, tuple(tracks))


def samples(path: Path) -> np.ndarray:
    return load(path, RATE_HZ).waveform


def test_copies_of_the_training_part_beside_their_originals(manifest: Manifest, tmp_path: Path) -> None:
    done = augment(manifest, get_chain("a3"), tmp_path / "aug", copies=2)
    assert (done.written, done.reused, done.skipped) == (6, 0, ())
    read = read_manifest(tmp_path / "aug" / "manifest.csv", check_files=True)
    assert [t.track_id for t in read.tracks[:4]] == ["set/0", "set/0+a3-0", "set/0+a3-1", "set/1"]
    copies = [track for track in read.tracks if track.augmented]
    assert {t.source_id for t in copies} == {"set/0", "set/1", "set/2"}
    for copy in copies:
        assert (copy.split, copy.group) == ("train", f"g{copy.source_id[-1]}")
        assert copy.columns["tempo"] == "", "features of the original are not those of the copy"
        assert copy.columns["protocol"] == "track"
    assert tuple(t for t in read.tracks if not t.augmented and t.split) == tuple(
        dataclasses.replace(t, columns={**t.columns, "augmentation": ""}) for t in manifest.tracks if t.split
    )


def test_every_copy_is_replayed_bit_by_bit(manifest: Manifest, tmp_path: Path) -> None:
    done = augment(manifest, get_chain("b2"), tmp_path / "aug")
    read = read_manifest(tmp_path / "aug" / "manifest.csv")
    paths = {track.track_id: track.path for track in read.tracks}
    copies = [track for track in read.tracks if track.augmented]
    assert len(copies) == done.written == 3
    for copy in copies:
        np.testing.assert_array_equal(replay(copy, paths[copy.source_id]), samples(copy.path))
        assert not np.array_equal(samples(copy.path)[:1000], samples(paths[copy.source_id])[:1000])


def test_a_second_run_makes_nothing_and_several_processes_make_the_same(manifest: Manifest, tmp_path: Path) -> None:
    augment(manifest, get_chain("a3"), tmp_path / "aug")
    before = (tmp_path / "aug" / "manifest.csv").read_bytes()
    again = augment(manifest, get_chain("a3"), tmp_path / "aug")
    assert (again.written, again.reused) == (0, 3)
    assert (tmp_path / "aug" / "manifest.csv").read_bytes() == before
    next((tmp_path / "aug" / "audio").iterdir()).unlink()
    assert augment(manifest, get_chain("a3"), tmp_path / "aug").written == 1
    augment(manifest, get_chain("a3"), tmp_path / "two", jobs=2)
    assert {p.name: p.read_bytes() for p in (tmp_path / "two" / "audio").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "aug" / "audio").iterdir()
    }


def test_a_changed_original_or_seed_makes_new_copies(manifest: Manifest, tmp_path: Path) -> None:
    augment(manifest, get_chain("noise"), tmp_path / "aug")
    soundfile.write(manifest.tracks[0].path, np.zeros(RATE_HZ), RATE_HZ)
    assert augment(manifest, get_chain("noise"), tmp_path / "aug").written == 1
    assert augment(manifest, get_chain("noise"), tmp_path / "aug", seed=1).written == 3


def test_other_tracks_change_no_copy(manifest: Manifest, tmp_path: Path) -> None:
    all_of_them = augment(manifest, get_chain("a3"), tmp_path / "aug").manifest
    fewer = augment(manifest.with_tracks(manifest.tracks[1:]), get_chain("a3"), tmp_path / "fewer").manifest
    records = {t.track_id: drawn_of(t) for t in all_of_them.tracks if t.augmented}
    assert all(drawn_of(t) == records[t.track_id] for t in fewer.tracks if t.augmented)


def test_chains_add_up(manifest: Manifest, tmp_path: Path) -> None:
    first = augment(manifest, get_chain("noise"), tmp_path / "one").manifest
    both = augment(first, get_chain("shift"), tmp_path / "two").manifest
    assert sum(track.augmented for track in both.tracks) == 6
    assert sum(track.augmented for track in augment(both, get_chain("shift"), tmp_path / "two").manifest.tracks) == 6


def test_faulty_originals_are_listed(manifest: Manifest, tmp_path: Path) -> None:
    manifest.tracks[0].path.write_bytes(b"this is no sound")
    manifest.tracks[1].path.unlink()
    done = augment(manifest, get_chain("noise"), tmp_path / "aug")
    assert done.written == 1
    assert [skip.track_id for skip in done.skipped] == ["set/0+noise-0", "set/1+noise-0"]
    assert len(done.manifest) == 7


def test_folds_augment_every_track_but_test_none(manifest: Manifest, tmp_path: Path) -> None:
    folds = split(manifest, "kfold", folds=3)
    whole = augment(folds, get_chain("noise"), tmp_path / "aug").manifest
    assert sum(track.augmented for track in whole.tracks) == 6
    store = prepare(whole, Pieces(), tmp_path / "store", cache=tmp_path / "cache").open()
    for fold in store.folds:
        parts = store.fold(fold)
        assert not parts["test"].augmented.any()
        assert parts["train"].augmented.any()
        assert not set(parts["train"].source_ids) & set(parts["test"].source_ids)


def test_misuse(manifest: Manifest, tmp_path: Path) -> None:
    unsplit = manifest.with_tracks(dataclasses.replace(track, split="") for track in manifest.tracks)
    with pytest.raises(DataError, match="no training part"):
        augment(unsplit, get_chain("a3"), tmp_path / "aug")
    with pytest.raises(UsageError, match="copies=0"):
        augment(manifest, get_chain("a3"), tmp_path / "aug", copies=0)
    with pytest.raises(DataError, match="no record"):
        replay(manifest.tracks[0], manifest.tracks[0].path)
    with (
        folder_lock(tmp_path / "aug", "augmentation"),
        pytest.raises(DataError, match="another augmentation"),
    ):
        augment(manifest, get_chain("a3"), tmp_path / "aug")


def test_a_full_disk_leaves_no_manifest(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        with pytest.raises(DataError, match="disk is full"):
            augment(manifest, get_chain("noise"), tmp_path / "aug")
    assert not (tmp_path / "aug" / "manifest.csv").exists()
    assert not list((tmp_path / "aug").rglob("*.flac"))
    assert augment(manifest, get_chain("noise"), tmp_path / "aug").written == 3
    assert _files.sha256_of(tmp_path / "aug" / "manifest.csv")


@given(st.integers(0, 2**31), st.text(max_size=20), st.integers(0, 100))
def test_seeds_of_copies_differ_and_repeat(seed: int, track_id: str, number: int) -> None:
    own = seed_of(seed, track_id, number)
    assert own == seed_of(seed, track_id, number)
    assert 0 <= own < 2**32
    assert own != seed_of(seed + 1, track_id, number)


def test_records_are_json(manifest: Manifest, tmp_path: Path) -> None:
    whole = augment(manifest, get_chain("a3"), tmp_path / "aug", seed=3).manifest
    for track in whole.tracks:
        if track.augmented:
            record = json.loads(track.columns["augmentation"])
            assert record["chain"] == "a3"
            assert record["seed"] == seed_of(3, track.source_id, 0)
