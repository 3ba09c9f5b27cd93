"""Cutting tracks into segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicgenre.errors import UsageError
from musicgenre.features.base import cut, segment_spans
from musicgenre.features.jobs import cut_of
from tests.representations import Pieces


@given(
    n_samples=st.integers(0, 5_000),
    segment_s=st.floats(0.01, 3.0),
    hop_s=st.none() | st.floats(0.01, 3.0),
    rate_hz=st.sampled_from([100, 1_000, 1_323]),
)
def test_cut_keeps_its_promises(n_samples: int, segment_s: float, hop_s: float | None, rate_hz: int) -> None:
    waveform = np.arange(n_samples, dtype=np.float32)
    starts_s, segments = cut(waveform, rate_hz, segment_s, hop_s)
    spans = segment_spans(n_samples, rate_hz, segment_s, hop_s)
    length = max(1, round(segment_s * rate_hz))
    assert segments.shape == (len(spans), length) == (len(starts_s), length)
    assert segments.dtype == np.float32
    if n_samples < length:
        assert len(spans) == 1
        assert np.array_equal(segments[0, :n_samples], waveform)
        assert not segments[0, n_samples:].any()
        return
    for (start, _), start_s, segment in zip(spans, starts_s, segments, strict=True):
        assert np.array_equal(segment, waveform[start : start + length])
        assert start_s == pytest.approx(start / rate_hz)
    step = (segment_s if hop_s is None else hop_s) * rate_hz
    assert spans[-1][0] + step + length > n_samples - 1, "no whole segment is left over"


def test_the_reports_counts() -> None:
    _, ten = cut(np.zeros(661_794, np.float32), 22_050, 3.0)
    _, seven = cut(np.zeros(661_794, np.float32), 22_050, 4.0)
    assert (len(ten), len(seven)) == (10, 7)


def test_whole_track() -> None:
    starts_s, whole = cut(np.ones(77, np.float32), 10, None)
    assert whole.shape == (1, 77)
    assert starts_s.tolist() == [0.0]


def test_cut_does_not_copy_what_it_need_not() -> None:
    waveform = np.ones(100, np.float32)
    assert np.shares_memory(cut(waveform, 10, 2.0)[1], waveform)


@pytest.mark.parametrize(("segment_s", "hop_s"), [(0.0, None), (-1.0, None), (1.0, 0.0)])
def test_lengths_must_be_positive(segment_s: float, hop_s: float | None) -> None:
    with pytest.raises(UsageError, match="positive"):
        cut(np.zeros(10, np.float32), 10, segment_s, hop_s)


@pytest.mark.parametrize(("segment_s", "hop_s"), [(3.0, 1e-5), (1e-5, None), (3.0, float("nan"))])
def test_hops_that_would_never_end_are_refused(segment_s: float, hop_s: float | None) -> None:
    pieces = Pieces()
    pieces.segment_s = segment_s
    with pytest.raises(UsageError, match=r"cannot begin every .* s\. Valid: 0\.01 s or more\. Set a longer"):
        cut_of(pieces, segment_s, hop_s, "float32")
