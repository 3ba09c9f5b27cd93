"""Where lessons come from: folders of genres, a manifest, or the genres in the tags of a library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from musicgenre._text import how_many, printable
from musicgenre.audio import find_audio_files
from musicgenre.errors import DataError
from musicgenre.teaching.artists import (
    FROM_TAGS,
    NONE,
    TrackTags,
    one_artist_each,
    read_all_tags,
    refuse_artist_tree,
    with_artists,
)
from musicgenre.teaching.from_tags import lessons_from_tags
from musicgenre.teaching.lessons import Lesson, gather_lessons

_MANY_TRACKS = 500  # whose tags take seconds to read

Lessons = tuple[tuple[Lesson, ...], tuple[str, ...]]
"""Tracks with their genres and artists, and what to know of them."""


@dataclass(frozen=True, slots=True)
class LessonSource:
    """What to learn from.

    Parameters
    ----------
    place : Path
        A folder with one folder a genre, a manifest CSV, or with `from_tags` any folder of music.
    from_tags : bool
        Whether the genre of each track is what its tags say.
    artists : tuple of str
        Where artists come from (see `teaching.artists.with_artists`); by default the manifest's column `group` where
        it says anything, else the tags.
    anyway : bool
        Whether folders that look like artists are taken for genres.
    """

    place: Path
    from_tags: bool = False
    artists: tuple[str, ...] = ()
    anyway: bool = False

    def inputs(self) -> list[str | Path]:
        """What is read beside the tracks, and never to be replaced."""
        return [self.place, *self.artists]

    def lessons(self, *, fewest_labels: int = 2, report: Callable[[str], None] = lambda line: None) -> Lessons:
        """List the tracks with their genres and artists, and say what to know of them.

        Raises
        ------
        DataError
            When there is nothing to learn from, fewer genres than `fewest_labels`, or the folders are artists.
        UsageError
            When `artists` cannot be read.
        """
        return self._from_tags(fewest_labels, report) if self.from_tags else self._labelled(fewest_labels, report)

    def _labelled(self, fewest_labels: int, report: Callable[[str], None]) -> Lessons:
        lessons, warnings = gather_lessons(self.place, fewest_labels=fewest_labels)
        tags = _tags_of([lesson.path for lesson in lessons], report)
        if self.place.is_dir() and not self.anyway:
            refuse_artist_tree(self.place, lessons, tags)

        wanted: Sequence[str] = self.artists
        if not wanted and not any(lesson.group for lesson in lessons):
            wanted = (FROM_TAGS,)
        lessons = with_artists(lessons, self.place, wanted, tags, first_level=2)

        # who goes on with folders of artists is told how well these are told apart: no artist is in two of them
        if self.anyway and not self.artists and one_artist_each(lessons):
            lessons = tuple(replace(item, group="") for item in lessons)
            warnings += ("every folder is one artist: the score is about telling these artists apart, not genres",)
        return lessons, warnings

    def _from_tags(self, fewest_labels: int, report: Callable[[str], None]) -> Lessons:
        if not self.place.is_dir():
            raise DataError(
                f"{printable(self.place)} is no folder of music whose tags could name genres", valid="a folder"
            )
        files = list(find_audio_files(self.place))
        tags = _tags_of(files, report)
        lessons, warnings = lessons_from_tags(self.place, files, tags, fewest_labels=fewest_labels)
        lessons = with_artists(lessons, self.place, self.artists or (FROM_TAGS,), tags, first_level=1)

        # One artist shall never stand on both sides: where nobody tells who plays, a folder is most likely one.
        n_unknown = sum(not lesson.group for lesson in lessons)
        if n_unknown and NONE not in self.artists:
            lessons = tuple(replace(item, group=item.group or printable(item.path.parent)) for item in lessons)
            of_tracks = how_many(n_unknown, "track")
            warnings += (f"the artists of {of_tracks} are not known: those of one folder count as one",)
        return lessons, warnings


def _tags_of(paths: Sequence[Path], report: Callable[[str], None]) -> dict[Path, TrackTags]:
    """Read the tags of tracks; where that takes a while, say so."""
    if len(paths) >= _MANY_TRACKS:
        report(f"reading the tags of {len(paths)} tracks")
    return read_all_tags(paths)
