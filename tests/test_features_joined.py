"""Several representations in one vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musicgenre import audio
from musicgenre.data.cache import RowCache
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import UsageError
from musicgenre.features.base import TrackSound
from musicgenre.features.jobs import Job, cut_of, key_of, make_rows
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation
from musicgenre.features.representations.joined import Joined
from musicgenre.features.representations.melspectrogram import MelSpectrogram
from musicgenre.features.representations.mfcc import Mfcc
from musicgenre.features.representations.table import Table
from tests.sounds import music, write

SEGMENT_S = 2.0
MEL = {"name": "melspectrogram", "preset": "a5", "segment_s": SEGMENT_S, "n_mels": 16}
WHOLE_TABLE = {"name": "table", "whole_track": True}


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven seconds of stereo at 44.1 kHz."""
    return write(tmp_path_factory.mktemp("joined") / "music.wav", music(7.0))


def test_parts_follow_each_other(rng: np.random.Generator) -> None:
    joined = Joined(parts=[{"name": "mfcc"}, {"name": "table"}])
    sound = (rng.standard_normal(70_000) * 0.1).astype(np.float32)
    values = joined.compute(sound)
    assert joined.segment_s == 3.0 and joined.reads == "waveform"
    assert values.shape == joined.shape() == (130 * 13 + 57,)
    assert np.array_equal(values[:1690].reshape(130, 13), Mfcc().compute(sound))
    assert np.array_equal(values[1690:], Table(segment_s=3.0).compute(sound))
    assert "whole_track" not in str(joined.settings())


def test_each_part_hears_the_file_at_its_own_rate(track: Path) -> None:
    joined = Joined(parts=[MEL, {"name": "table"}, WHOLE_TABLE])
    assert (joined.reads, joined.sample_rate_hz, joined.segment_s) == ("track", 16_000, SEGMENT_S)
    rows = joined.compute_track(TrackSound.of_file(track), [0.0, 2.0, 4.0], SEGMENT_S)
    at_16k, at_22k = audio.load(track, 16_000).waveform, audio.load(track, 22_050).waveform
    mel, n_mel = MelSpectrogram(preset="a5", segment_s=SEGMENT_S, n_mels=16), 16 * 21
    for number, row in enumerate(rows):
        assert np.array_equal(row[:n_mel].reshape(16, 21), mel.compute(at_16k[number * 32_000 :]))
        segment = at_22k[number * 44_100 : (number + 1) * 44_100]
        assert np.array_equal(row[n_mel : n_mel + 57], Table().compute(segment))
        assert np.array_equal(row[n_mel + 57 :], Table().compute(at_22k)), "the same in every segment"


def test_a_whole_track_part_with_a_segment_length_is_averaged(track: Path) -> None:
    joined = Joined(parts=[MEL, {**WHOLE_TABLE, "segment_s": 3.0}])
    (row,) = joined.compute_track(TrackSound.of_file(track), [0.0], SEGMENT_S)
    sound, n = audio.load(track, 22_050).waveform, 3 * 22_050
    both = np.stack([Table().compute(sound[:n]), Table().compute(sound[n : 2 * n])])
    assert np.allclose(row[-57:], both.mean(axis=0), rtol=1e-6)


def test_without_a_file_the_waveform_is_resampled(track: Path) -> None:
    joined = Joined(parts=[MEL, WHOLE_TABLE])
    at_16k = audio.load(track, 16_000).waveform
    row = joined.compute(at_16k)
    again = audio.from_array(at_16k, 16_000, 22_050).waveform
    assert np.array_equal(row[-57:], Table().compute(again))
    assert joined.compute(np.zeros(1, np.float32)).shape == joined.shape()


def test_prepared_rows_know_the_whole_track(track: Path, tmp_path: Path) -> None:
    joined = Joined(parts=[MEL, WHOLE_TABLE])
    manifest = Manifest(None, (Track("one", track, "a", split="train"),))
    done = prepare(manifest, joined, tmp_path / "store", cache=tmp_path / "cache")
    store = done.open()
    part = store.part("train")
    assert part.starts_s.tolist() == [0.0, 2.0, 4.0]
    expected = joined.compute_track(TrackSound.of_file(track), [0.0, 2.0, 4.0], SEGMENT_S)
    assert np.array_equal(part.features[:], np.stack(expected))
    halves = prepare(manifest, joined, tmp_path / "halves", hop_s=1.0, cache=tmp_path / "cache")
    assert (halves.n_rows, halves.computed) == (6, 1)
    again = prepare(manifest, joined, tmp_path / "again", cache=tmp_path / "cache")
    assert (again.computed, again.reused) == (0, 1)


def test_what_describes_the_whole_track_is_cached_by_itself(track: Path, tmp_path: Path) -> None:
    cache, table = RowCache(tmp_path), Table()
    alone = cut_of(table, None, None, "float32")
    first = Joined(parts=[MEL, WHOLE_TABLE])
    made = make_rows((first, cut_of(first, None, None, "float32"), cache), Job(track, None))
    key = key_of(made.sha256, table, alone)
    assert key in cache, "under the key that it has when it is prepared alone"
    assert make_rows((table, alone, cache), Job(track, None)).reused
    marked = np.full((1, 57), 7.0, np.float32)
    cache.write(key, np.zeros(1), marked)
    second = Joined(parts=[{**MEL, "segment_s": 3.5}, WHOLE_TABLE])
    reused = make_rows((second, cut_of(second, None, None, "float32"), cache), Job(track, None))
    found = cache.read(reused.key)
    assert found is not None and (found[1][:, -57:] == 7.0).all(), "and taken from there"
    cache.path_of(key).write_bytes(b"damaged")
    third = Joined(parts=[{**MEL, "segment_s": 3.0}, WHOLE_TABLE])
    mended = cache.read(make_rows((third, cut_of(third, None, None, "float32"), cache), Job(track, None)).key)
    assert mended is not None
    assert np.array_equal(mended[1][0, -57:], Table().compute(audio.load(track, 22_050).waveform))


def test_whole_track_or_not_makes_another_key() -> None:
    of_segment, of_track = Joined(parts=[MEL, {"name": "table"}]), Joined(parts=[MEL, WHOLE_TABLE])
    cut = cut_of(of_track, None, None, "float32")
    assert key_of("0" * 64, of_segment, cut) != key_of("0" * 64, of_track, cut)


def test_every_part_is_normalised_along_its_own_axis(track: Path, tmp_path: Path) -> None:
    joined = Joined(parts=[MEL, WHOLE_TABLE])
    manifest = Manifest(None, (Track("one", track, "a", split="train"), Track("two", track, "b", split="train")))
    store = prepare(manifest, joined, tmp_path / "store", cache=tmp_path / "cache").open()
    part = store.part("train")
    found = store.normalisation_of(part)
    mel = part.features[:][:, : 16 * 21].reshape(-1, 16, 21).astype(np.float64)
    assert len(found.mean) == 16 + 57
    assert np.allclose(found.mean[:16], mel.mean(axis=(0, 2)))
    assert np.allclose(found.std[:16], mel.std(axis=(0, 2)))
    scaled = found.apply(part.features[:])
    assert np.allclose(scaled[:, : 16 * 21].reshape(-1, 16, 21).std(axis=(0, 2)), 1.0, atol=1e-4)
    assert store.normalisation is not None and np.array_equal(store.normalisation.apply(part.features[:]), scaled)


def test_parts_must_fit() -> None:
    with pytest.raises(UsageError, match=r"segments of \[3.0, 30.0\] s.*whole_track: true"):
        Joined(parts=[{"name": "mfcc"}, {"name": "melspectrogram", "preset": "a5"}])
    with pytest.raises(UsageError, match="parts is empty"):
        Joined(parts=[])
    with pytest.raises(UsageError, match="without a name"):
        Joined(parts=[{"preset": "a5"}])
    with pytest.raises(UsageError, match="whole_track='yes'"):
        Joined(parts=[{"name": "mfcc", "whole_track": "yes"}])
    with pytest.raises(UsageError, match="Nearest: 'segment_s'"):
        Joined(parts=[{"name": "mfcc", "segment": 3.0}])
    with pytest.raises(UsageError, match="reads the file itself"):
        Joined(parts=[{"name": "picture", "source": "file"}])
    with pytest.raises(UsageError, match="Name the parts of a joined one here"):
        Joined(parts=[{"name": "joined", "parts": [MEL, WHOLE_TABLE]}])


def test_the_extra_of_the_most_demanding_part_is_named() -> None:
    parts = [{"name": "table"}, {"name": "vggish", "weights": "none"}]
    assert create_representation("joined", parts=parts).extra == "train"
    assert create_representation("joined", parts=parts[:1]).extra == "features"


def test_networks_are_found_among_the_parts() -> None:
    assert create_representation("joined", parts=[{"name": "musicnn", "weights": "none"}]).is_network
    assert not create_representation("joined", parts=[{"name": "table"}]).is_network
