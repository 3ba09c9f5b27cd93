"""Measure what the wide vocabulary answers on free game music, speech, tones, noise and silence.

Run: python scripts/measure_wide.py [MUSIC] [--half chooses] [--write]      MUSIC defaults to /

MUSIC is as for scripts/measure_reject.py. One half of the sounds chose the rule, the other is reported: both stand in
the tables, and every piece of music is listed beside what would be fair by its title and by what is known of its
game's music. --write puts it all into docs/results/wide.md, from where scripts/results.py takes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from _reject_beds import BedSound, game_music, speech, synthetic
from _results_reject import HALVES, share
from _results_rows import FOLDER
from measure_reject import bed_of, hear
from musicgenre import Answer, Classifier
from musicgenre._files import write_text_atomic

TITLE = """## The wide vocabulary on what the ten genres do not cover

`--genres wide` ([genres.md](genres.md)) on Debian's free game music, speech by espeak-ng, tones, noise and silence.
The half that "chooses" was looked at while the rule was made; the other one was looked at once, when all was fixed.
What would be fair was written down before, by title, by a file's own tags (wesnoth: "Romantic Classical") and by what
is known of a game's music; nobody listened to all of it, and where nothing is known of a piece it says so."""
LIST_TITLE = """### Every piece

The ten: the default model's answer. Wide: what leads, then all that is named, a family before its children; ~ marks a
score that is the probability of a tag and not calibrated."""

Heard = tuple[BedSound, Answer, Answer]  # a sound, its answer from the wide vocabulary, and from the ten


def is_fair(sound: BedSound, answer: Answer) -> bool:
    """Whether the leading genre, or its family, is one that would be fair."""
    families = {genre.name: genre.family for genre in answer.genres or ()}
    return bool({answer.genre, families.get(answer.genre)} & set(sound.wide))


def table(title: str, groups: dict[tuple[str, str], list[Heard]]) -> Iterator[str]:
    """A line for every group of sounds, by half and name."""
    yield f"\n| half | {title} | a genre of the ten | a genre, wide | of these calibrated | fair, where known |"
    yield "|---|---|---|---|---|---|"
    for (half, name), group in groups.items():
        before = sum(ten.is_sure for _, _, ten in group)
        given = [(sound, answer) for sound, answer, _ in group if answer.is_sure]
        calibrated = sum(answer.is_calibrated for _, answer in given)
        known = [is_fair(sound, answer) for sound, answer in given if sound.wide]
        cells = [half, name, f"{before} of {len(group)}", share(len(given), len(group)), str(calibrated)]
        yield f"| {' | '.join(cells)} | {sum(known)} of {len(known)} |"


def pieces(groups: dict[tuple[str, str], list[Heard]]) -> Iterator[str]:
    """Every piece of music with its answers."""
    for (half, package), group in groups.items():
        yield f"\n{package} ({half}):\n\n| piece | fair | the ten | wide | all that is named |\n|---|---|---|---|---|"
        for sound, answer, ten in group:
            best, probability = next(iter(ten.scores.items()))
            first = f"{best} {probability:.0%}"
            if not ten.is_sure:
                first = f"unsure: {ten.reason} ({first})"

            named = []
            for genre in answer.genres or ():
                above = "" if genre.name == genre.family else f"{genre.family} > "
                named.append(f"{above}{genre.name} {genre.score:.2f}{'' if genre.calibrated else '~'}")
            leads = f"**{answer.genre}**" if answer.is_sure else f"unsure: {answer.reason}"
            fair = ", ".join(sound.wide) or "unknown"
            yield f"| {sound.name.partition('/')[2]} | {fair} | {first} | {leads} | {', '.join(named)} |"


def main() -> None:
    """Print the tables and, with --write, save them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", type=Path, nargs="?", default=Path("/"))
    parser.add_argument("--half", choices=HALVES, help="this one alone")
    parser.add_argument("--write", action="store_true", help="save it for docs/results.md")
    chosen = parser.parse_args()

    sounds = list(chain(game_music(chosen.music), speech(), synthetic()))
    sounds = [sound for sound in sounds if chosen.half in (None, sound.half)]
    wide, ten = hear(sounds, Classifier(genres="wide")), hear(sounds, Classifier())
    beds: dict[tuple[str, str], list[Heard]] = {}
    games: dict[tuple[str, str], list[Heard]] = {}
    for heard in sorted(zip(sounds, wide, ten, strict=True), key=lambda one: HALVES.index(one[0].half)):
        sound = heard[0]
        beds.setdefault((sound.half, bed_of(sound)), []).append(heard)
        if sound.kind == "music":
            games.setdefault((sound.half, sound.name.partition("/")[0]), []).append(heard)

    command = f"Command: `python scripts/measure_wide.py MUSIC`, {datetime.now(UTC):%Y-%m-%d}."
    lines = [TITLE, "", command, *table("sound", beds), *table("package", games), "", LIST_TITLE, *pieces(games)]
    text = "\n".join(lines) + "\n"
    print(text)
    if chosen.write:
        write_text_atomic(FOLDER / "wide.md", text)


if __name__ == "__main__":
    main()
