"""What representations share that hear a waveform patch by patch with a published network, and average."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from musicgenre._parallel import in_threads
from musicgenre.features.base import Float32, fit_length, segment_samples


def filled(waveform: Float32, sample_rate_hz: int, segment_s: float | None, shortest: int) -> Float32:
    """Cut or pad a waveform to its segment, if there is one; repeat what has fewer than `shortest` samples."""
    if segment_s is not None:
        waveform = fit_length(waveform, segment_samples(sample_rate_hz, segment_s))

    sound = fit_length(waveform, max(len(waveform), 1))  # of nothing at all, a zero can be repeated
    return np.resize(sound, shortest) if len(sound) < shortest else sound


def mean_by_track(
    by_track: Sequence[Float32], hear: Callable[[Float32], Float32], *, threads: int = 1
) -> list[Float32]:
    """Average what a network says of each track's patches.

    Parameters
    ----------
    by_track : sequence of ndarray, shape (n_patches, n_samples)
        The patches of several tracks.
    hear : callable
        Takes one patch, gives its values, shape (1, width).
    threads : int
        Patches at a time: single ones on a thread each, not many in one call, so that a patch stays in a core's cache.

    Returns
    -------
    list of ndarray, shape (width,)
        One a track.
    """
    everything = [patch for track in by_track for patch in track]
    values = np.concatenate(list(in_threads(hear, everything, threads)))

    means = []
    for track in by_track:
        own, values = values[: len(track)], values[len(track) :]
        means.append(own.mean(axis=0, dtype=np.float64).astype(np.float32))
    return means
