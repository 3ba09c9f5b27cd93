"""Measure what models answer where they have no answer: free game music, speech, tones, noise and silence.

Run: python scripts/measure_reject.py [MUSIC] [--model NAME] [--taught] [--half chooses] [--list] [--write TITLE]
     MUSIC defaults to /, the model to the default one

MUSIC is where Debian's packages of free game music are installed (/) or unpacked, each in a folder of its name:
`apt-get download PACKAGE` and `dpkg -x PACKAGE*.deb MUSIC/PACKAGE` (`scripts/_reject_beds.py` names them). Speech
needs `espeak-ng`. What is not there is left out, and said. --list prints every piece with its answer.

--taught also teaches heads on gtzan-mini (of DATA, by default ../shared/data): one of its ten genres, artists apart,
and seven of two or five of them, artists unknown. Genres that a head was not taught are one bed more, tracks of its
own that it was taught without, fold by fold, another: they tell what rejecting costs.

One half of the sounds chose how answers are rejected, the other is reported: both stand in the tables. --write keeps
them as docs/results/reject.jsonl for docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from _gtzan_heard import DEFAULT_DATA, artist_groups
from _reject_beds import RATE_HZ, BedSound, game_music, speech, synthetic
from _results_reject import HALVES, HELD_OUT, MUSIC_OUTSIDE, OTHER_GENRES, read_reject, rows_of, write_reject
from musicgenre import Answer, Classifier
from musicgenre.bundle.load import Bundle
from musicgenre.evaluation.folds import grouped_folds
from musicgenre.listening.classifier import DEFAULT_COVERAGE_S
from musicgenre.listening.framing import Coverage, Framing
from musicgenre.listening.hearing import Heard
from musicgenre.listening.listeners import HeadListener, Listener, load_listener
from musicgenre.models.head import GenreHead
from musicgenre.teaching.lessons import HeardLesson, Lesson
from musicgenre.teaching.teach import DEFAULT_TEACH_COVERAGE_S, fit_head

N_FOLDS = 5
TEN = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
FEW = (*zip(TEN[::2], TEN[1::2], strict=True), TEN[:5], TEN[5:])


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one sound: of which half and bed, whether answered, or by confidence alone, and how fairly."""

    half: str
    bed: str
    is_answered: bool
    is_confident: bool
    is_plausible: bool
    reason: str


def bed_of(sound: BedSound) -> str:
    """The row of the table that a sound belongs to."""
    if sound.kind != "music":
        return sound.kind
    return "music with a plausible answer" if sound.plausible else MUSIC_OUTSIDE


def hear(sounds: list[BedSound], classifier: Classifier) -> list[Answer]:
    """Classify every sound."""
    return [
        classifier.classify(sound.source, sample_rate_hz=RATE_HZ)
        if isinstance(sound.source, np.ndarray)
        else classifier.classify(sound.source)
        for sound in sounds
    ]


def hear_beds(sounds: Sequence[BedSound], listener: Listener) -> list[Heard]:
    """Hear every sound once, for any number of heads on one network."""
    ear = listener.ear(Coverage.parse(DEFAULT_COVERAGE_S))
    return [
        ear.hear(sound.source, sample_rate_hz=RATE_HZ)
        if isinstance(sound.source, np.ndarray)
        else ear.hear(sound.source)
        for sound in sounds
    ]


def outcome(half: str, bed: str, plausible: Iterable[str], listener: Listener, heard: Heard) -> Outcome:
    """Answer one sound."""
    answer, plain = listener.answer(None, heard), listener.answer(None, heard, reject=False)
    is_confident = plain.confidence >= answer.unsure_threshold
    return Outcome(half, bed, answer.is_sure, is_confident, answer.genre in {*plausible}, str(answer.reason or ""))


def hear_mini(data: Path, listener: Listener) -> tuple[list[HeardLesson], list[Heard]]:
    """gtzan-mini as lessons, heard as `teach` hears them, and as `classify` hears them."""
    groups = artist_groups(data)
    ear = listener.ear(Coverage.parse(DEFAULT_COVERAGE_S))
    teach_ear = listener.ear(Coverage.parse(DEFAULT_TEACH_COVERAGE_S))
    lessons, heard = [], []
    for path in sorted((data / "gtzan-mini" / "genres").glob("*/*.wav")):
        lesson = Lesson(path, path.parent.name, str(groups[path.stem]))
        lessons.append(HeardLesson(lesson, path.stem, teach_ear.hear(path).outputs["embedding"], ()))
        heard.append(ear.hear(path))
    return lessons, heard


def taught_outcomes(
    genres: Sequence[str],
    lessons: Sequence[HeardLesson],
    lessons_heard: Sequence[Heard],
    bundle: Bundle,
    beds: Sequence[tuple[BedSound, Heard]],
    *,
    has_artists: bool,
) -> list[Outcome]:
    """Teach a head of these genres and let it answer."""
    own = [(item, heard) for item, heard in zip(lessons, lessons_heard, strict=True) if item.lesson.label in genres]
    if not has_artists:
        own = [(replace(item, lesson=replace(item.lesson, group="")), heard) for item, heard in own]
    default, hop_s = GenreHead.load_default(), Framing.of(bundle.card).hop_s

    def taught(items: Sequence[HeardLesson]) -> HeadListener:
        return HeadListener(bundle, fit_head("taught", items, default, hop_s=hop_s)[0])

    listener = taught([item for item, _ in own])
    found = [outcome(s.half, bed_of(s), {*s.plausible} & {*genres}, listener, heard) for s, heard in beds]
    for item, heard in zip(lessons, lessons_heard, strict=True):
        if item.lesson.label not in genres:
            found.append(outcome("chooses", OTHER_GENRES, (), listener, heard))

    # Its own genres, by heads that were taught without the track (and its artist, where that is known).
    truth = np.array([genres.index(item.lesson.label) for item, _ in own])
    groups = np.unique([item.lesson.group or item.content for item, _ in own], return_inverse=True)[1]
    folds = grouped_folds(truth, groups, N_FOLDS, 0)
    for fold in np.unique(folds[folds >= 0]):
        listener = taught([item for (item, _), place in zip(own, folds, strict=True) if place != fold])
        for (item, heard), place in zip(own, folds, strict=True):
            if place == fold:
                found.append(outcome("chooses", HELD_OUT, (item.lesson.label,), listener, heard))
    return found


def record_of(title: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What is kept of a measurement: counts by half and bed."""
    rows: list[dict[str, Any]] = []
    for half in HALVES:
        for bed in dict.fromkeys(one.bed for one in outcomes if one.half == half):
            own = [one for one in outcomes if (one.half, one.bed) == (half, bed)]
            reasons: dict[str, int] = {}
            for one in own:
                if one.reason:
                    reasons[one.reason] = reasons.get(one.reason, 0) + 1
            rows.append(
                {
                    "half": half,
                    "bed": bed,
                    "n": len(own),
                    "answered": sum(one.is_answered for one in own),
                    "confident": sum(one.is_confident for one in own),
                    "plausible": sum(one.is_answered and one.is_plausible for one in own),
                    "reasons": dict(sorted(reasons.items())),
                }
            )
    options = [word for word in sys.argv[1:] if word.startswith("--") and not word.startswith("--write")]
    command = " ".join(["python scripts/measure_reject.py MUSIC", *(word for word in options if word == "--taught")])
    return {"title": title, "command": command, "date": f"{datetime.now(UTC):%Y-%m-%d}", "rows": rows}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", type=Path, nargs="?", default=Path("/"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--taught", action="store_true", help="also heads taught on gtzan-mini")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--half", choices=HALVES, help="this one alone")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", metavar="TITLE", help="keep it for docs/results.md")
    chosen = parser.parse_args()

    sounds = list(chain(game_music(chosen.music), speech(), synthetic()))
    sounds = [sound for sound in sounds if chosen.half in (None, sound.half)]
    listener = load_listener(chosen.model)
    beds = list(zip(sounds, hear_beds(sounds, listener), strict=True))
    title = chosen.write or chosen.model
    measured = {title: [outcome(s.half, bed_of(s), s.plausible, listener, heard) for s, heard in beds]}
    if chosen.taught:
        assert isinstance(listener, HeadListener)
        lessons, lessons_heard = hear_mini(chosen.data, listener)
        few: list[Outcome] = []
        for genres in FEW:
            few += taught_outcomes(genres, lessons, lessons_heard, listener.bundle, beds, has_artists=False)
        ten = taught_outcomes(TEN, lessons, lessons_heard, listener.bundle, beds, has_artists=True)
        measured |= {"a head taught on the ten genres": ten, "seven heads taught on two or five of them": few}

    kept = read_reject()
    for title, outcomes in measured.items():
        record = record_of(title, outcomes)
        losses = listener.card.get("protocol", {}).get("support_loses") if title == chosen.write else None
        if losses:
            record["coverage_lost"] = losses["both, of the tracks with audio"]
        kept[title] = record
        print(f"\n{title}:\n\n" + "\n".join(rows_of(record, HALVES)))
    if chosen.write:
        write_reject(kept)
    if chosen.list:
        print("\n| sound | plausible | answer | reason | most probable |\n|---|---|---|---|---|")
        for sound, heard in beds:
            answer = listener.answer(None, heard)
            best, confidence = next(iter(answer.scores.items()))
            fair = ", ".join(sound.plausible) or "none"
            print(f"| {sound.name} | {fair} | {answer.genre} | {answer.reason or ''} | {best} {confidence:.0%} |")


if __name__ == "__main__":
    main()
