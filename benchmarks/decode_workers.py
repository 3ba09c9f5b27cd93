"""What it costs to decode in processes of their own: hearing a folder both ways, in one run.

Run: python benchmarks/decode_workers.py [--tracks 240 60 10 1] [--model NAME]

The tracks are synthetic (MP3, FLAC, M4A, 200 s); hearing is the default model at its default coverage, one thread a
track. Every measurement is a process of its own, from its start to its end: packages, model and workers are within.
Both ways alternate, and each counts with the median of its runs: seconds on the clock, and the processor time of the
process with all that it started, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

DURATION_S = 200
SUFFIXES = (".mp3", ".flac", ".m4a")
_TO_REAP_ORPHANS = 36  # prctl: PR_SET_CHILD_SUBREAPER


def hear(way: str, model: str, paths: list[str]) -> None:
    """Hear all tracks in one of the two ways, as `classify` does."""
    from musicgenre import audio
    from musicgenre.listening.batch import Failure, hear_many, plan_threads
    from musicgenre.listening.classifier import Classifier

    jobs, _ = plan_threads(None, None, len(paths))
    with audio.decoding_apart(len(paths)) if way == "workers" else nullcontext():
        classifier = Classifier(model, threads=1)
        for result in hear_many(paths, classifier.classify, jobs=jobs):
            assert not isinstance(result, Failure), result.error


def costs_s(way: str, model: str, paths: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor, that a process of one of the two ways takes."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--way", way, "--model", model, *paths])
    clock_s, processor_s = 0.0, 0.0
    while True:  # until what it started is gone as well
        try:
            process_id, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return clock_s, processor_s
        processor_s += usage.ru_utime + usage.ru_stime
        if process_id == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            clock_s = time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tracks", type=int, nargs="+", default=[240, 60, 10, 1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="default")
    parser.add_argument("--way", choices=("process", "workers"), help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        hear(arguments.way, arguments.model, arguments.paths)
        return

    from tests.sounds import music, write

    ctypes.CDLL(None).prctl(_TO_REAP_ORPHANS, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        originals = [write(Path(name) / f"a{suffix}", music(DURATION_S)) for suffix in SUFFIXES]
        costs_s("process", arguments.model, [str(path) for path in originals])  # the disk's memory is warm after it
        for n_tracks in arguments.tracks:
            paths = [str(originals[number % len(originals)]) for number in range(n_tracks)]
            costs = {"process": [], "workers": []}
            for _ in range(arguments.repeats):
                for way, of_way in costs.items():
                    of_way.append(costs_s(way, arguments.model, paths))

            print(f"{n_tracks} tracks")
            for place, what in enumerate(("on the clock", "of processor time")):
                here_s, apart_s = (statistics.median(cost[place] for cost in of_way) for of_way in costs.values())
                price = 100 * (apart_s / here_s - 1)
                print(f"  {what}: {here_s:.2f} s in the process, {apart_s:.2f} s in workers: {price:+.1f} %")


if __name__ == "__main__":
    main()
