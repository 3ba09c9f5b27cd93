"""Long sounds in flat memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import audio
from musicgenre.errors import AudioError
from tests.sounds import FORMATS, music, rate_of, write

RATE_HZ = 16_000


@pytest.mark.parametrize("name", FORMATS)
def test_joined_blocks_equal_the_whole(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"a{name}", music(7.3, rate_of(name)), rate_of(name))
    whole = audio.load(path, RATE_HZ).waveform
    stream = audio.stream(path, RATE_HZ, block_s=2.0)
    blocks = list(stream)
    assert [len(block) for block in blocks[:-1]] == [2 * RATE_HZ] * (len(blocks) - 1)
    assert 0 < len(blocks[-1]) <= 2 * RATE_HZ
    joined = np.concatenate(blocks)
    assert len(joined) == len(whole)
    assert np.abs(joined - whole).max() < 1e-6
    assert stream.warnings == ()


def test_a_length_of_whole_blocks_leaves_no_empty_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(4.0))
    assert [len(block) for block in audio.stream(path, RATE_HZ, block_s=2.0)] == [32_000, 32_000]


@pytest.mark.parametrize("name", [".wav", ".flac", ".opus"])
def test_memory_stays_flat(tmp_path: Path, name: str) -> None:
    """Four minutes would be 15 MB at the wanted rate, and 85 MB or more as decoded stereo."""
    rate_hz = rate_of(name)
    path = write(tmp_path / f"a{name}", np.tile(music(10.0, rate_hz), (24, 1)), rate_hz)
    tracemalloc.start()
    try:
        n = sum(len(block) for block in audio.stream(path, RATE_HZ, block_s=5.0))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n == pytest.approx(240 * RATE_HZ, abs=10)
    assert peak_bytes < 8_000_000


def test_spans_do_not_hold_the_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", np.tile(music(10.0), (30, 1)))
    tracemalloc.start()
    try:
        audio.load_spans(path, RATE_HZ, [(10 * RATE_HZ, RATE_HZ), (250 * RATE_HZ, RATE_HZ)])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8_000_000


def test_it_opens_at_once(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="does not exist"):
        audio.stream(tmp_path / "none.wav", RATE_HZ)
    with pytest.raises(AudioError, match="block_s is 0"):
        audio.stream(write(tmp_path / "a.wav", music(0.1)), RATE_HZ, block_s=0)


def test_it_knows_the_source_and_closes_early(tmp_path: Path) -> None:
    stream = audio.stream(write(tmp_path / "a.wav", music(3.0)), RATE_HZ, block_s=1.0)
    assert stream.info.duration_s == 3.0
    next(stream)
    stream.close()
    assert list(stream) == []


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44100)
    with pytest.raises(AudioError, match="holds no samples"):
        next(audio.stream(tmp_path / "a.wav", RATE_HZ))
