"""The plumbing of the audio room: names, mixing, plans for spans, first bytes."""

from __future__ import annotations

import io
import os
from array import array
from itertools import pairwise
from math import gcd
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre._text import printable
from musicgenre.audio._convert import Resampler, Tally, mix_down, plan
from musicgenre.audio._formats import (
    flac_total_is_true,
    matroska_is_one,
    ogg_chains,
    ogg_ends_early,
    starts_as_mpeg,
    suits_libsndfile,
    wav_layout,
    wavpack_is_one,
)
from musicgenre.audio._input import Input
from musicgenre.audio._mpeg import find_frames
from tests.sounds import music, write


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.mp3", "plain.mp3"),
        ("Björk – Jóga.flac", "Björk – Jóga.flac"),
        (b"caf\xe9.wav", "caf\\xe9.wav"),
        ("caf\udce9.wav", "caf\\xe9.wav"),
        ("a\nb\x1b[31m.wav", "a\\nb\\x1b[31m.wav"),
        (Path("a") / "b.wav", os.fspath(Path("a") / "b.wav")),
    ],
)
def test_names_become_printable(name: str | bytes | Path, shown: str) -> None:
    assert printable(name) == shown


@given(st.binary(max_size=60))
def test_any_bytes_become_printable(name: bytes) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert printable(name.decode("utf-8", "surrogateescape")) == shown


@given(st.integers(1, 40), st.integers(0, 50))
def test_mixing_is_the_mean(channels: int, n: int) -> None:
    block = np.random.default_rng(channels).standard_normal((n, channels)).astype(np.float32)
    mono = mix_down(block)
    assert mono.shape == (n,)
    assert np.allclose(mono, block.mean(axis=1), atol=1e-6)
    assert not np.shares_memory(mono, block)


def test_huge_samples_are_numbers_too() -> None:
    tally = Tally()
    assert np.array_equal(tally.take(np.full((3, 1), 1e30, np.float32)), np.full(3, 1e30, np.float32))
    assert tally.n_bad == 0


@given(
    st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 44_101, 48_000, 96_000, 768_000]),
    st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**5)), max_size=8),
)
def test_plans_cover_every_span_once_in_order(from_hz: int, to_hz: int, spans: list[tuple[int, int]]) -> None:
    stretches = plan(spans, from_hz, to_hz)
    members = sorted(member for stretch in stretches for member in stretch.members)
    assert members == [member for member, (_, length) in enumerate(spans) if length]
    for before, after in pairwise(stretches):
        assert before.stop is not None
        assert before.stop < after.first
    common = gcd(from_hz, to_hz)
    for stretch in stretches:
        assert stretch.first * (to_hz // common) == stretch.offset * (from_hz // common)  # the same moment
        for member in stretch.members:
            start, length = spans[member]
            assert stretch.offset <= start
            assert stretch.stop is not None
            assert stretch.stop * to_hz >= (start + length) * from_hz


def test_a_resampler_gives_the_same_in_any_pieces() -> None:
    samples = music(2.0, channels=1)[:, 0]
    whole = Resampler(44100, 16000).push(samples, last=True)
    pieces = Resampler(44100, 16000)
    parts = [pieces.push(part) for part in np.array_split(samples, 13)]
    parts.append(pieces.push(np.zeros(0, np.float32), last=True))
    assert np.array_equal(np.concatenate(parts), whole)
    assert Resampler(8000, 8000).push(samples) is samples


def test_the_frames_of_an_mp3(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", music(2.0))
    table = find_frames(Input(path))
    assert table.told_frames == len(table.offsets)
    assert len(table.offsets) * 1152 == pytest.approx(2 * 44100, abs=3000)
    assert table.kind == (1, 3, 44100)
    assert table.told_bytes == pytest.approx(path.stat().st_size, rel=0.05)
    assert starts_as_mpeg(Input(path).head)
    assert not suits_libsndfile(Input(path))
    path.write_bytes(path.read_bytes()[:-5000])
    assert len(find_frames(Input(path)).offsets) < table.told_frames


@given(st.binary(min_size=1, max_size=300))
def test_any_first_bytes_are_survived(content: bytes) -> None:
    for start in (
        b"",
        b"ID3",
        b"\xff\xfb\x90\x00" + bytes(32) + b"Xing",
        b"OggS",
        b"RIFF",
        b"fLaC",
        b"RIFF0000WAVEfmt ",
    ):
        source = Input(io.BytesIO(start + content))
        assert isinstance(suits_libsndfile(source), bool)
        assert isinstance(ogg_ends_early(source), bool)
        assert isinstance(starts_as_mpeg(source.head), bool)
        assert isinstance(find_frames(source).offsets, array)
        for look in (flac_total_is_true, wav_layout, matroska_is_one, wavpack_is_one, ogg_chains):
            look(source)
