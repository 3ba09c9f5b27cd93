"""Measure whether a track keeps its answer when it is turned up or down, and when it is encoded in another way.

Run: python scripts/measure_levels.py [DATA]        DATA defaults to ../shared/data

Three tables in Markdown, with the default model and the 100 tracks of gtzan-mini, on which it was fitted: they tell
how answers change, not how good they are. The level that GTZAN has (and that the head names); answers to float samples
at gains of -30 to +10 dB, heard as they are and brought to the level; and how many of the sure answers change in other
encodings, and how many unsure ones become sure. The last needs `ffmpeg` on the path, and leaves out what it cannot
encode.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _gtzan_heard import DEFAULT_DATA
from musicgenre import Answer, Classifier, audio
from musicgenre.evaluation.metrics import wilson_interval

GAINS_DB = (-30, -20, -12, -6, -3, 0, 3, 6, 10)
RATE_HZ = 16_000  # of MusiCNN, at which the level is measured

# Name, suffix and what ffmpeg is told; GTZAN's own files are WAV at 22.05 kHz, mono.
ENCODINGS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("FLAC", "flac", ()),
    ("MP3 128 kbit/s", "mp3", ("-c:a", "libmp3lame", "-b:a", "128k")),
    ("MP3 320 kbit/s, stereo, 44.1 kHz", "mp3", ("-c:a", "libmp3lame", "-b:a", "320k", "-ac", "2", "-ar", "44100")),
    ("AAC 128 kbit/s, stereo, 44.1 kHz", "m4a", ("-c:a", "aac", "-b:a", "128k", "-ac", "2", "-ar", "44100")),
    ("Opus 96 kbit/s, stereo, 48 kHz", "opus", ("-c:a", "libopus", "-b:a", "96k", "-ac", "2", "-ar", "48000")),
    ("WAV, stereo", "wav", ("-ac", "2")),
    ("WAV, 44.1 kHz", "wav", ("-ar", "44100")),
    ("WAV, 48 kHz", "wav", ("-ar", "48000")),
    ("WAV, stereo, 96 kHz, 24 bit", "wav", ("-ac", "2", "-ar", "96000", "-c:a", "pcm_s24le")),
    ("WAV, 3 dB lower", "wav", ("-af", "volume=-3dB")),
    ("WAV, 12 dB lower", "wav", ("-af", "volume=-12dB")),
)


@dataclass(frozen=True, eq=False)
class Track:
    """A track of gtzan-mini with its true genre and its samples at `RATE_HZ`."""

    path: Path
    genre: str
    waveform: NDArray[np.float32]

    @property
    def level_db(self) -> float:
        """Its RMS in dBFS."""
        return audio.level_db([self.waveform])


def read_tracks(data: Path) -> list[Track]:
    """Read all 100 tracks."""
    paths = sorted((data / "gtzan-mini" / "genres").glob("*/*.wav"))
    return [Track(path, path.parent.name, audio.load(path, RATE_HZ).waveform) for path in paths]


def track_ids(data: Path, part: str) -> set[str]:
    """Names of the tracks in a part of the fault-filtered split."""
    lines = (data / "gtzan-tables" / "splits" / f"{part}_filtered.txt").read_text(encoding="utf-8").split()
    return {Path(line).stem for line in lines}


def print_levels(tracks: list[Track], test: set[str]) -> None:
    """Print the levels of the tracks that may choose one: all but those of the test part."""
    levels_db = [track.level_db for track in tracks if track.path.stem not in test]
    low, quarter, median, three_quarters, high = np.percentile(levels_db, (0, 25, 50, 75, 100))
    print(f"RMS of the {len(levels_db)} tracks of gtzan-mini outside the test part, in dBFS:")
    print(f"median {median:.1f}, half of them {quarter:.1f} to {three_quarters:.1f}, all {low:.1f} to {high:.1f}\n")


def best(answer: Answer) -> str:
    """Name the most probable genre, sure or not."""
    return next(iter(answer.scores))


def share(count: int, total: int) -> str:
    """Write a count with its share and 95 % interval."""
    low, high = wilson_interval(count, total)
    return f"{count} of {total}, {count / total:.3f} [{low:.3f}, {high:.3f}]"


def print_gains(tracks: list[Track], listeners: dict[str, Classifier]) -> None:
    """Print what becomes of the answers when the samples are multiplied."""
    print(f"{len(tracks)} tracks, all of them in the fit, float samples, default coverage:\n")
    print("| heard | gain, dB | most probable is right | sure | right of the sure | other answer than at 0 dB |")
    print("|---|---|---|---|---|---|")
    for name, classifier in listeners.items():
        answers: dict[int, list[Answer]] = {}
        for gain_db in GAINS_DB:
            factor = np.float32(10 ** (gain_db / 20))
            answers[gain_db] = [
                classifier.classify(track.waveform * factor, sample_rate_hz=RATE_HZ) for track in tracks
            ]

        for gain_db, given in answers.items():
            n_right = n_sure = n_sure_right = n_other = 0
            for track, answer, at_0_db in zip(tracks, given, answers[0], strict=True):
                is_right = best(answer) == track.genre
                n_right += is_right
                n_sure += answer.is_sure
                n_sure_right += answer.is_sure and is_right
                n_other += answer.genre != at_0_db.genre
            print(
                f"| {name} | {gain_db:+d} | {share(n_right, len(tracks))} | {n_sure} | {share(n_sure_right, n_sure)}"
                f" | {n_other} |"
            )
    print()


def print_encodings(tracks: list[Track], listeners: dict[str, Classifier]) -> None:
    """Print how many of the sure answers change when the same tracks are encoded anew."""
    if shutil.which("ffmpeg") is None:
        print("ffmpeg is not on the path: encodings are left out")
        return

    originals = {name: [listener.classify(track.path) for track in tracks] for name, listener in listeners.items()}
    print("Sure answers that change when the same track comes in another encoding (to another genre + to unsure), and")
    print("unsure ones that become sure:\n")
    print("| encoding |" + "".join(f" {name} |" for name in listeners))
    print("|---|" + "---|" * len(listeners))

    with tempfile.TemporaryDirectory() as folder:
        for encoding, suffix, options in ENCODINGS:
            copies = []
            for track in tracks:
                copy = Path(folder) / f"{track.path.stem}.{suffix}"
                command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(track.path), *options, str(copy)]
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    copies.append(copy)
            if len(copies) < len(tracks):
                print(f"| {encoding} |" + " this ffmpeg cannot |" * len(listeners))
                continue

            cells = []
            for name, listener in listeners.items():
                n_sure = n_other_genre = n_unsure = n_become_sure = 0
                for copy, original in zip(copies, originals[name], strict=True):
                    answer = listener.classify(copy)
                    if not original.is_sure:
                        n_become_sure += answer.is_sure
                        continue
                    n_sure += 1
                    n_other_genre += answer.is_sure and answer.genre != original.genre
                    n_unsure += not answer.is_sure
                n_changed = n_other_genre + n_unsure
                cells.append(
                    f"{n_changed} of {n_sure} ({n_other_genre} + {n_unsure}), {n_changed / n_sure:.1%};"
                    f" {n_become_sure} of {len(tracks) - n_sure}"
                )
            # No sum over encodings: they are the same tracks again, and half of them lose nothing.
            print(f"| {encoding} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the three tables."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_DATA
    tracks = read_tracks(data)
    listeners = {"as it is": Classifier(level="off"), "at the level": Classifier()}

    print_levels(tracks, track_ids(data, "test"))
    print_gains(tracks, listeners)
    print_encodings(tracks, listeners)


if __name__ == "__main__":
    main()
