"""Speed and memory of classification: tracks a second, times real time, peak memory, cold start.

Run: python benchmarks/classify.py [--long-hours 10]

Every claim is a ratio of two things measured in this one run: hearing everything against the default coverage, two
cores against one, classifying an MP3 against merely decoding it. The sound is synthetic; its content does not matter
for speed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

RATE_HZ = 44_100
REPEATS = 5
COMMAND = str(Path(sys.executable).parent / "musicgenre")


def tune(duration_s: float) -> np.ndarray:
    """Stereo tones and noise."""
    rng = np.random.default_rng(5)
    t = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * f * t) for f in (110, 277, 440)) * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * t)) / 5
    return np.stack([tone, tone], axis=1).astype(np.float32) + 0.02 * rng.standard_normal(
        (len(t), 2), dtype=np.float32
    )


def write_mp3(path: Path, samples: np.ndarray) -> None:
    """Encode 192 kbit/s MP3."""
    with av.open(str(path), "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=RATE_HZ, layout="stereo", format="s16p")
        stream.bit_rate = 192_000
        for start in range(0, len(samples), 1152):
            piece = np.ascontiguousarray(
                (samples[start : start + 1152].T * 32767).clip(-32768, 32767).astype(np.int16)
            )
            frame = av.AudioFrame.from_ndarray(piece, format="s16p", layout="stereo")
            frame.sample_rate = RATE_HZ
            frame.pts = start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def median_s(work: Callable[[], object]) -> float:
    """Median seconds of several runs after one warm-up."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def line(what: str, seconds: float, sound_s: float) -> None:
    """Print one timing."""
    print(f"{what:<52} {seconds * 1e3:8.0f} ms  {sound_s / seconds:8.0f} x real time")


def warm(wav: Path, mp3: Path) -> None:
    """Time a loaded classifier."""
    from musicgenre import Classifier, audio

    both = len(os.sched_getaffinity(0))
    times = {}
    for threads in (1, both):
        for coverage in ("full", None):
            classifier = Classifier(coverage=coverage, threads=threads)
            name = f"{coverage or 'default'} coverage, {threads} thread(s)"
            times["wav", coverage, threads] = median_s(lambda c=classifier: c.classify(wav))
            line(f"30 s WAV, {name}", times["wav", coverage, threads], 30)
            times["mp3", coverage, threads] = median_s(lambda c=classifier: c.classify(mp3))
            line(f"4 min MP3, {name}", times["mp3", coverage, threads], 240)
    decode_s = median_s(lambda: soundfile.read(mp3, dtype="float32"))
    line("4 min MP3, decoding alone (soundfile)", decode_s, 240)
    resampled_s = median_s(lambda: audio.load(mp3, 16_000))
    line("4 min MP3, decoding, mixing and resampling", resampled_s, 240)
    print(f"ratio: {both} threads / 1 thread, 30 s WAV, full      {ratio(times, 'wav', 'full', both):.2f}")
    print(
        f"ratio: default / full coverage, 4 min MP3        {times['mp3', None, both] / times['mp3', 'full', both]:.2f}"
    )
    print(f"ratio: classify / decode, 4 min MP3, default     {times['mp3', None, both] / decode_s:.2f} (aim 2.5)")


def ratio(times: dict, kind: str, coverage: str, both: int) -> float:
    """Time with all threads over the time with one."""
    return times[kind, coverage, both] / times[kind, coverage, 1]


def batch(wav: Path) -> None:
    """Time many tracks: one at a time with two threads against two at a time with one."""
    from musicgenre import Classifier
    from musicgenre.listening.batch import hear_many

    paths = [str(wav)] * 24
    for jobs, threads in ((1, 1), (1, 2), (2, 1), (2, 2)):
        classifier = Classifier(coverage="full", threads=threads)
        start = time.perf_counter()
        list(hear_many(paths, classifier.classify, jobs=jobs))
        took = time.perf_counter() - start
        print(f"{len(paths)} x 30 s WAV, --jobs {jobs} --threads {threads}: {len(paths) / took:.1f} tracks a second")


_WATCH = (
    "import json, resource, subprocess, sys, time; start = time.perf_counter();"
    "subprocess.run(sys.argv[1:], check=True, capture_output=True);"
    "print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))"
)


def measured(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of a command, watched by a small process of its own.

    (A process counts the memory of the one that started it until it has begun, so a large parent would spoil it.)
    """
    done = subprocess.run([sys.executable, "-c", _WATCH, *command], check=True, capture_output=True)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def cold(wav: Path) -> None:
    """Time the command line from nothing, against an empty Python."""
    empty = statistics.median(measured([sys.executable, "-c", "pass"])[0] for _ in range(REPEATS))
    starts = [measured([COMMAND, "classify", str(wav)]) for _ in range(REPEATS)]
    cold_s = statistics.median(seconds for seconds, _ in starts)
    print(f"cold `musicgenre classify one.wav`: {cold_s:.2f} s, peak {starts[-1][1]:.0f} MB (aim 0.8 s)")
    print(f"ratio: cold start / empty Python process           {cold_s / empty:.0f}")


def long_file(folder: Path, hours: float) -> None:
    """Peak memory of a very long file, everything heard and at default coverage."""
    path = folder / "long.wav"
    minute = np.resize(tune(60.0)[:, :1], (60 * 16_000, 1))
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as output:
        for _ in range(int(hours * 60)):
            output.write(minute)
    for coverage, extra in (("full", ["--coverage", "full"]), ("default", [])):
        seconds, megabytes = measured([COMMAND, "classify", str(path), *extra])
        print(f"{hours:g} h WAV, {coverage} coverage: {seconds:.1f} s, peak {megabytes:.0f} MB (aim below 600)")


def main() -> None:
    """Run every measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long-hours", type=float, default=0.0, help="also classify a file this long")
    hours = parser.parse_args().long_hours
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wav, mp3 = folder / "thirty.wav", folder / "four.mp3"
        soundfile.write(wav, tune(30.0), RATE_HZ)
        write_mp3(mp3, tune(240.0))
        cold(wav)
        warm(wav, mp3)
        batch(wav)
        if hours:
            long_file(folder, hours)


if __name__ == "__main__":
    main()
