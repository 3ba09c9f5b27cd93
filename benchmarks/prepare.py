"""How preparation scales to two processes, where its time goes, and what a second run costs.

Run with ``python benchmarks/prepare.py``. It makes synthetic tracks of 30 s (or takes the WAV files under
``--tracks FOLDER``) and prints ratios measured in one run; the times beside them are this machine's. One process and
two take turns, and the best of each counts, since other work on the machine disturbs the clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from musicgenre.audio import load
from musicgenre.data.cache import RowCache, entry_key
from musicgenre.data.manifest import Manifest, Track
from musicgenre.features.base import Representation, cut
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation

RATE_HZ = 22_050
DURATION_S = 30
REPRESENTATIONS = ("table", "mfcc", "melspectrogram")


def make_tracks(folder: Path, count: int) -> list[Path]:
    """Write different tracks: a few tones under noise that swells with a beat."""
    rng = np.random.default_rng(0)
    times_s = np.arange(RATE_HZ * DURATION_S) / RATE_HZ
    paths = []
    for index in range(count):
        beat = np.exp(-8 * (times_s % rng.uniform(0.35, 0.7)))
        tones = sum(np.sin(2 * np.pi * hz * times_s) for hz in rng.uniform(80, 2000, 3))
        path = folder / f"{index:03}.wav"
        soundfile.write(path, 0.1 * tones + 0.2 * beat * rng.standard_normal(len(times_s)), RATE_HZ)
        paths.append(path)
    return paths


def wall_s(work: Callable[[], object]) -> float:
    """Seconds on the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare_jobs(manifest: Manifest, representation: Representation, folder: Path, repeats: int) -> dict[str, float]:
    """Best times with one process, with two, and with nothing new to compute."""
    best = {"one": np.inf, "two": np.inf, "again": np.inf}
    for repeat in range(repeats):
        for name, jobs in (("one", 1), ("two", 2), ("again", 1)):
            place = folder / f"{representation.name}-{repeat}-{'two' if name == 'again' else name}"

            def work(place: Path = place, jobs: int = jobs) -> object:
                return prepare(manifest, representation, place / "store", jobs=jobs, cache=place / "cache")

            best[name] = min(best[name], wall_s(work))
    return best


def shares(paths: list[Path], representation: Representation, folder: Path) -> dict[str, float]:
    """CPU seconds of one process by step, over some tracks."""
    spent = {"decode": 0.0, "compute": 0.0, "write": 0.0}
    cache = RowCache(folder / f"shares-{representation.name}")
    for number, path in enumerate(paths):
        marks = [time.process_time()]
        sound = load(path, representation.sample_rate_hz)
        marks.append(time.process_time())
        starts_s, segments = cut(sound.waveform, sound.sample_rate_hz, representation.segment_s)
        rows = np.stack([representation.compute(segment) for segment in segments])
        marks.append(time.process_time())
        cache.write(entry_key(str(number), representation.settings()), starts_s, rows)
        marks.append(time.process_time())
        for name, seconds in zip(spent, np.diff(marks), strict=True):
            spent[name] += seconds
    return spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=Path, help="folder of WAV files to use instead of synthetic ones")
    parser.add_argument("--count", type=int, default=300, help="how many tracks")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = sorted(options.tracks.rglob("*.wav"))[: options.count] if options.tracks else None
        paths = found or make_tracks(folder, options.count)
        manifest = Manifest(None, tuple(Track(path.stem, path, "x", split="train") for path in paths))
        print(f"{len(paths)} tracks; best of {options.repeats}; starting the processes is included")
        print("representation     1 process  2 processes   speed-up   nothing new    decode / compute / write")
        for chosen in REPRESENTATIONS:
            representation = create_representation(chosen)
            representation.compute(load(paths[0], representation.sample_rate_hz).waveform)  # compile before the clock
            spent = shares(paths[:20], representation, folder)
            best = compare_jobs(manifest, representation, folder, options.repeats)
            parts = " / ".join(f"{seconds / sum(spent.values()):4.0%}" for seconds in spent.values())
            print(
                f"{chosen:16} {best['one']:9.2f} s {best['two']:10.2f} s {best['one'] / best['two']:9.2f}x"
                f" {best['one'] / best['again']:11.0f}x    {parts}"
            )


if __name__ == "__main__":
    main()
