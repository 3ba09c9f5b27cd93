"""Files of embeddings: what is written is read, mapped where possible, and nothing damaged or pickled passes."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from musicgenre.audio import Level, printable
from musicgenre.embedding.file import (
    EmbeddingSettings,
    TrackEmbeddings,
    read_embeddings,
    write_embeddings,
)
from musicgenre.errors import DataError, UsageError

SETTINGS = EmbeddingSettings("toy", "ab" * 32, "embedding", "mean", "18")
NETWORK = EmbeddingSettings("transformer", "cd" * 32, "embedding", "max", "full", {"layers": 3}, {"model": "a/b"})


def some_tracks(rng: np.random.Generator, n: int = 5, width: int = 7) -> TrackEmbeddings:
    names = ["a.wav", "Björk/ö.mp3", os.fsdecode(b"odd \xff.ogg"), "line\nbreak.wav"] + [f"{i}.wav" for i in range(n)]
    return TrackEmbeddings(
        SETTINGS,
        names[:n],
        rng.standard_normal((n, width)).astype(np.float16),
        rng.integers(1, 1 << 40, n),
        rng.integers(1, 1 << 60, n),
        rng.integers(0, 256, (n, 32), dtype=np.uint8),
    )


def rewritten(path: Path, **changes: np.ndarray | bytes) -> Path:
    """Write the same file with some arrays changed."""
    with np.load(path, allow_pickle=False) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    for name, value in changes.items():
        kept[name] = np.frombuffer(value, dtype=np.uint8) if isinstance(value, bytes) else value
    np.savez(path, **kept)
    return path


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_what_is_written_is_read(tmp_path: Path, rng: np.random.Generator, mapped: bool, n: int) -> None:
    tracks = some_tracks(rng, n)
    path = tmp_path / "new folder" / "library.npz"
    write_embeddings(path, tracks)
    again = read_embeddings(path, mapped=mapped)
    assert isinstance(again.vectors, np.memmap) == mapped
    assert again.settings == SETTINGS and list(again.paths) == list(tracks.paths) and len(again) == n
    for name in ("vectors", "size_bytes", "modified_ns", "sha256"):
        np.testing.assert_array_equal(getattr(again, name), getattr(tracks, name))
    assert list(path.parent.iterdir()) == [path]


def test_no_tracks_and_compressed_files_are_read_too(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "library.npz"
    write_embeddings(path, some_tracks(rng, 0))
    assert len(read_embeddings(path)) == 0
    tracks = some_tracks(rng)
    write_embeddings(path, tracks)
    with np.load(path) as arrays:
        np.savez_compressed(path, **{name: arrays[name] for name in arrays.files})
    np.testing.assert_array_equal(read_embeddings(path).vectors, tracks.vectors)


def test_numpy_alone_reads_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    write_embeddings(tmp_path / "library.npz", some_tracks(rng))
    with np.load(tmp_path / "library.npz", allow_pickle=False) as arrays:
        assert arrays["embeddings"].shape == (5, 7) and arrays["embeddings"].dtype == np.float16
        assert bytes(arrays["paths"]).split(b"\0")[0] == b"a.wav"
        assert json.loads(bytes(arrays["card"])) == {
            "format_version": 1,
            "model": "toy",
            "model_sha256": "ab" * 32,
            "what": "embedding",
            "pool": "mean",
            "coverage": "18",
        }


@pytest.mark.parametrize(
    "changes",
    [
        {"embeddings": np.zeros((5, 7), np.float32)},
        {"embeddings": np.zeros((4, 7), np.float16)},
        {"embeddings": np.zeros((5, 0), np.float16)},
        {"embeddings": np.zeros(5, np.float16)},
        {"size_bytes": np.zeros(3, np.int64)},
        {"sha256": np.zeros((5, 16), np.uint8)},
        {"sha256": np.zeros((5, 32), np.int64)},
        {"size_bytes": np.zeros(5)},
        {"modified_ns": np.full(5, "now")},
        {"paths": b"a\0b"},
        {"card": b"{"},
        {"card": b"[]"},
        {"card": b'{"format_version": 1, "model": "toy"}'},
        {"card": json.dumps({"format_version": "9", **SETTINGS.as_dict()}).encode()},
        {"card": json.dumps({"format_version": 1, **NETWORK.as_dict(), "options": "layers"}).encode()},
        {"card": json.dumps({"format_version": 2, **SETTINGS.as_dict(), "level": {"target_db": 3}}).encode()},
        {"card": json.dumps({"format_version": 2, **SETTINGS.as_dict(), "level": {"window": 3}}).encode()},
        {"card": json.dumps({"format_version": 1, **dict.fromkeys(SETTINGS.__slots__, "x")}).encode()},
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, rng: np.random.Generator, changes: dict[str, np.ndarray | bytes]
) -> None:
    path = tmp_path / "library.npz"
    write_embeddings(path, some_tracks(rng))
    with pytest.raises(DataError, match="damaged"):
        read_embeddings(rewritten(path, **changes))


def test_options_and_location_of_a_network_are_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "library.npz"
    write_embeddings(path, replace(some_tracks(rng), settings=NETWORK))
    again = read_embeddings(path).settings
    assert again == NETWORK and again.location == {"model": "a/b"}
    assert replace(again, location={}) == NETWORK, "the same model, wherever it lies"
    assert replace(again, options={"layers": 2}) != NETWORK

    levelled = replace(SETTINGS, level=Level(-20.0))
    write_embeddings(path, replace(some_tracks(rng), settings=levelled))
    assert read_embeddings(path).settings == levelled != SETTINGS


def test_a_newer_format_says_how_to_update(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "library.npz"
    write_embeddings(path, some_tracks(rng))
    with pytest.raises(DataError, match="pip install --upgrade"):
        read_embeddings(rewritten(path, card=b'{"format_version": 3}'))


def test_other_files_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "library.npz"
    with pytest.raises(DataError, match="no file"):
        read_embeddings(path)
    with pytest.raises(DataError):
        read_embeddings(tmp_path)
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for content in (b"", b"some text", array.getvalue(), pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged") as refused:
            read_embeddings(path)
        assert "pickle" not in str(refused.value), "no hint at how to load it all the same"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="damaged"):
        read_embeddings(path)
    write_embeddings(path, some_tracks(rng))
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_embeddings(path)


def test_pickled_arrays_are_never_loaded(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "library.npz"
    write_embeddings(path, some_tracks(rng))
    rewritten(path, embeddings=np.array([{"a": 1}] * 5, dtype=object))
    for mapped in (True, False):
        with pytest.raises(DataError, match="allow_pickle=False"):
            read_embeddings(path, mapped=mapped)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library.npz"
    write_embeddings(path, some_tracks(rng))
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(UsageError, match="No space left"):
        write_embeddings(path, some_tracks(rng, 2))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_only_names_of_known_formats_are_written(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(UsageError, match=r"\.npz"):
        write_embeddings(tmp_path / "library.pkl", some_tracks(rng))
    assert not list(tmp_path.iterdir())


def test_parquet_without_pyarrow_names_npz_and_the_extra(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musicgenre.embedding.file.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs pyarrow.*\.npz.*musicgenre\[parquet\]"):
        write_embeddings(tmp_path / "library.parquet", some_tracks(rng))
    assert not list(tmp_path.iterdir())


def test_parquet_holds_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    tracks = some_tracks(rng)
    path = tmp_path / "new folder" / "library.parquet"
    write_embeddings(path, tracks)
    table = parquet.read_table(path)
    assert {field.name: str(field.type) for field in table.schema} == {
        "path": "string",
        "embedding": "list<element: float>",
        "size_bytes": "int64",
        "modified_ns": "int64",
        "sha256": "string",
    }
    assert table["path"].to_pylist() == [printable(name) for name in tracks.paths]
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float16), tracks.vectors)
    np.testing.assert_array_equal(table["size_bytes"].to_numpy(), tracks.size_bytes)
    np.testing.assert_array_equal(table["modified_ns"].to_numpy(), tracks.modified_ns)
    assert table["sha256"].to_pylist() == [row.tobytes().hex() for row in tracks.sha256]
    assert json.loads(table.schema.metadata[b"musicgenre.card"]) == {"format_version": 1, **SETTINGS.as_dict()}
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_parquet(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library.parquet"
    write_embeddings(path, some_tracks(rng))
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(UsageError, match="No space left"):
        write_embeddings(path, some_tracks(rng, 2))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_parquet_is_read_back(tmp_path: Path, rng: np.random.Generator) -> None:
    tracks = some_tracks(rng)
    write_embeddings(tmp_path / "library.parquet", tracks)
    found = read_embeddings(tmp_path / "library.parquet")
    assert found.settings == tracks.settings and list(found.paths) == [printable(name) for name in tracks.paths]
    for name in ("vectors", "size_bytes", "modified_ns", "sha256"):
        np.testing.assert_array_equal(getattr(found, name), getattr(tracks, name))
        assert getattr(found, name).dtype == getattr(tracks, name).dtype


def _changed(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        parquet.write_table(change(parquet.read_table(path)), path)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"PAR1"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(bytes(200) + path.read_bytes()[200:]),
        _changed(lambda table: table.replace_schema_metadata({})),
        _changed(lambda table: table.replace_schema_metadata({"musicgenre.card": "[]"})),
        _changed(lambda table: table.drop_columns(["sha256"])),
        _changed(lambda table: table.set_column(1, "embedding", [[[1.0]] * (len(table) - 1) + [[1.0, 2.0]]])),
        _changed(lambda table: table.set_column(1, "embedding", [[None] * len(table)])),
        _changed(lambda table: table.set_column(1, "embedding", [["a"] * len(table)])),
        _changed(lambda table: table.set_column(4, "sha256", [["zz"] * len(table)])),
        _changed(lambda table: table.set_column(4, "sha256", [["00"] * len(table)])),
        _changed(lambda table: table.set_column(2, "size_bytes", [[None] * len(table)])),
        _changed(lambda table: table.set_column(2, "size_bytes", [["x"] * len(table)])),
    ],
)
def test_damaged_parquet_is_refused(tmp_path: Path, rng: np.random.Generator, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "library.parquet"
    write_embeddings(path, some_tracks(rng))
    damage(path)
    with pytest.raises(DataError, match=r"damaged or no file of embeddings"):
        read_embeddings(path)


def test_reading_parquet_needs_pyarrow(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_embeddings(tmp_path / "library.parquet", some_tracks(rng))
    monkeypatch.setattr("musicgenre.embedding.file.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs pyarrow"):
        read_embeddings(tmp_path / "library.parquet")
