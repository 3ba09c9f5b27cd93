"""Segments: spans, rows and streams must cut the same samples, and coverage must spread evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import UsageError
from musicgenre.listening.framing import Coverage, Framing

MUSICNN = Framing(sample_rate_hz=16_000, segment_samples=48_128, hop_samples=47_872, lead_samples=256)


def framings() -> st.SearchStrategy[Framing]:
    """Small framings of every kind: overlapping, with gaps, with and without a lead."""
    return st.builds(
        Framing,
        sample_rate_hz=st.just(100),
        segment_samples=st.integers(9, 40),
        hop_samples=st.integers(5, 50),
        lead_samples=st.integers(0, 4),
    )


def padded_truth(framing: Framing, waveform: np.ndarray) -> np.ndarray:
    padded = np.pad(waveform, framing.lead_samples)
    count = framing.n_segments(len(waveform))
    starts = [k * framing.hop_samples for k in range(count)]
    return np.array([padded[s : s + framing.segment_samples] for s in starts]).reshape(count, framing.segment_samples)


@given(framing=framings(), n_samples=st.integers(0, 300))
def test_spans_give_the_padded_segments(framing: Framing, n_samples: int) -> None:
    waveform = np.arange(1, n_samples + 1, dtype=np.float32)
    rows = []
    for index in range(framing.n_segments(n_samples)):
        start, length = framing.span(index, n_samples)
        assert start >= 0 and start + length <= n_samples
        rows.append(framing.row(index, waveform[start : start + length]))
    np.testing.assert_array_equal(np.array(rows).reshape(-1, framing.segment_samples), padded_truth(framing, waveform))


@given(framing=framings(), sizes=st.lists(st.integers(0, 120), max_size=8))
def test_stream_gives_the_same_segments_whatever_the_blocks(framing: Framing, sizes: list[int]) -> None:
    waveform = np.arange(1, sum(sizes) + 1, dtype=np.float32)
    blocks = np.split(waveform, np.cumsum(sizes))[:-1]
    pairs = list(framing.rows(blocks))
    assert [index for index, _ in pairs] == list(range(framing.n_segments(len(waveform))))
    rows = np.array([row for _, row in pairs]).reshape(-1, framing.segment_samples)
    np.testing.assert_array_equal(rows, padded_truth(framing, waveform))


def test_thirty_seconds_give_ten_published_patches() -> None:
    assert MUSICNN.n_segments(30 * 16_000) == 10
    assert MUSICNN.n_segments(MUSICNN.shortest_samples) == 1
    assert MUSICNN.n_segments(MUSICNN.shortest_samples - 1) == 0


def test_short_sound_is_repeated_or_padded() -> None:
    short = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    repeating = Framing(100, 8, 8)
    padding = Framing(100, 8, 8, repeat_short=False)
    np.testing.assert_array_equal(repeating.fill_short(short), [1, 2, 3, 1, 2, 3, 1, 2])
    np.testing.assert_array_equal(padding.fill_short(short), [1, 2, 3, 0, 0, 0, 0, 0])


@given(n_segments=st.integers(1, 5000), seconds=st.floats(0.1, 1e5))
def test_coverage_is_even_unique_and_inside(n_segments: int, seconds: float) -> None:
    chosen = Coverage(seconds).choose(n_segments, hop_s=3.0)
    assert chosen == sorted(set(chosen))
    assert 1 <= len(chosen) <= n_segments
    assert chosen[0] >= 0 and chosen[-1] < n_segments
    assert len(chosen) == min(n_segments, max(1, round(seconds / 3.0)))
    gaps = np.diff([-1 - chosen[0] % 1, *chosen])
    assert gaps.max() <= n_segments / len(chosen) + 1


def test_full_coverage_hears_everything() -> None:
    assert Coverage.parse("full").choose(7, 3.0) == list(range(7))
    assert Coverage.parse(None).choose(3, 3.0) == [0, 1, 2]


@pytest.mark.parametrize("value", ["", "half", "0", "-3", "nan", "inf", 0, -1.0])
def test_bad_coverage_is_named(value: str | float) -> None:
    with pytest.raises(UsageError, match="full"):
        Coverage.parse(value)


def test_coverage_of_any_length_hears_what_there_is() -> None:
    assert Coverage.parse(1e308).choose(3, 0.5) == [0, 1, 2]
    for value in ([], 10**400, b"full"):
        with pytest.raises(UsageError, match="coverage"):
            Coverage.parse(value)  # type: ignore[arg-type]
