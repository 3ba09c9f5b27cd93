"""Render the pieces in examples/: three short compositions of our own, synthesised with NumPy alone.

Run: python scripts/render_examples.py [FOLDER]

They show that the tool works, nothing more: sketches by a program are not records, and a genre named for them says
little about how well real music is recognised.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 22_050
LENGTH_S = 15.0
Signal = NDArray[np.float64]


def hertz(note: float) -> float:
    """Frequency of a MIDI note number."""
    return float(440.0 * 2.0 ** ((note - 69) / 12))


def seconds(duration_s: float) -> Signal:
    """Time axis of a sound."""
    return np.arange(int(duration_s * RATE_HZ)) / RATE_HZ


def pluck(note: float, duration_s: float, rng: np.random.Generator, damping: float = 0.996) -> Signal:
    """Plucked string after Karplus and Strong: noise in a loop that averages neighbours."""
    period = int(RATE_HZ / hertz(note))
    loop = rng.uniform(-1, 1, period)
    out = np.empty(int(duration_s * RATE_HZ))
    for start in range(0, len(out), period):
        stop = min(start + period, len(out))
        out[start:stop] = loop[: stop - start]
        loop = damping * 0.5 * (loop + np.roll(loop, 1))
    return out


def struck(note: float, duration_s: float) -> Signal:
    """Piano-like tone: decaying, slightly stretched partials."""
    t = seconds(duration_s)
    out = np.zeros_like(t)
    for partial in range(1, 11):
        frequency = hertz(note) * partial * np.sqrt(1 + 0.0004 * partial**2)
        if frequency < RATE_HZ / 2:
            out += np.sin(2 * np.pi * frequency * t) * np.exp(-t * (1.2 + 0.7 * partial)) / partial**1.3
    return out * np.minimum(1.0, t / 0.004)


def sawtooth(note: float, duration_s: float, decay: float, brightness: int) -> Signal:
    """Band-limited sawtooth with an exponential decay."""
    t = seconds(duration_s)
    partials = [k for k in range(1, brightness + 1) if hertz(note) * k < RATE_HZ / 2]
    return sum((np.sin(2 * np.pi * hertz(note) * k * t) / k for k in partials), np.zeros_like(t)) * np.exp(-t * decay)


def kick(rng: np.random.Generator) -> Signal:
    """Bass drum: a falling sine with a click."""
    t = seconds(0.3)
    body = np.sin(2 * np.pi * (48 * t + 9 * (1 - np.exp(-t * 32)))) * np.exp(-t * 11)
    return body + 0.15 * rng.standard_normal(len(t)) * np.exp(-t * 400)


def noise_hit(rng: np.random.Generator, decay: float, duration_s: float = 0.2) -> Signal:
    """Snare or hi-hat: high-passed noise."""
    t = seconds(duration_s)
    return np.diff(rng.standard_normal(len(t)), prepend=0.0) * np.exp(-t * decay)


class Tape:
    """A track under construction."""

    def __init__(self) -> None:
        self.samples = np.zeros(int((LENGTH_S + 4) * RATE_HZ))

    def add(self, start_s: float, sound: Signal, gain: float) -> None:
        """Mix a sound in at a time."""
        start = int(start_s * RATE_HZ)
        stop = min(start + len(sound), len(self.samples))
        self.samples[start:stop] += gain * sound[: stop - start]

    def finished(self) -> Signal:
        """Cut to length, fade out, normalise to -1 dBFS."""
        out = self.samples[: int(LENGTH_S * RATE_HZ)]
        out *= np.minimum(1.0, (LENGTH_S - seconds(LENGTH_S)) / 1.0)
        return out / np.abs(out).max() * 10 ** (-1 / 20)


def pulse_machine(rng: np.random.Generator) -> Signal:
    """Four on the floor: kick, off-beat hats, a filtered bass line and stabs, 128 beats a minute."""
    tape, beat_s = Tape(), 60 / 128
    riff = (33, 33, 45, 33, 36, 33, 40, 43)
    for beat in range(int(LENGTH_S / beat_s)):
        start_s = beat * beat_s
        tape.add(start_s, kick(rng), 1.0)
        tape.add(start_s + beat_s / 2, noise_hit(rng, 45), 0.16)
        if beat % 2:
            tape.add(start_s, noise_hit(rng, 22), 0.22)
        for half in (0, 1):
            note = riff[(2 * beat + half) % len(riff)]
            tape.add(start_s + half * beat_s / 2, sawtooth(note, beat_s / 2, 7, 6 + beat % 16), 0.35)
        if beat % 4 == 3:
            for note in (57, 60, 64, 67):
                tape.add(start_s + beat_s / 2, sawtooth(note, 0.4, 9, 20), 0.09)
    return tape.finished()


def porch_shuffle(rng: np.random.Generator) -> Signal:
    """Twelve-bar shuffle for two plucked strings, 96 beats a minute."""
    tape, beat_s = Tape(), 60 / 96
    roots = (40, 40, 45, 40, 47, 45, 40, 47)
    blue = (64, 67, 69, 70, 71, 74, 76)
    for beat in range(int(LENGTH_S / beat_s)):
        root = roots[(beat // 4) % len(roots)]
        for swing, fifth in ((0.0, 7 if beat % 2 == 0 else 9), (2 / 3, 7 if beat % 2 == 0 else 9)):
            start_s = (beat + swing) * beat_s
            tape.add(start_s, pluck(root, 0.5, rng), 0.5)
            tape.add(start_s, pluck(root + fifth, 0.5, rng), 0.4)
        if beat % 4 != 3:
            tape.add((beat + 2 / 3) * beat_s, pluck(blue[int(rng.integers(len(blue)))], 0.7, rng, 0.998), 0.55)
    return tape.finished()


def small_prelude(rng: np.random.Generator) -> Signal:
    """Broken chords on a struck string, in the manner of keyboard preludes."""
    tape, step_s = Tape(), 0.21
    chords = (
        (48, 52, 60, 64, 67),
        (48, 50, 62, 65, 69),
        (47, 50, 62, 65, 67),
        (48, 52, 60, 64, 67),
        (48, 52, 64, 69, 76),
    )
    order = (0, 1, 2, 3, 4, 2, 3, 4)
    for step in range(int(LENGTH_S / step_s)):
        chord = chords[(step // 16) % len(chords)]
        loudness = 0.8 + 0.2 * rng.random()
        tape.add(step * step_s, struck(chord[order[step % 8]] + 12, 1.6), 0.5 * loudness)
    return tape.finished()


PIECES = {"pulse-machine": pulse_machine, "porch-shuffle": porch_shuffle, "small-prelude": small_prelude}


def main() -> None:
    """Render every piece, the same samples each time."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "examples")
    folder.mkdir(parents=True, exist_ok=True)
    for name, compose in PIECES.items():
        path = folder / f"{name}.flac"
        soundfile.write(path, compose(np.random.default_rng(7)), RATE_HZ, subtype="PCM_16")
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
