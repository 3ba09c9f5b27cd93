"""Measure what the default model answers where it has no answer: free game music, speech, tones, noise and silence.

Run: python scripts/measure_reject.py [MUSIC] [--model NAME] [--half chooses] [--list]      MUSIC defaults to /

MUSIC is where Debian's packages of free game music are installed (/) or unpacked, each in a folder of its name:
`apt-get download PACKAGE` and `dpkg -x PACKAGE*.deb MUSIC/PACKAGE` (`scripts/_reject_beds.py` names them). Speech
needs `espeak-ng`. What is not there is left out, and said. --list prints every piece with its answer.

One half of the sounds chose how answers are rejected, the other is reported: both stand in the tables.
"""

from __future__ import annotations

import argparse
import time
from itertools import chain
from pathlib import Path

import numpy as np

from _reject_beds import GAMES, RATE_HZ, BedSound, game_music, speech, synthetic
from musicgenre import Answer, Classifier
from musicgenre.evaluation.metrics import wilson_interval
from musicgenre.models.head import load_head

HALVES = ("chooses", "reported")


def share(count: int, total: int) -> str:
    """Write a count with its share and 95 % interval."""
    if not total:
        return "none at hand"
    low, high = wilson_interval(count, total)
    return f"{count} of {total}, {count / total:.3f} [{low:.3f}, {high:.3f}]"


def bed_of(sound: BedSound) -> str:
    """The row of the table that a sound belongs to."""
    if sound.kind != "music":
        return sound.kind
    return "music with a plausible answer" if sound.plausible else "music outside the ten genres"


def hear(sounds: list[BedSound], classifier: Classifier) -> list[Answer]:
    """Classify every sound."""
    return [
        classifier.classify(sound.source, sample_rate_hz=RATE_HZ)
        if isinstance(sound.source, np.ndarray)
        else classifier.classify(sound.source)
        for sound in sounds
    ]


def print_table(sounds: list[BedSound], answers: list[Answer], plain: list[Answer], thresholds: list[float]) -> None:
    """Print, by half and kind, what is answered, how plausibly, and why not."""
    print("| half | sound | answered | by confidence alone | plausible of the answered | unsure: reasons |")
    print("|---|---|---|---|---|---|")
    for half in HALVES:
        kinds = dict.fromkeys(bed_of(sound) for sound in sounds if sound.half == half)
        for kind in kinds:
            rows = [n for n, sound in enumerate(sounds) if sound.half == half and bed_of(sound) == kind]
            given = [n for n in rows if answers[n].is_sure]
            confident = sum(plain[n].confidence >= thresholds[n] for n in rows)
            plausible = sum(answers[n].genre in sounds[n].plausible for n in given)
            reasons: dict[str, int] = {}
            for n in rows:
                if answers[n].reason:
                    reasons[str(answers[n].reason)] = reasons.get(str(answers[n].reason), 0) + 1
            why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
            print(
                f"| {half} | {kind} | {share(len(given), len(rows))} | {confident} of {len(rows)}"
                f" | {plausible} of {len(given)} | {why} |"
            )


def print_games(sounds: list[BedSound], answers: list[Answer]) -> None:
    """Print the same for every game."""
    print("\n| half | package | answered | plausible of the answered |\n|---|---|---|---|")
    for package, (_, half, _) in GAMES.items():
        rows = [n for n, sound in enumerate(sounds) if sound.name.startswith(f"{package}/")]
        if not rows:
            print(f"| {half} | {package} | not at hand | |")
            continue
        given = [n for n in rows if answers[n].is_sure]
        plausible = sum(answers[n].genre in sounds[n].plausible for n in given)
        print(f"| {half} | {package} | {share(len(given), len(rows))} | {plausible} of {len(given)} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", type=Path, nargs="?", default=Path("/"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--half", choices=HALVES, help="this one alone")
    parser.add_argument("--list", action="store_true")
    chosen = parser.parse_args()

    sounds = list(chain(game_music(chosen.music), speech(), synthetic()))
    sounds = [sound for sound in sounds if chosen.half in (None, sound.half)]
    classifier, plain = Classifier(chosen.model), Classifier(chosen.model, reject="none")
    answers, argmax = hear(sounds, classifier), hear(sounds, plain)
    print_table(sounds, answers, argmax, [answer.unsure_threshold for answer in answers])
    print_games(sounds, answers)
    if chosen.list:
        print("\n| sound | plausible | answer | reason | most probable |\n|---|---|---|---|---|")
        for sound, answer in zip(sounds, answers, strict=True):
            best, confidence = next(iter(answer.scores.items()))
            fair = ", ".join(sound.plausible) or "none"
            print(
                f"| {sound.name} | {fair} | {answer.genre} | {answer.reason or ''} | {best} {confidence:.0%},"
                f" {answer.style or 'no style'} |"
            )

    support = None if chosen.model.endswith(".onnx") else load_head(chosen.model).support
    if support is not None:
        embedding = np.random.default_rng(0).standard_normal((6, len(support.centre)))
        started = time.perf_counter()
        for _ in range(1_000):
            support.problem(embedding, answers[0].tags, 0)
        print(f"\nthe check takes {(time.perf_counter() - started) * 1_000:.0f} us a track")


if __name__ == "__main__":
    main()
