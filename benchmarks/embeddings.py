"""Embedding extraction in tracks a second, family by family: as `musicgenre prepare` does it, against one by one.

Run with ``python benchmarks/embeddings.py``; ``--only musicnn`` takes families whose name holds that word, ``--tracks
FOLDER`` real WAV files in place of synthetic ones of 30 s. Every family is measured both ways in this run, in turns,
and the best of each counts:

- one by one: a plain loop decodes a track, hears it, decodes the next; on one thread.
- prepared: threads decode ahead and the network takes batches of tracks (``compute_many``), or processes where the
  representation hears one track at a time; on ``--jobs`` cores. Hashing the files and writing the store is included.
- again: a second recipe on the same tracks, whose embeddings are all in the cache.

"random" says that a family ran with random weights: as fast, and no word about what it hears.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from musicgenre.audio import load
from musicgenre.data._pool import usable_cores
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import BundleError
from musicgenre.features.base import Representation
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation
from musicgenre.features.segments import cut

RATE_HZ, DURATION_S = 22_050, 30


@dataclass(frozen=True)
class Family:
    """One line of the table: a representation, and what makes it run where its weights cannot be had."""

    label: str
    representation: str
    options: dict[str, Any] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)


FAMILIES = (
    Family("musicnn (MSD)", "musicnn", {"model": "msd-musicnn"}, {"weights": "none"}),
    Family("musicnn (MTT)", "musicnn", {"model": "mtt-musicnn"}, {"weights": "none"}),
    Family("musicnn VGG (MSD)", "musicnn", {"model": "msd-vgg"}, {"weights": "none"}),
)


def ready(family: Family, waveform: np.ndarray) -> tuple[Representation, str]:
    """Make a representation and let it hear a track before the clock starts; with random weights if need be."""
    try:
        made = create_representation(family.representation, **family.options)
        made.compute(waveform)
    except BundleError:
        made = create_representation(family.representation, **family.options, **family.random)
        made.compute(waveform)
        return made, "random"
    return made, "published"


def one_by_one(paths: list[Path], representation: Representation) -> None:
    """Embed tracks as a plain loop does."""
    for path in paths:
        sound = load(path, representation.sample_rate_hz)
        _, segments = cut(sound.waveform, sound.sample_rate_hz, representation.segment_s)
        np.stack([representation.compute(segment) for segment in segments])


def wall_s(work: Callable[[], object]) -> float:
    """Seconds on the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(paths: list[Path], representation: Representation, jobs: int, repeats: int) -> dict[str, float]:
    """Best times of every way, taking turns; and that the second recipe computed nothing."""
    manifest = Manifest(None, tuple(Track(f"{n}", path, "x", split="train") for n, path in enumerate(paths)))
    best = {"single": np.inf, "prepared": np.inf, "again": np.inf}
    for _ in range(repeats):
        best["single"] = min(best["single"], wall_s(lambda: one_by_one(paths, representation)))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def store(recipe: str, folder: Path = folder) -> None:
                done = prepare(manifest, representation, folder / recipe, jobs=jobs, cache=folder / "cache")
                wanted = (len(paths), 0) if recipe == "first" else (0, len(paths))
                if (done.computed, done.reused) != wanted:
                    raise SystemExit(f"{recipe} recipe: computed {done.computed}, reused {done.reused} tracks")

            best["prepared"] = min(best["prepared"], wall_s(lambda: store("first")))
            best["again"] = min(best["again"], wall_s(lambda: store("second")))
    return best


def make_tracks(folder: Path, count: int) -> list[Path]:
    """Write different tracks: a few tones under noise."""
    rng = np.random.default_rng(0)
    times_s = np.arange(RATE_HZ * DURATION_S) / RATE_HZ
    paths = []
    for index in range(count):
        tones = sum(np.sin(2 * np.pi * hz * times_s) for hz in rng.uniform(80, 2000, 3))
        path = folder / f"{index:03}.wav"
        soundfile.write(path, 0.1 * tones + 0.1 * rng.standard_normal(len(times_s)), RATE_HZ)
        paths.append(path)
    return paths


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=Path, help="folder of WAV files to use instead of synthetic ones")
    parser.add_argument("--count", type=int, default=24, help="how many tracks")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="threads or processes of preparation")
    parser.add_argument("--only", default="", help="families whose name holds this word")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = sorted(options.tracks.rglob("*.wav"))[: options.count] if options.tracks else None
        paths = found or make_tracks(Path(name), options.count)
        print(f"{len(paths)} tracks, {options.jobs} jobs, best of {options.repeats}; tracks a second")
        print(f"{'family':20} weights    one by one   prepared   speed-up   again (cached)")
        for family in FAMILIES:
            if options.only not in family.label:
                continue
            probe = create_representation(family.representation, **family.options)
            representation, weights = ready(family, load(paths[0], probe.sample_rate_hz).waveform)
            best = measure(paths, representation, options.jobs, options.repeats)
            rates = {way: len(paths) / seconds for way, seconds in best.items()}
            print(
                f"{family.label:20} {weights:9} {rates['single']:11.2f} {rates['prepared']:10.2f}"
                f" {rates['prepared'] / rates['single']:9.2f}x {rates['again']:14.0f}"
            )


if __name__ == "__main__":
    main()
