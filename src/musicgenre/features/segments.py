"""Cut a waveform into segments of one length.

A tail shorter than a segment is dropped. A waveform shorter than one segment gives exactly one, padded with zeros at
its end, so that every track stays in the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, fit_length

SHORTEST_HOP_S = 0.01
"""Least time from one segment to the next: below it a track has more segments than anybody waits for."""


def segment_samples(sample_rate_hz: int, segment_s: float) -> int:
    """Samples in a segment, rounded to the nearest whole one."""
    return max(1, round(segment_s * sample_rate_hz))


def segment_spans(
    n_samples: int, sample_rate_hz: int, segment_s: float | None, hop_s: float | None = None
) -> list[tuple[int, int]]:
    """Say where the segments of a waveform lie, without holding it.

    Parameters
    ----------
    n_samples, sample_rate_hz : int
        Length and rate of the waveform.
    segment_s : float or None
        Segment length; ``None``: one segment, the whole waveform.
    hop_s : float, optional
        From one start to the next; the segment length by default, so that segments do not overlap.

    Returns
    -------
    list of (start_sample, n_samples)
        The only span of a short waveform reaches past its end: the rest is to be zeros.
    """
    if segment_s is None:
        return [(0, n_samples)]
    if segment_s <= 0 or (hop_s is not None and hop_s <= 0):
        raise UsageError(f"segment_s={segment_s}, hop_s={hop_s}: both must be positive")
    length = segment_samples(sample_rate_hz, segment_s)
    hop_s = segment_s if hop_s is None else hop_s
    count = max(1, 1 + int((n_samples - length) / (hop_s * sample_rate_hz) + 1e-9)) if n_samples >= length else 1
    starts = [round(index * hop_s * sample_rate_hz) for index in range(count)]
    return [(start, length) for start in starts if start == 0 or start + length <= n_samples]


def cut(
    waveform: Float32, sample_rate_hz: int, segment_s: float | None, hop_s: float | None = None
) -> tuple[NDArray[np.float64], Float32]:
    """Cut a waveform into segments.

    Returns
    -------
    starts_s : ndarray of float64, shape (n_segments,)
    segments : ndarray of float32, shape (n_segments, segment_samples)
        A view into ``waveform`` where that is possible: do not write to it.
    """
    spans = segment_spans(len(waveform), sample_rate_hz, segment_s, hop_s)
    starts_s = np.array([start / sample_rate_hz for start, _ in spans])
    length = spans[0][1]
    if len(waveform) < length:
        return starts_s, fit_length(waveform, length)[None, :]
    if len(spans) == 1 or [start for start, _ in spans] == list(range(0, len(spans) * length, length)):
        whole = np.ascontiguousarray(waveform[: len(spans) * length], dtype=np.float32)
        return starts_s, whole.reshape(len(spans), length)
    return starts_s, np.stack([waveform[start : start + n] for start, n in spans]).astype(np.float32, copy=False)
