"""How many seconds of a track must be heard? Accuracy and agreement against hearing everything, on real tracks.

Run: python scripts/measure_coverage.py [DATA]        DATA defaults to ../shared/data

Two curves: the 100 real 30 s tracks (accuracy, and agreement with hearing all ten patches), and long pieces joined
from real tracks of one genre (agreement only: a join is not a song). The head saw the 100 tracks in training, so the
accuracy column is for comparing coverages, not a score.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre.bundle.store import get_default
from musicgenre.listening.framing import Coverage
from musicgenre.listening.hearing import Heard
from musicgenre.listening.listeners import HeadListener
from musicgenre.models.head import GenreHead

TRACKS_A_PIECE = 8  # 8 x 30 s = 4 minutes
SECONDS = (3, 6, 9, 12, 15, 18, 21, 24, 30, 45, 60, 120)

Outputs = dict[str, NDArray[np.float32]]


def hear_all(listener: HeadListener, folder: Path) -> list[tuple[str, str, Outputs]]:
    """Every patch of every track: (track id, genre, outputs)."""
    heard = []
    for path in sorted(folder.glob("*/*.wav")):
        waveform = audio.load(path, listener.framing.sample_rate_hz).waveform
        rows = np.stack([row for _, row in listener.framing.rows([waveform])])
        heard.append((path.stem, path.parent.name, listener.bundle.run(rows)))
    return heard


def best(listener: HeadListener, outputs: Outputs, seconds: float | None) -> str:
    """Most probable genre when only so many seconds are heard."""
    chosen = Coverage(seconds).choose(len(outputs["tags"]), listener.framing.hop_s)
    part = {name: values[chosen] for name, values in outputs.items()}
    return next(iter(listener.answer(None, Heard(part, chosen, 0.0, ())).scores))


def join(heard: list[tuple[str, str, Outputs]]) -> list[Outputs]:
    """Long pieces: the patches of eight tracks of one genre, one after the other."""
    by_genre: dict[str, list[Outputs]] = {}
    for _, genre, outputs in heard:
        by_genre.setdefault(genre, []).append(outputs)
    pieces = []
    for tracks in by_genre.values():
        for start in range(len(tracks)):
            chosen = [tracks[(start + i) % len(tracks)] for i in range(TRACKS_A_PIECE)]
            pieces.append({name: np.concatenate([t[name] for t in chosen]) for name in chosen[0]})
    return pieces


def main() -> None:
    """Print both curves."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    listener = HeadListener(get_default(), GenreHead.load_default())
    heard = hear_all(listener, data / "gtzan-mini" / "genres")
    everything = [best(listener, outputs, None) for _, _, outputs in heard]
    pieces = join(heard)
    whole = [best(listener, piece, None) for piece in pieces]
    print(f"{len(heard)} tracks of 30 s; {len(pieces)} joined pieces of 4 min")
    print("seconds | accuracy | agreement, 30 s tracks | agreement, joined 4 min")
    for seconds in (*SECONDS, None):
        answers = [best(listener, outputs, seconds) for _, _, outputs in heard]
        right = np.array([answer == genre for answer, (_, genre, _) in zip(answers, heard, strict=True)])
        same = np.mean([a == b for a, b in zip(answers, everything, strict=True)])
        joined = np.mean([best(listener, p, seconds) == b for p, b in zip(pieces, whole, strict=True)])
        name = "all" if seconds is None else seconds
        print(f"{name:>7} | {right.mean():8.3f} | {same:22.3f} | {joined:23.3f}")


if __name__ == "__main__":
    main()
