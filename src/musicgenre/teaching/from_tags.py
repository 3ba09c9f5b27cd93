"""Lessons from a music library as it is: the genre of every track is what its tags say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from musicgenre._text import how_many, printable, shortened
from musicgenre.data.labels import similar_labels, tidy_label
from musicgenre.errors import DataError
from musicgenre.listening.answer import UNSURE
from musicgenre.teaching.artists import TrackTags
from musicgenre.teaching.lessons import Lesson

FEWEST_TRACKS = 10
"""Tracks of a genre below which it is left out: a library has many genres of a few tracks."""

_NO_GENRES = {"other", "unknown", "misc", "miscellaneous", "none", "genre", UNSURE}
_SHOWN_GENRES = 12


def lessons_from_tags(
    source: Path, files: Sequence[Path], tags: Mapping[Path, TrackTags], *, fewest_labels: int = 2
) -> tuple[tuple[Lesson, ...], tuple[str, ...]]:
    """Make lessons of the files whose tags name a genre, and say what is left out.

    The first genre of a track is its label; of spellings that differ by case, blanks or punctuation alone the most
    frequent stands for all.

    Parameters
    ----------
    source : Path
        The library.
    files : sequence of Path
        Its tracks.
    tags : mapping of Path to TrackTags
        What their tags say.
    fewest_labels : int
        Genres below which there is nothing to learn.

    Returns
    -------
    (lessons, warnings)

    Raises
    ------
    DataError
        When fewer genres than that have enough tracks.
    """
    labels: dict[Path, str] = {}
    n_several = 0
    for path in files:
        genres = [tidy_label(printable(genre)) for genre in tags[path].genres]
        genres = [genre for genre in genres if genre and genre.casefold() not in _NO_GENRES]
        if genres:
            labels[path] = genres[0]
            n_several += len(genres) > 1

    # One genre, one spelling.
    counts = Counter(labels.values())
    chosen: dict[str, str] = {}
    for alike in similar_labels(counts):
        chosen |= dict.fromkeys(alike, max(alike, key=counts.__getitem__))
    labels = {path: chosen.get(label, label) for path, label in labels.items()}
    counts = Counter(labels.values())

    warnings = []
    if len(labels) < len(files):
        n_files = how_many(len(files), "file")
        warnings.append(f"{len(files) - len(labels)} of {n_files} are left out: their tags name no genre")
    if n_several:
        have = "has" if n_several == 1 else "have"
        warnings.append(f"{how_many(n_several, 'track')} {have} several genres: the first of them counts")
    small = [f"{label} ({count})" for label, count in sorted(counts.items()) if count < FEWEST_TRACKS]
    if small:
        warnings.append(f"genres of fewer than {FEWEST_TRACKS} tracks are left out: {shortened(small, _SHOWN_GENRES)}")

    kept = sorted(label for label, count in counts.items() if count >= FEWEST_TRACKS)
    if len(kept) < fewest_labels:
        raise DataError(
            f"the tags in {printable(source)} name {how_many(len(kept), 'genre')} of {FEWEST_TRACKS} tracks"
            f" or more{': ' if kept else ''}{', '.join(kept)}",
            valid=f"{fewest_labels} or more",
            next_step=f"Too small: {shortened(small, _SHOWN_GENRES)}" if small else "Name a folder with more music",
        )
    lessons = [Lesson(path, label) for path, label in labels.items() if label in set(kept)]
    return tuple(lessons), tuple(warnings)
