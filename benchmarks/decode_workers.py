"""What it costs to decode in processes of their own: hearing a folder both ways, in one run.

Run: python benchmarks/decode_workers.py [--tracks 240] [--model NAME]

The tracks are synthetic (MP3, FLAC, M4A, 200 s); hearing is the default model at its default coverage, one thread a
track. Both ways alternate, and each counts with the median of its runs. Start and end of the workers are within.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from musicgenre import audio
from musicgenre._parallel import usable_cores

if TYPE_CHECKING:
    from musicgenre.listening.classifier import Classifier

DURATION_S = 200
SUFFIXES = (".mp3", ".flac", ".m4a")
REPEATS = 3


def hearing_s(classifier: Classifier, paths: list[str], jobs: int, *, apart: bool) -> float:
    """Hear all tracks; return the seconds it took."""
    from musicgenre.listening.batch import Failure, hear_many  # workers import this file, as they do the command's

    begin = time.perf_counter()
    with audio.decoding_apart(len(paths)) if apart else nullcontext():
        for result in hear_many(paths, classifier.classify, jobs=jobs):
            assert not isinstance(result, Failure), result.error
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tracks", type=int, default=240)
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()

    from musicgenre.listening.classifier import Classifier
    from tests.sounds import music, write

    classifier = Classifier(arguments.model, threads=1)
    jobs = usable_cores()
    with tempfile.TemporaryDirectory() as name:
        originals = [write(Path(name) / f"a{suffix}", music(DURATION_S)) for suffix in SUFFIXES]
        paths = [str(originals[number % len(originals)]) for number in range(arguments.tracks)]
        hearing_s(classifier, paths[:6], jobs, apart=False)

        for label, tracks in ((f"{len(paths)} tracks", paths), ("1 track", paths[:1])):
            here, apart = [], []
            for _ in range(REPEATS):
                here.append(hearing_s(classifier, tracks, jobs, apart=False))
                apart.append(hearing_s(classifier, tracks, jobs, apart=True))
            in_process_s, in_workers_s = statistics.median(here), statistics.median(apart)
            print(f"{label}, {jobs} at a time: {in_process_s:.2f} s in the process, {in_workers_s:.2f} s in workers")
            print(f"  price of the workers: {100 * (in_workers_s / in_process_s - 1):+.1f} %")


if __name__ == "__main__":
    main()
