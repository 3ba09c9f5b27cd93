"""Tempo and beat: the onset envelope, the tempo as librosa's beat tracker estimates it, and the beats themselves.

The columns named in `RHYTHM_COLUMNS` are ours; they join the feature table as further columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import needing
from musicgenre.features.base import Float32

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

RHYTHM_COLUMNS = (
    "onset_strength_mean",
    "onset_strength_var",
    "onset_rate_hz",
    "pulse_clarity",
    "beat_rate_bpm",
    "beat_interval_spread",
    "beat_strength",
)

# librosa's own values: its tempo and beats are what the published table holds
_LAG_FRAMES = 1
_AUTOCORRELATION_S = 8.0
_USUAL_BPM, _FASTEST_BPM, _SPREAD_OCTAVES = 120.0, 320.0, 1.0
_LOG_SCALE = 1e6
_TIGHTNESS = 100.0


def onset_envelope(decibels: Float32, n_fft: int, hop_length: int) -> Float32:
    """Median rise over the mel bands from frame to frame, shape (n_frames,), delayed to the middle of the frame."""
    n_frames = decibels.shape[1]
    rise = np.zeros(n_frames, np.float32)
    delay = _LAG_FRAMES + n_fft // (2 * hop_length)
    if n_frames > delay:
        with needing("computing tempo and beats", "features"):
            from musicgenre.features.classical.rhythm_kernels import median_rise
        rise[delay:] = median_rise(np.ascontiguousarray(decibels))[: n_frames - delay]
    return rise


def autocorrelation(envelope: Float32, frame_rate_hz: float) -> Float64:
    """Mean autocorrelation of the envelope in Hann windows of 8 s around every frame, each scaled to 1 at lag 0.

    Returns
    -------
    ndarray, shape (n_lags,)
        `n_lags` frames make 8 s.
    """
    length = int(_AUTOCORRELATION_S * frame_rate_hz)
    padded = np.pad(envelope, length // 2, mode="linear_ramp", end_values=(0, 0))
    with needing("computing tempo and beats", "features"):
        from musicgenre.features.classical.rhythm_kernels import mean_autocorrelation
    return mean_autocorrelation(padded, length, len(envelope))


def tempo_bpm(correlation: Float64, frame_rate_hz: float) -> float:
    """Beats per minute whose period repeats best, given that 120 is the usual tempo, an octave the usual spread."""
    lags = np.arange(1, len(correlation))
    bpm = 60.0 * frame_rate_hz / lags
    prior = -0.5 * (np.log2(bpm / _USUAL_BPM) / _SPREAD_OCTAVES) ** 2
    score = np.where(bpm < _FASTEST_BPM, np.log1p(_LOG_SCALE * np.maximum(correlation[1:], 0.0)) + prior, -np.inf)
    return float(bpm[np.argmax(score)])


def beat_frames(envelope: Float32, bpm: float, frame_rate_hz: float) -> Int64:
    """Frames of the beats: the path of strong onsets that keeps closest to the tempo (Ellis 2007)."""
    deviation = float(envelope.std())
    if bpm <= 0 or deviation == 0:
        return np.zeros(0, np.int64)

    # An onset counts for the frames around it too, less the farther: beats need not hit it exactly.
    period = max(1, round(60.0 * frame_rate_hz / bpm))
    bump = np.exp(-0.5 * (np.arange(-period, period + 1) * 32.0 / period) ** 2)
    strength = np.convolve(envelope / deviation, bump, mode="full")[period : period + len(envelope)]
    with needing("computing tempo and beats", "features"):
        from musicgenre.features.classical.rhythm_kernels import best_path
    return best_path(strength, period, _TIGHTNESS)


def estimate_tempo(envelope: Float32, frame_rate_hz: float) -> float:
    """Tempo in beats per minute; 0 where there are no onsets at all."""
    if not envelope.any():
        return 0.0
    return tempo_bpm(autocorrelation(envelope, frame_rate_hz), frame_rate_hz)


def rhythm_columns(envelope: Float32, bpm: float, frame_rate_hz: float) -> Float64:
    """Values of `RHYTHM_COLUMNS`; all zero where there are no onsets.

    `onset_rate_hz`: peaks above the mean a second. `pulse_clarity`: autocorrelation at the tempo's period.
    `beat_rate_bpm`: from the median beat interval. `beat_interval_spread`: standard deviation over mean of the
    intervals. `beat_strength`: envelope on the beats over its mean.
    """
    if not envelope.any():
        return np.zeros(len(RHYTHM_COLUMNS))

    middle, mean = envelope[1:-1], float(envelope.mean(dtype=np.float64))
    peaks = np.count_nonzero((middle > envelope[:-2]) & (middle >= envelope[2:]) & (middle > mean))
    period = round(60.0 * frame_rate_hz / bpm)

    beats = beat_frames(envelope, bpm, frame_rate_hz)
    intervals = np.diff(beats)
    beat_rate_bpm = beat_interval_spread = beat_strength = 0.0
    if len(intervals) > 0:
        beat_rate_bpm = 60.0 * frame_rate_hz / float(np.median(intervals))
        beat_interval_spread = float(intervals.std() / intervals.mean())
    if len(beats) > 0:
        beat_strength = float(envelope[beats].mean() / mean)

    return np.array(
        [
            mean,
            envelope.var(dtype=np.float64),
            peaks * frame_rate_hz / len(envelope),
            autocorrelation(envelope, frame_rate_hz)[period],
            beat_rate_bpm,
            beat_interval_spread,
            beat_strength,
        ]
    )
