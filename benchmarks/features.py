"""Front ends against librosa and scipy on one core: milliseconds per 30 s track, ratio and largest difference.

Run: python benchmarks/features.py [--rounds 7] [--tracks 3]

Both sides take turns in this one run, on the same sound and one thread, and the best of their rounds counts. The
sound is real where the data folder is there (MUSICGENRE_TEST_DATA or ../shared/data), else synthetic. Exit code 1 when
a ratio misses what the project promises: log-mel 4, the table 8.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"

import librosa  # noqa: E402
import numpy as np  # noqa: E402
import scipy.ndimage  # noqa: E402
import soundfile  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from musicgenre.features.base import cut  # noqa: E402
from musicgenre.features.kernels.running_median import running_median  # noqa: E402
from musicgenre.features.representations.melspectrogram import MelSpectrogram  # noqa: E402
from musicgenre.features.representations.mfcc import Mfcc  # noqa: E402
from musicgenre.features.representations.table import COLUMNS, Table  # noqa: E402
from tests.librosa_table import librosa_row  # noqa: E402

RATE_HZ = 22_050
SEGMENT_S = 30.0


@dataclass(frozen=True)
class Pair:
    """Two ways to the same numbers."""

    name: str
    theirs: Callable[[np.ndarray], np.ndarray]
    ours: Callable[[np.ndarray], np.ndarray]
    promised: float | None = None


def sounds(count: int) -> tuple[list[np.ndarray], str]:
    """Tracks of 30 s, and where they come from."""
    folder = Path(os.environ.get("MUSICGENRE_TEST_DATA", ROOT.parent / "shared" / "data")) / "gtzan-mini/genres"
    length = int(SEGMENT_S * RATE_HZ)
    paths = sorted(folder.glob("*/*.wav"))[:: max(1, 100 // count)][:count]
    if paths:
        tracks = [soundfile.read(path, dtype="float32")[0][:length] for path in paths]
        return [np.pad(track, (0, length - len(track))) for track in tracks], f"{len(paths)} tracks of {folder}"
    rng = np.random.default_rng(1)
    t = np.arange(length) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * f * t) for f in (110, 277, 440)) * (0.6 + 0.4 * np.sin(4 * np.pi * t)) / 5
    return [(tones + 0.02 * rng.standard_normal(length)).astype(np.float32) for _ in range(count)], "synthetic sound"


def librosa_log_mel(waveform: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Log-mel spectrogram by librosa."""
    mel = librosa.feature.melspectrogram(y=waveform, sr=RATE_HZ, n_fft=n_fft, hop_length=hop)
    return librosa.power_to_db(mel)


def librosa_mfcc(waveform: np.ndarray) -> np.ndarray:
    """E1's MFCCs by librosa."""
    _, segments = cut(waveform, RATE_HZ, 3.0)
    return np.stack([librosa.feature.mfcc(y=segment, sr=RATE_HZ, n_mfcc=13).T for segment in segments])


def our_mfcc(waveform: np.ndarray) -> np.ndarray:
    """E1's MFCCs by our representation."""
    mfcc = Mfcc()
    return np.stack([mfcc.compute(segment) for segment in cut(waveform, RATE_HZ, 3.0)[1]])


def pairs() -> list[Pair]:
    """All that reads a waveform."""
    plain = MelSpectrogram(preset="b1", segment_s=SEGMENT_S, n_fft=2_048)
    short = MelSpectrogram(preset="b1", segment_s=SEGMENT_S)
    coarse = MelSpectrogram(preset="a5", sample_rate_hz=RATE_HZ, segment_s=SEGMENT_S)
    table = Table(tail="whole")
    return [
        Pair("log-mel, n_fft 2048, hop 512", lambda y: librosa_log_mel(y, 2_048, 512), plain.compute, 4.0),
        Pair("log-mel, n_fft 1024, hop 512 (B1)", lambda y: librosa_log_mel(y, 1_024, 512), short.compute, 4.0),
        Pair("log-mel, n_fft 2048, hop 1600 (A5)", lambda y: librosa_log_mel(y, 2_048, 1_600), coarse.compute, 4.0),
        Pair("13 MFCCs of ten 3 s segments (E1)", librosa_mfcc, our_mfcc),
        Pair("57-column table (C1)", librosa_row, table.row, 8.0),
    ]


def median_pair(waveform: np.ndarray) -> tuple[Pair, np.ndarray]:
    """Both of the table's filters; scipy's on the magnitudes as they lie, ours along the rows it works on."""
    magnitude = np.abs(librosa.stft(waveform, pad_mode="reflect"))

    def theirs(values: np.ndarray) -> np.ndarray:
        return np.stack([scipy.ndimage.median_filter(values, size, mode="reflect") for size in ((1, 31), (31, 1))])

    def ours(values: np.ndarray) -> np.ndarray:
        return np.stack([running_median(values.T, 31).T, running_median(values, 31)])

    return Pair("two running medians of 31 (HPSS)", theirs, ours), magnitude


def best_ms(pair: Pair, inputs: list[np.ndarray], rounds: int) -> tuple[float, float, float]:
    """Best milliseconds per input of both sides in turns, and their largest difference (relative for the table)."""
    difference = max(_difference(pair, each) for each in inputs)  # also the warm-up
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for side, work in enumerate((pair.theirs, pair.ours)):
            start = time.perf_counter()
            for each in inputs:
                work(each)
            best[side] = min(best[side], (time.perf_counter() - start) * 1_000 / len(inputs))
    return best[0], best[1], difference


def _difference(pair: Pair, values: np.ndarray) -> float:
    theirs, ours = pair.theirs(values), pair.ours(values)
    if theirs.shape != (len(COLUMNS),):
        return float(np.abs(theirs - ours).max())
    near_zero = np.isin(COLUMNS, ("harmony_mean", "perceptr_mean"))
    size = np.where(near_zero, np.sqrt(np.roll(theirs, -1).clip(0)), np.abs(theirs))
    return float((np.abs(theirs - ours) / np.maximum(size, 1e-12)).max())


def main() -> int:
    """Print the table of measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tracks", type=int, default=3)
    options = parser.parse_args()
    tracks, origin = sounds(options.tracks)
    print(f"one core, best of {options.rounds} rounds, {origin}")
    print(f"{'':36}{'theirs ms':>10}{'ours ms':>9}{'ratio':>8}{'promised':>9}  largest difference")
    work = [(pair, tracks) for pair in pairs()]
    medians, magnitude = median_pair(tracks[0])
    missed = False
    for pair, inputs in [*work, (medians, [magnitude])]:
        theirs, ours, difference = best_ms(pair, inputs, options.rounds)
        promised = "" if pair.promised is None else f"{pair.promised:.0f}"
        missed |= pair.promised is not None and theirs / ours < pair.promised
        print(f"{pair.name:36}{theirs:10.1f}{ours:9.2f}{theirs / ours:8.1f}{promised:>9}  {difference:.1e}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
