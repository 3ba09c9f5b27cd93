"""Measure what the wide vocabulary answers on free game music, speech, tones, noise and silence.

Run: python scripts/measure_wide.py [MUSIC] [--half chooses] [--list PACKAGE ...]      MUSIC defaults to /

MUSIC is as for scripts/measure_reject.py. One half of the sounds chose the rule, the other is reported: both stand in
the tables. --list prints every piece of a package with its answer, beside what would be fair by its title and by what
is known of its game's music.
"""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

from _reject_beds import GAMES, BedSound, game_music, speech, synthetic
from measure_reject import HALVES, bed_of, hear, share
from musicgenre import Answer, Classifier


def is_fair(sound: BedSound, answer: Answer) -> bool:
    """Whether the leading genre, or its family, is one that would be fair."""
    named = {genre.name: genre.family for genre in answer.genres or ()}
    return bool({answer.genre, named.get(answer.genre)} & set(sound.wide))


def print_rows(
    title: str, rows: dict[str, list[int]], sounds: list[BedSound], wide: list[Answer], ten: list[Answer]
) -> None:
    """Print a line for every group of sounds."""
    print(
        f"\n| half | {title} | a genre, of the ten | a genre, wide | calibrated | fair, of those with a known answer |"
    )
    print("|---|---|---|---|---|---|")
    for name, numbers in rows.items():
        before = sum(ten[n].is_sure for n in numbers)
        given = [n for n in numbers if wide[n].is_sure]
        calibrated = sum(wide[n].is_calibrated for n in given)
        known = [n for n in given if sounds[n].wide]
        fair = sum(is_fair(sounds[n], wide[n]) for n in known)
        half = sounds[numbers[0]].half
        print(
            f"| {half} | {name} | {before} of {len(numbers)} | {share(len(given), len(numbers))} | {calibrated} |"
            f" {fair} of {len(known)} |"
        )


def print_list(package: str, sounds: list[BedSound], wide: list[Answer], ten: list[Answer]) -> None:
    """Print every piece of a package."""
    print(f"\n{package}\n\n| piece | fair | the ten | wide: leads | all that is named |\n|---|---|---|---|---|")
    for sound, answer, narrow in zip(sounds, wide, ten, strict=True):
        if not sound.name.startswith(f"{package}/"):
            continue
        best, probability = next(iter(narrow.scores.items()))
        first = (
            f"{narrow.genre} {probability:.0%}"
            if narrow.is_sure
            else f"unsure: {narrow.reason} ({best} {probability:.0%})"
        )
        named = []
        for genre in answer.genres or ():
            below = "" if genre.name == genre.family else f"{genre.family} > "
            named.append(f"{below}{genre.name} {genre.score:.2f}{'' if genre.calibrated else '~'}")
        leads = f"**{answer.genre}**" if answer.is_sure else f"unsure: {answer.reason}"
        fair = ", ".join(sound.wide) or "unknown"
        print(f"| {sound.name.partition('/')[2]} | {fair} | {first} | {leads} | {', '.join(named)} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", type=Path, nargs="?", default=Path("/"))
    parser.add_argument("--half", choices=HALVES, help="this one alone")
    parser.add_argument("--list", nargs="*", default=[], choices=GAMES, help="packages to list in full")
    chosen = parser.parse_args()

    sounds = list(chain(game_music(chosen.music), speech(), synthetic()))
    sounds = [sound for sound in sounds if chosen.half in (None, sound.half)]
    wide, ten = hear(sounds, Classifier(genres="wide")), hear(sounds, Classifier())

    games: dict[str, list[int]] = {}
    for half in HALVES:
        beds: dict[str, list[int]] = {}
        for n, sound in enumerate(sounds):
            if sound.half == half:
                beds.setdefault(bed_of(sound), []).append(n)
                if sound.kind == "music":
                    games.setdefault(sound.name.partition("/")[0], []).append(n)
        print_rows("sound", beds, sounds, wide, ten)
    print_rows("package", games, sounds, wide, ten)
    for package in chosen.list:
        print_list(package, sounds, wide, ten)


if __name__ == "__main__":
    main()
