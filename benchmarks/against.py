"""Classifying and training by this checkout against another one, in turn, in one run.

Run: python benchmarks/against.py OTHER_CHECKOUT [--rounds 5] [--threads 1]

Both checkouts do the same jobs with the same Python and the same packages: classify twenty tracks of 30 s once the
model is loaded, start the command line for one track, and train the small CNN of E3 for eight epochs on prepared
features. The sound is synthetic. Printed: the median seconds of processor time (user and system, children included)
of both, and their ratio; wall time would tell what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).resolve().parents[1]
RATE_HZ = 22_050
N_GENRES, N_TRACKS = 2, 10

CLASSIFY_MANY = """
import sys
from musicgenre import Classifier
classifier = Classifier()
for path in sys.argv[1:]:
    classifier.classify(path)
"""


def write_music(folder: Path) -> list[str]:
    """Write a folder a genre, tracks of tones and noise, 30 s each."""
    random = np.random.default_rng(11)
    seconds = np.arange(30 * RATE_HZ) / RATE_HZ
    paths = []
    for genre in range(N_GENRES):
        (folder / f"genre{genre}").mkdir(parents=True)
        for number in range(N_TRACKS):
            tone = np.sin(2 * np.pi * (200 + 300 * genre + 10 * number) * seconds)
            path = folder / f"genre{genre}" / f"{number}.wav"
            soundfile.write(path, 0.3 * tone + 0.05 * random.standard_normal(len(tone)), RATE_HZ)
            paths.append(str(path))
    return paths


def processor_s(command: list[str], checkout: Path, threads: int, folder: Path) -> float:
    """Run a command with the package of a checkout; its user and system seconds."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": str(threads)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Let the two take turns and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of another commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    sides = {"this": HERE, "other": options.other.resolve()}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        paths = write_music(work / "music")
        command = [sys.executable, "-m", "musicgenre"]
        for words in (
            ["data", "index", "music", "--output", "all.csv"],
            ["data", "split", "all.csv", "--protocol", "track", "--output", "split.csv"],
        ):
            processor_s([*command, *words], HERE, options.threads, work)

        numbers = iter(range(1_000))
        jobs = {
            "classify 20 tracks": lambda: [sys.executable, "-c", CLASSIFY_MANY, *paths],
            "classify, one track, from the start": lambda: [*command, "classify", paths[0]],
            "train E3, 8 epochs": lambda: [
                *(*command, "train", "e3", "--data", "split.csv", "--set", "training.epochs=8"),
                *("--output", f"run{next(numbers)}"),
            ],
        }
        for name, job in jobs.items():
            found: dict[str, list[float]] = {side: [] for side in sides}
            for round_number in range(1 + options.rounds):  # the first round fills the caches and does not count
                for side, checkout in sides.items():
                    taken_s = processor_s(job(), checkout, options.threads, work)
                    if round_number:
                        found[side].append(taken_s)
            this_s, other_s = (statistics.median(found[side]) for side in ("this", "other"))
            print(f"{name:<36} this {this_s:7.2f} s   other {other_s:7.2f} s   this/other {this_s / other_s:.3f}")


if __name__ == "__main__":
    main()
