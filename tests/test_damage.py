"""A byte that changed on the disk is noticed: what is kept in a cache is made anew, and a store names the row."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from musicgenre._npz import read_whole_npz
from musicgenre.data.cache import RowCache
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.shards import open_shards, write_shards
from musicgenre.data.store import open_store
from musicgenre.errors import DataError
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation
from tests.limits import little_memory
from tests.small_store import make_store

KEY = "ab" + 62 * "0"
FLIPS = (0x01, 0x80, 0xFF)


def flipped(path: Path, *, step: int = 1) -> Iterator[int]:
    """Change one byte of a file after the other, every ``step``-th, in one of three ways; in the end none is."""
    whole = path.read_bytes()
    for place in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[place] ^= FLIPS[place // step % len(FLIPS)]
        path.write_bytes(damaged)
        yield place
    path.write_bytes(whole)


def test_no_damaged_cache_entry_is_read_as_whole(tmp_path: Path) -> None:
    cache = RowCache(tmp_path)
    starts_s, rows = np.arange(3) * 0.5, np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    cache.write(KEY, starts_s, rows)
    for place in flipped(cache.path_of(KEY)):
        found, found_starts_s = cache.read(KEY), cache.read_starts(KEY)
        assert found is None, place
        assert found_starts_s is None or np.array_equal(found_starts_s, starts_s), place
    assert cache.read(KEY) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
@pytest.mark.parametrize("is_old", [False, True])
def test_a_cache_entry_that_says_it_is_large_is_none(tmp_path: Path, is_old: bool) -> None:
    cache = RowCache(tmp_path)
    path = cache.path_of(KEY)
    cache.write(KEY, np.arange(3) * 0.5, np.ones((3, 2), np.float32))
    path.write_bytes(b"MCR1" + b"\xff" * 4 + path.read_bytes()[8:])
    if is_old:
        with path.open("wb") as stream:
            np.lib.format.write_array(stream, np.arange(3) * 0.5)
        path.write_bytes(path.read_bytes().replace(b"(3,), }" + b" " * 12, b"(3" + b"0" * 12 + b",), }"))
    with little_memory():
        assert cache.read(KEY) is None and cache.read_starts(KEY) is None


def test_cache_entries_of_earlier_versions_are_read(tmp_path: Path) -> None:
    cache = RowCache(tmp_path)
    starts_s, rows = np.arange(3) * 0.5, np.ones((3, 2), np.float16)
    cache.path_of(KEY).parent.mkdir(parents=True)
    with cache.path_of(KEY).open("wb") as stream:
        np.lib.format.write_array(stream, starts_s)
        np.lib.format.write_array(stream, rows)
    found = cache.read(KEY)
    assert found is not None
    np.testing.assert_array_equal(found[0], starts_s)
    np.testing.assert_array_equal(found[1], rows)


def test_no_damaged_file_of_what_was_heard_is_read_as_whole(tmp_path: Path) -> None:
    path = tmp_path / "heard.npz"
    arrays = {"embedding": np.random.default_rng(0).normal(size=(12, 3)), "warnings": np.array(["short"])}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    n_noticed = 0
    for place in flipped(path, step=3):
        found = read_whole_npz(path)
        if found is None or found.keys() != arrays.keys():
            n_noticed += 1
            continue
        for name, values in arrays.items():  # a time stamp, say, is no part of what was kept
            assert np.array_equal(found[name], values), place
    assert n_noticed > 100
    assert read_whole_npz(path) is not None


@pytest.mark.parametrize("kind", ["store.json", "index-*.csv", "train-*.npy"])
def test_no_damaged_store_is_read_as_whole(tmp_path: Path, kind: str) -> None:
    store = make_store(tmp_path / "store", n_tracks=3)
    whole = content_of(store.folder)
    (path,) = store.folder.glob(kind)
    n_noticed = 0
    for place in flipped(path, step=7):
        try:
            found = content_of(store.folder)
        except DataError:
            n_noticed += 1
            continue
        assert found == whole, place
    assert n_noticed > 20
    assert content_of(store.folder) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [[2], 3]},
        {"shape": [2, -3]},
        {"shape": [2, 2**62]},
        {"shape": ["2", 3]},
        {"parts": None},
        {"index": "../index.csv"},
        {"index": "x" * 100_000},
        {"parts": {"train": {"file": "x" * 100_000, "rows": 1, "bytes": 1}}},
        {"parts": {"train": None}},
        {"normalisation": {"mean": [0.0], "std": [1.0], "row_axis": 10**30}},
    ],
)
def test_descriptions_of_another_shape_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    before = shutil.copytree(Path(__file__).parent / "data" / "before" / "store", tmp_path / "store")
    description = json.loads((before / "store.json").read_text("utf-8"))
    (before / "store.json").write_text(json.dumps(description | changes), "utf-8")
    with pytest.raises(DataError, match="store"):
        content_of(before)


def test_a_header_that_ends_amid_its_text_is_refused(tmp_path: Path) -> None:
    before = shutil.copytree(Path(__file__).parent / "data" / "before" / "store", tmp_path / "store")
    (part,) = before.glob("train-*.npy")
    part.write_bytes(part.read_bytes().replace(b"'shape': (", b"'shape': ["))
    with pytest.raises(DataError, match="is damaged"):
        open_store(before).part("train").features[:]


def content_of(folder: Path) -> tuple[object, ...]:
    """All that a reader takes from a store."""
    store = open_store(folder)
    rows = store.everything
    assert store.normalisation is not None
    about = [rows.track_ids.tolist(), rows.starts_s.tolist(), rows.labels.tolist(), store.labels, store.parts]
    return (rows.features[:].tobytes(), *about, store.representation, store.normalisation.as_dict())


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Tracks that are read by a representation that hears nothing."""
    tracks = []
    for number, split in enumerate(["train", "train", "validation", "test"]):
        columns = {name: str(number + 1) for name in ("tempo", "loudness")}
        path = tmp_path / f"{number}.wav"
        path.write_bytes(b"")
        tracks.append(Track(f"t{number}", path, "ab"[number % 2], split=split, columns=columns))
    return Manifest(tmp_path / "manifest.csv", tuple(tracks))


def test_a_damaged_row_is_named_with_the_command_that_repairs_it(manifest: Manifest, tmp_path: Path) -> None:
    columns = create_representation("columns", names=["tempo", "loudness"])

    def prepared() -> Path:
        return prepare(manifest, columns, tmp_path / "store", cache=tmp_path / "cache").folder

    whole = open_store(prepared()).everything.features[:]
    (part,) = (tmp_path / "store").glob("train-*.npy")
    content = bytearray(part.read_bytes())
    content[-2 * 4 - 1] ^= 1  # the last byte of the second row: behind it stand two checksums
    part.write_bytes(content)
    with pytest.raises(DataError, match=r"train-.+npy is damaged in row 1\. Repair .+ musicgenre prepare .+columns"):
        open_store(tmp_path / "store").part("train").features[:]
    assert len(open_store(tmp_path / "store").part("train").features[[0]]) == 1, "the other row is whole"
    np.testing.assert_array_equal(open_store(prepared()).everything.features[:], whole)


def damage_every(folder: Path, pattern: str, change: Callable[[bytes], bytes]) -> int:
    paths = list(folder.rglob(pattern))
    for path in paths:
        path.write_bytes(change(path.read_bytes()))
    return len(paths)


def test_a_store_without_checksums_is_read_as_before(tmp_path: Path) -> None:
    before = Path(__file__).parent / "data" / "before" / "store"
    store = open_store(shutil.copytree(before, tmp_path / "store"))
    assert "sha256" not in json.loads((tmp_path / "store" / "store.json").read_text("utf-8"))
    assert np.isfinite(store.everything.features[:]).all()


def test_a_damaged_copy_of_shards_is_fetched_anew(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_shards(make_store(tmp_path / "store"), None, tmp_path / "shards")
    whole = open_shards(tmp_path / "shards", cache=tmp_path / "cache").part("test").features[:]
    assert damage_every(tmp_path / "cache", "test.npy", lambda content: content[:-30] + b"x" * 30) == 1
    again = open_shards(tmp_path / "shards", cache=tmp_path / "cache").part("test").features[:]
    np.testing.assert_array_equal(again, whole)
