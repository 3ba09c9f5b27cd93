"""What models answer where they have no answer: its records and its section in docs/results.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from _results_rows import FOLDER
from musicgenre._files import write_text_atomic
from musicgenre.evaluation.metrics import wilson_interval

HALVES = ("chooses", "reported")
MUSIC_OUTSIDE = "music outside the ten genres"
OTHER_GENRES = "genres of GTZAN that the head was not taught"
HELD_OUT = "tracks of its own genres that it was taught without"
NO_MUSIC = ("speech", "tones", "noise", "silence")

_PLACE = FOLDER / "reject.jsonl"
_HEAD = """## What is answered where there is no answer

Free game music, synthetic speech, tones, noise and silence (`scripts/_reject_beds.py` lists them and says, by title,
which answers would be plausible). The goals: at most 5 % of what is no music is answered, at most 25 % of music that
is outside a model's genres, and no more than two points of coverage are lost on its own. The half that is "reported"
chose nothing; rows without a half are of gtzan-mini. "By confidence alone" is what would be answered if no support
were asked for; brackets are 95 % intervals (Wilson). [genre-head.md](genre-head.md#support) tells how it is asked for.

Taught heads lose more coverage than two points where their limit rests on a few dozen right answers: the lowest of
twenty stands for one in twenty, and a genre taught by sixteen tracks, or without an artist, is narrow. What they know
of music in general comes from gtzan-mini too, so that what is no music could cost more elsewhere. Exported networks
answer most other music where no threshold could be set
([evaluation.md](evaluation.md#what-is-unlike-the-training-music)): nothing is known of music at large in a space of
their own, and the goal of 25 % is missed there by 67 points and more.
"""


def read_reject() -> dict[str, dict[str, Any]]:
    """The records at hand, by title."""
    if not _PLACE.is_file():
        return {}
    records = [json.loads(line) for line in _PLACE.read_text(encoding="utf-8").splitlines()]
    return {record["title"]: record for record in records}


def write_reject(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep records, one a line."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records.values()]
    write_text_atomic(_PLACE, "\n".join(lines) + "\n")


def share(count: int, total: int) -> str:
    """Write a count with its share and 95 % interval."""
    if not total:
        return "none at hand"
    low, high = wilson_interval(count, total)
    return f"{count} of {total}, {count / total:.3f} [{low:.3f}, {high:.3f}]"


def rows_of(record: Mapping[str, Any], halves: Sequence[str]) -> list[str]:
    """The lines of the table of one record."""
    lines = ["| half | sound | answered | by confidence alone | plausible of the answered | unsure: reasons |"]
    lines.append("|---|---|---|---|---|---|")
    for row in record["rows"]:
        if row["half"] not in halves and row["bed"] not in (OTHER_GENRES, HELD_OUT):
            continue
        half = "" if row["bed"] in (OTHER_GENRES, HELD_OUT) else row["half"]
        why = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items())
        lines.append(
            f"| {half} | {row['bed']} | {share(row['answered'], row['n'])} | {row['confident']} of {row['n']}"
            f" | {row['plausible']} of {row['answered']} | {why} |"
        )
    return lines


def section() -> str:
    """The section of docs/results.md."""
    records = read_reject()
    if not records:
        return ""
    parts = [_HEAD]
    for title, record in records.items():
        parts.append(f"### {title[0].upper()}{title[1:]}\n\nCommand: `{record['command']}`, {record['date']}.\n")
        parts.append("\n".join([*rows_of(record, ("reported",)), "", f"{_verdict(record)}\n"]))
    return "\n".join(parts)


def _verdict(record: Mapping[str, Any]) -> str:
    """Say of each goal by how much it is met or missed."""
    rows = [row for row in record["rows"] if row["half"] == "reported"]
    told = []
    goals = (
        ("no music", [row for row in rows if row["bed"] in NO_MUSIC], 0.05),
        ("music outside the ten genres", [row for row in rows if row["bed"] == MUSIC_OUTSIDE], 0.25),
        ("genres not taught", [row for row in record["rows"] if row["bed"] == OTHER_GENRES], 0.25),
    )
    for name, own, goal in goals:
        if not own:
            continue
        answered, n = sum(row["answered"] for row in own), sum(row["n"] for row in own)
        word = "met" if answered <= goal * n else f"**missed by {100 * (answered / n - goal):.0f} points**"
        told.append(f"{name}: {share(answered, n)} answered, goal {goal:.0%} {word}")
    for row in record["rows"]:
        if row["bed"] == HELD_OUT:
            lost = (row["confident"] - row["answered"]) / row["n"]
            word = "met" if lost <= 0.02 else f"**missed by {100 * (lost - 0.02):.1f} points**"
            told.append(f"coverage lost on its own genres: {100 * lost:.1f} points, goal 2 {word}")
    if lost := record.get("coverage_lost"):
        word = "met" if lost <= 0.02 else f"**missed by {100 * (lost - 0.02):.1f} points**"
        told.append(f"coverage lost out of fold on tracks with audio: {100 * lost:.1f} points, goal 2 {word}")
    return "; ".join(told) + "."
