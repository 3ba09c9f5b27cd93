"""Preparation of representations that hear several tracks at once: threads decode ahead, the network takes batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musicgenre.data.manifest import Manifest, Track
from musicgenre.features import jobs as _batched_jobs
from musicgenre.features.base import Representation
from musicgenre.features.prepare import prepare
from musicgenre.features.published.vggish import network as _vggish
from musicgenre.features.registry import create_representation
from musicgenre.features.representations import transformer
from tests.published_vggish import write_pca
from tests.representations import Crowd, Pieces
from tests.tiny_transformers import make_model


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twenty tracks of one to four segments, one of them no sound at all."""
    rng = np.random.default_rng(1)
    tracks = []
    for number in range(20):
        path = tmp_path / "music" / f"{number:02}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 4_000 * (1 + number % 4)), 8_000)
        tracks.append(Track(path.stem, path, "x", split="train"))
    tracks[11].path.write_bytes(b"RIFF")
    return Manifest(None, tuple(tracks))


@pytest.mark.parametrize("jobs", [1, 3])
def test_batches_give_what_single_tracks_give(manifest: Manifest, tmp_path: Path, jobs: int) -> None:
    crowd = Crowd()
    many = prepare(manifest, crowd, tmp_path / "many", jobs=jobs, cache=tmp_path / "cache-many")
    single = prepare(manifest, Pieces(), tmp_path / "single", cache=tmp_path / "cache-single")
    assert crowd.batches == [20, 17, 9], "eight tracks, eight, and the three that are left; the broken one is none"
    assert (many.computed, many.n_rows) == (single.computed, single.n_rows) == (19, 46)
    assert [skip.track_id for skip in many.skipped] == [skip.track_id for skip in single.skipped] == ["11"]
    one, other = many.open().everything, single.open().everything
    np.testing.assert_array_equal(one.features[:], other.features[:])
    assert one.track_ids.tolist() == other.track_ids.tolist()
    np.testing.assert_array_equal(one.starts_s, other.starts_s)


def test_what_is_known_is_not_heard_again(manifest: Manifest, tmp_path: Path) -> None:
    first, second = Crowd(), Crowd()
    prepare(manifest, first, tmp_path / "one", cache=tmp_path / "cache")
    again = prepare(manifest, second, tmp_path / "two", cache=tmp_path / "cache")
    assert (again.computed, again.reused, second.batches) == (0, 19, [])


def test_long_tracks_make_small_batches(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batched_jobs, "_BATCH_S", 1.0)
    crowd = Crowd()
    prepare(manifest, crowd, tmp_path / "store", cache=tmp_path / "cache")
    assert sum(crowd.batches) == 46 and max(crowd.batches) <= 5


def test_progress_counts_every_track(manifest: Manifest, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    prepare(manifest, Crowd(), tmp_path / "store", cache=tmp_path / "cache", progress=lambda *at: told.append(at))
    assert told == [(done, 20) for done in range(21)]


def test_one_track_that_gives_no_numbers_is_skipped_alone(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Crowd.compute

    def sometimes(self: Crowd, waveform: np.ndarray) -> np.ndarray:
        values = whole(self, waveform)
        return values * np.nan if values[0] == mean else values

    mean = soundfile.read(manifest.tracks[3].path, dtype="float32")[0][:4_000].mean()
    monkeypatch.setattr(Crowd, "compute", sometimes)
    done = prepare(manifest, Crowd(), tmp_path / "store", cache=tmp_path / "cache")
    assert [(skip.track_id, "not finite" in skip.reason) for skip in done.skipped] == [("03", True), ("11", False)]


def hearing(name: str, folder: Path) -> Representation:
    """A family of networks with small or untrained weights, on segments of a second or so."""
    if name == "musicnn":
        return create_representation("musicnn", weights="none")
    if name == "vggish":
        return create_representation("vggish", weights="none", n_examples=1, pool="none")
    return create_representation("transformer", model=make_model(folder, name), segment_s=1.0)


@pytest.mark.parametrize("name", ["musicnn", "vggish", "wav2vec2", "hubert", "wavlm", "mert", "ast", "clap"])
def test_networks_hear_many_as_they_hear_one(
    name: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_vggish, "BATCH", 2)
    monkeypatch.setattr(transformer, "_BATCH_S", 2.0)
    made = hearing(name, tmp_path)
    assert made.hears_many, "preparation hands it batches of tracks"
    waveforms = [rng.normal(0, 0.1, length).astype(np.float32) for length in (60_000, 9_000, 16_000, 24_000, 0)]
    before = torch.get_num_threads()
    many = made.compute_many(waveforms, threads=2)
    assert torch.get_num_threads() == before
    assert len(many) == 5 and not np.allclose(many[0], many[1])
    for waveform, values in zip(waveforms, many, strict=True):
        alone = made.compute(waveform)
        assert values.shape == made.shape() and values.dtype == np.float32
        np.testing.assert_allclose(values, alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("output", ["examples", "quantised"])
def test_other_outputs_of_vggish_are_heard_together_too(output: str, tmp_path: Path, rng: np.random.Generator) -> None:
    write_pca(tmp_path / "pca.npz")
    pca = {"pca": str(tmp_path / "pca.npz")} if output == "quantised" else {}
    made = create_representation("vggish", output=output, n_examples=2, weights="none", **pca)
    waveforms = [rng.normal(0, 0.1, length).astype(np.float32) for length in (20_000, 50_000)]
    for waveform, values in zip(waveforms, made.compute_many(waveforms, threads=2), strict=True):
        np.testing.assert_allclose(values, made.compute(waveform), atol=0.0 if output == "examples" else 0.5)
