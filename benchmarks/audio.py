"""Time and memory of audio in: ratios measured in one run, on synthetic files made here.

Run with ``python benchmarks/audio.py`` (add ``--hours 10`` for the long file). It prints three tables: soundfile
against PyAV for the formats that both read, four spans of 3 s against decoding everything, and the peak memory of a
process that streams a long file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from musicgenre import audio
from musicgenre.audio._input import Input
from musicgenre.audio._pyav import PyavReader
from musicgenre.audio._readers import SoundfileReader
from tests.sounds import FORMATS, music, rate_of, write

RATE_HZ = 16_000
DURATION_S = 240
SPAN_SAMPLES = 48_128
BOTH_READ = (".wav", ".flac", ".aiff", ".mp3", ".ogg", ".opus")
_STREAM = """
import resource, sys
from pathlib import Path
from musicgenre import audio
n = sum(len(block) for block in audio.stream(sys.argv[1], 16000))
status = Path("/proc/self/status")
if status.exists():  # rusage would count the parent's memory before exec
    peak_kb = int(status.read_text().split("VmHWM:")[1].split()[0])
else:
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
print(n / 16000 / 3600, peak_kb / 1e3)
"""


def best_ms(work: Callable[[], object], repeats: int) -> float:
    """Return the best CPU time of some runs, in milliseconds (a busy machine disturbs it less than the clock)."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def decode_all(kind: type[SoundfileReader] | type[PyavReader], path: Path) -> None:
    """Decode a file to its end with one decoder, without mixing or resampling."""
    reader = kind(Input(path))
    while len(reader.read(1 << 17)):
        pass
    reader.close()


def compare_decoders(folder: Path, repeats: int) -> None:
    """Print soundfile against PyAV."""
    print(f"decoding {DURATION_S} s of stereo, CPU ms   soundfile      PyAV   PyAV / soundfile")
    for name in BOTH_READ:
        path = folder / f"a{name}"
        ours = best_ms(lambda path=path: decode_all(SoundfileReader, path), repeats)
        theirs = best_ms(lambda path=path: decode_all(PyavReader, path), repeats)
        print(f"{name:35} {ours:14.0f} {theirs:9.0f} {theirs / ours:18.2f}")


def compare_spans(folder: Path, repeats: int) -> None:
    """Print four spans of 3 s against the whole file, both at the wanted rate."""
    spans = [(RATE_HZ * second, SPAN_SAMPLES) for second in (20, 80, 140, 200)]
    print(f"\nmono at {RATE_HZ} Hz, CPU ms               load   4 spans     spans / load   times real time (load)")
    for name in FORMATS:
        path = folder / f"a{name}"
        whole = best_ms(lambda path=path: audio.load(path, RATE_HZ), repeats)
        part = best_ms(lambda path=path: audio.load_spans(path, RATE_HZ, spans), repeats)
        print(f"{name:35} {whole:9.0f} {part:9.1f} {part / whole:16.3f} {DURATION_S * 1e3 / whole:24.0f}")


def long_wav(path: Path, hours: float) -> None:
    """Write a WAV file with a sparse body: its length counts, not its sound."""
    with wave.open(str(path), "wb") as handle:
        handle.setparams((1, 2, 44100, round(hours * 3600 * 44100), "NONE", ""))
        handle.writeframes(b"")
    data = path.read_bytes()[:44]
    n_bytes = round(hours * 3600 * 44100) * 2
    sizes = (n_bytes + 36).to_bytes(4, "little"), n_bytes.to_bytes(4, "little")
    with path.open("wb") as handle:
        handle.write(data[:4] + sizes[0] + data[8:40] + sizes[1])
        handle.truncate(44 + n_bytes)


def long_mp3(path: Path, piece: Path, hours: float) -> None:
    """Join one MP3 file's frames over and over."""
    data = piece.read_bytes()
    frames = data[data.find(b"\xff\xfb", max(data.find(b"Info"), data.find(b"Xing"))) :]
    with path.open("wb") as handle:
        for _ in range(max(1, round(hours * 3600 / DURATION_S))):
            handle.write(frames)


def measure_memory(folder: Path, hours: float) -> None:
    """Print the peak memory of processes that stream long files."""
    long_wav(folder / "long.wav", hours)
    long_mp3(folder / "long.mp3", folder / "a.mp3", hours)
    write(folder / "short.wav", music(1.0))
    print("\nstreaming in blocks of 30 s    hours   peak MB of the process   above a 1 s file")
    base = 0.0
    for name in ("short.wav", "long.wav", "long.mp3"):
        command = [sys.executable, "-c", _STREAM, str(folder / name)]
        heard, peak = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        base = base or peak
        print(f"{name:26} {heard:9.2f} {peak:24.0f} {peak - base:18.0f}")


def main() -> None:
    """Make the files and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="length of the long files")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in FORMATS:
            write(folder / f"a{suffix}", music(DURATION_S, rate_of(suffix)), rate_of(suffix))
        compare_decoders(folder, options.repeats)
        compare_spans(folder, options.repeats)
        measure_memory(folder, options.hours)


if __name__ == "__main__":
    main()
