"""`musicgenre similar`: exactly the nearest tracks, in the right order, from an index of the same model only."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.cli._options import print_playlist
from musicgenre.embedding.embed import Embedder, embed_tracks
from musicgenre.embedding.file import EmbeddingSettings, TrackEmbeddings, read_embeddings
from musicgenre.embedding.similar import SimilarityIndex, similar
from musicgenre.errors import AudioError, DataError, UsageError
from tests.cli import run
from tests.toy import RATE_HZ, save_toy_ears

SETTINGS = EmbeddingSettings("toy", "", "embedding", "mean", "18")


def index_of(
    vectors: np.ndarray, paths: list[str] | None = None, same: dict[int, int] | None = None
) -> SimilarityIndex:
    """Make an index; ``same`` says which rows have the content of which others."""
    n = len(vectors)
    contents = np.arange(n)
    for row, original in (same or {}).items():
        contents[row] = contents[original]
    hashes = np.zeros((n, 32), np.uint8)
    hashes[:, :8] = contents.astype("<u8")[:, None].view(np.uint8)
    names = paths or [f"{row}.wav" for row in range(n)]
    return SimilarityIndex(TrackEmbeddings(SETTINGS, names, vectors.astype(np.float16), contents, contents, hashes))


def rows_of(neighbours: tuple) -> list[int]:
    return [int(neighbour.path.removesuffix(".wav")) for neighbour in neighbours]


@given(st.integers(1, 400), st.integers(1, 30), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_nearest_are_those_of_float64(n: int, width: int, top: int, coarse: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, width)).astype(np.float16)
    if coarse:  # many equal rows and zeros
        vectors = np.round(vectors)
    query = rng.standard_normal(width).astype(np.float32)
    precise = vectors.astype(np.float64)
    length = np.linalg.norm(precise, axis=1)
    direction = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
    product = np.einsum("ij,j->i", precise, direction)
    cosines = np.divide(product, length, out=np.zeros(n), where=length > 0).clip(-1, 1)
    expected = np.lexsort((np.arange(n), -cosines))[:top]
    found = index_of(vectors).nearest(query, top=top)
    np.testing.assert_allclose([f.cosine for f in found], cosines[expected], atol=1e-12)
    assert [f.cosine for f in found] == sorted((f.cosine for f in found), reverse=True)
    assert len(set(rows_of(found))) == min(top, n)
    if not coarse:
        assert rows_of(found) == expected.tolist()


def test_equal_tracks_come_in_the_order_of_the_index() -> None:
    index = index_of(np.tile(np.array([[1.0, 2.0, 0.5]]), (9000, 1)))
    assert rows_of(index.nearest(np.array([1.0, 0.0, 0.0]), top=4)) == [0, 1, 2, 3]


def test_the_track_and_its_copies_are_left_out() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    index = index_of(vectors, same={2: 0})
    assert rows_of(index.nearest_to(0)) == rows_of(index.nearest_to(2)) == [1, 3, 4]
    assert rows_of(index.nearest_to(1, top=2)) == [0, 2]
    assert index.nearest_to(0)[-1].cosine == -1
    assert index_of(vectors[:1]).nearest_to(0) == ()


def test_tracks_are_found_by_path_and_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["music/a/one.mp3", "music/b/one.mp3", "music/b/two.mp3", "none.mp3"]
    index = index_of(np.eye(4), paths)
    assert len(index) == 4 and index.paths == tuple(paths)
    assert [index.find(path) for path in paths] == [0, 1, 2, 3]
    assert index.find("two.mp3") == 2 and index.find("b/one.mp3") == 1
    assert index.find("wo.mp3") is None and index.find("") is None
    with pytest.raises(UsageError, match="2 tracks"):
        index.find("one.mp3")
    with pytest.raises(UsageError, match="neither a file nor a track"):
        similar("three.mp3", index)


def test_what_has_no_direction_is_refused() -> None:
    index = index_of(np.eye(3))
    for vector in (np.zeros(3), np.full(3, np.nan), np.zeros(4), np.ones((1, 3))):
        with pytest.raises(UsageError):
            index.nearest(vector)
    with pytest.raises(UsageError, match="1 or more"):
        index.nearest(np.ones(3), top=0)
    vectors = np.eye(3)
    vectors[1, 2] = np.inf
    with pytest.raises(DataError, match=r"1\.wav"):
        index_of(vectors)


@pytest.fixture
def library(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Ears, a folder of three dull and three bright tracks, and its index."""
    ears = save_toy_ears(tmp_path / "ears.onnx")
    folder = tmp_path / "music"
    folder.mkdir()
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    for number in range(3):
        for name, pitch_hz in (("dull", 100), ("bright", 3000)):
            sound = (0.2 + 0.2 * number) * np.sin(2 * np.pi * (1 + number / 20) * pitch_hz * t)
            soundfile.write(folder / f"{name}{number}.wav", sound, RATE_HZ)
    out = tmp_path / "index.npz"
    embed_tracks(sorted(map(str, folder.iterdir())), Embedder(str(ears)), out)
    return ears, folder, out


def test_a_track_of_the_index_needs_no_model(
    library: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, out = library
    index = SimilarityIndex.open(out)
    assert index.settings.model == "toy-ears"
    found = similar(folder / "dull1.wav", index, top=2)
    assert {Path(entry.path).name for entry in found} == {"dull0.wav", "dull2.wav"}
    shutil.copy(folder / "dull1.wav", folder / "elsewhere.wav")
    assert similar(folder / "elsewhere.wav", index, top=2) == found
    monkeypatch.chdir(folder)
    assert similar("dull1.wav", index, top=2) == found


def test_any_audio_file_is_heard(library: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ears, _, out = library
    index = SimilarityIndex.open(out)
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    soundfile.write(tmp_path / "new.wav", 0.3 * np.sin(2 * np.pi * 2900 * t), RATE_HZ)
    notes: list[str] = []
    found = similar(tmp_path / "new.wav", index, top=3, model=str(ears), report=notes.append)
    assert {Path(entry.path).name[:6] for entry in found} == {"bright"} and "repeated" in notes[0]
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError):
        similar(tmp_path / "text.wav", index, model=str(ears))


@pytest.mark.parametrize(("level", "is_told"), [(-20.0, False), (None, True)])
def test_a_new_track_is_heard_at_the_level_of_the_index(
    library: tuple[Path, Path, Path], tmp_path: Path, level: float | None, is_told: bool
) -> None:
    ears, folder, out = library
    embed_tracks(sorted(map(str, folder.iterdir())), Embedder(str(ears), level=level), out, overwrite=True)
    samples, rate_hz = soundfile.read(folder / "dull1.wav")
    soundfile.write(tmp_path / "quiet.wav", samples / 8, rate_hz, subtype="FLOAT")
    notes: list[str] = []
    nearest = similar(tmp_path / "quiet.wav", SimilarityIndex.open(out), top=1, model=str(ears), report=notes.append)
    assert any("loudness counts" in note for note in notes) == is_told
    if level is not None:
        assert nearest[0].cosine == pytest.approx(1, abs=1e-4)
        assert "dull" in nearest[0].path


def test_an_index_of_another_model_is_refused(library: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, folder, out = library
    other = save_toy_ears(tmp_path / "other.onnx", name="other-ears")
    index = SimilarityIndex.open(out)
    for track in (folder / "dull1.wav", other):
        with pytest.raises(UsageError, match="another model: model toy-ears, not other-ears"):
            similar(track, index, model=str(other))


def test_the_command_prints_tables_and_json(library: tuple[Path, Path, Path]) -> None:
    ears, folder, out = library
    table = run("similar", folder / "bright0.wav", "--index", out, "--top", "3")
    lines = table.stdout.decode().splitlines()
    assert table.returncode == 0 and len(lines) == 3 and all("bright" in line for line in lines[:2])
    done = run("similar", "bright0.wav", "--index", out, "--format", "json", "--model", ears)
    record = json.loads(done.stdout)
    assert record["model"] == "toy-ears" and len(record["neighbours"]) == 5
    cosines = [entry["cosine"] for entry in record["neighbours"]]
    assert cosines == sorted(cosines, reverse=True) and "bright" in record["neighbours"][0]["path"]
    missing = run("similar", "bright0.wav", "--index", folder / "none.npz")
    assert missing.returncode == 2 and b"musicgenre embed" in missing.stderr
    unknown = run("similar", "nothing.wav", "--index", out)
    assert unknown.returncode == 2 and b"neither a file" in unknown.stderr


def test_a_playlist_of_whole_paths(library: tuple[Path, Path, Path]) -> None:
    _, _, out = library
    done = run("similar", "bright0.wav", "--index", out, "--top", "3", "--format", "m3u8")
    table = run("similar", "bright0.wav", "--index", out, "--top", "3").stdout.decode().splitlines()
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "#EXTM3U" and len(lines) == 4
    assert [Path(line).name for line in lines[1:]] == [Path(line.split()[1]).name for line in table]
    assert all(Path(line).is_absolute() and Path(line).is_file() for line in lines[1:])


def test_a_playlist_keeps_the_bytes_of_names_and_leaves_out_what_would_break_it(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    print_playlist([os.fsdecode(b"/music/caf\xe9.wav"), "/music/two\nlines.wav", "/music/\u0416.wav"])
    told = capfdbinary.readouterr()
    assert told.out == b"#EXTM3U\n/music/caf\xe9.wav\n/music/\xd0\x96.wav\n"
    assert b"left out, since no playlist can hold its name: /music/two\\nlines.wav" in told.err


def test_a_mapped_index_and_one_in_memory_agree(library: tuple[Path, Path, Path]) -> None:
    _, _, out = library
    mapped, loaded = read_embeddings(out), read_embeddings(out, mapped=False)
    assert isinstance(mapped.vectors, np.memmap)
    assert SimilarityIndex(mapped).nearest_to(0) == SimilarityIndex(loaded).nearest_to(0)
    strided = replace(loaded, vectors=np.asfortranarray(loaded.vectors))
    assert SimilarityIndex(strided).nearest_to(0) == SimilarityIndex(loaded).nearest_to(0)
