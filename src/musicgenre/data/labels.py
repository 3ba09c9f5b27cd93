"""Names of genres and tags as people write them: one spelling where two look alike, and a hint where two are near."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from musicgenre._text import shortened

_SHOWN_SPELLINGS = 6
_ABSENT = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "#n/a"})  # as pandas, R and spreadsheets write it


def tidy_label(name: str) -> str:
    """Give a label the one form of Unicode that labels have (NFC), without blanks around it.

    A Mac writes the accent of `é` as a character of its own, and a blank at the end cannot be seen: without this, what
    looks like one genre would be two.
    """
    return unicodedata.normalize("NFC", name).strip()


def similar_labels(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Find labels that differ only by case, blanks or punctuation, such as `Hip-Hop`, `hiphop` and `Hip Hop`.

    Returns
    -------
    list of tuple of str
        Those that look alike, sorted.
    """
    spellings: dict[str, set[str]] = {}
    for label in labels:
        folded = unicodedata.normalize("NFKC", label).casefold()
        # Marks are parts of letters: without them words of some scripts would be taken for one another.
        letters = [char for char in folded if char.isalnum() or unicodedata.category(char).startswith("M")]
        spellings.setdefault("".join(letters) or folded, set()).add(label)

    return [tuple(sorted(alike)) for _, alike in sorted(spellings.items()) if len(alike) > 1]


def notes_on_labels(counts: Mapping[str, int]) -> list[str]:
    """Say which labels differ only by case, blanks or punctuation and which are none, with their numbers of tracks."""
    notes = []
    absent = [f"{label!r} ({counts[label]})" for label in sorted(counts) if label.casefold() in _ABSENT]
    if absent:
        notes.append(
            f"tables have such a word where nothing is known, and here it is a genre: {', '.join(absent)}; take those "
            "rows out, or choose the other labels with --labels"
        )
    for alike in similar_labels(counts):
        named = [f"{label!r} ({counts[label]})" for label in alike]
        notes.append(
            f"labels that differ only by case, blanks or punctuation: {shortened(named, _SHOWN_SPELLINGS)}; if they "
            "mean one genre, give them one name"
        )
    return notes
