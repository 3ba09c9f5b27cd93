"""Who plays on the tracks: from a table, a level of the folders or the files' own tags; and folders of artists.

Tracks that share any name of an artist are one group, and a group stands on one side of a test.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from mutagen.id3 import TCON

from musicgenre._parallel import in_threads, reading_threads
from musicgenre._text import printable, shortened
from musicgenre.data.index import read_artist_names
from musicgenre.errors import DataError, LibraryError, UsageError
from musicgenre.filetags.music_file import read_tags
from musicgenre.teaching.lessons import Lesson
from musicgenre.teaching.trial import join_groups

FROM_TAGS, NONE = "tags", "none"
"""Words that `--artists` takes beside the path of a CSV and the number of a level."""

MANY_CLASSES = 12
"""Folders from which on a tree may be one of artists by the sizes of its folders, or by one artist in each."""

_SMALL_CLASS = 20  # tracks: the median of an artist's folders is below, that of a genre's above
_FEWEST_OF_ONE_ARTIST = 3  # tagged tracks of a folder before one artist in all of them says something
_KNOWN_GENRES_SHARE = 0.25  # of the folders' names: so many are no artists
_SHOWN_FOLDERS = 5

# What stands in a tag where no one artist does.
_NOBODY = {"", "variousartists", "various", "va", "diverse", "unknown", "unknownartist", "artist", "none"}
_GUESTS = re.compile(r"\s+[\[(]?(?:feat|ft|featuring)\b.*|\s*;.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class TrackTags:
    """What the tags of a track say: its genres, and the keys of its artist and the album's."""

    genres: tuple[str, ...] = ()
    artists: tuple[str, ...] = ()


def read_all_tags(paths: Sequence[Path]) -> dict[Path, TrackTags]:
    """Read the tags of files; those of one that has none, or none that can be read, are empty."""
    with closing(in_threads(_tags_of, paths, reading_threads())) as found:
        return dict(zip(paths, found, strict=True))


def with_artists(
    lessons: Sequence[Lesson], source: Path, wanted: Sequence[str], tags: Mapping[Path, TrackTags], *, first_level: int
) -> tuple[Lesson, ...]:
    """Give lessons the groups that their artists make.

    Parameters
    ----------
    lessons : sequence of Lesson
        Groups that they have already stay, and join those that share a name.
    source : Path
        The folder that levels are counted from.
    wanted : sequence of str
        Where names come from, all together: `tags`, the number of a level of the folders (the folders in `source` are
        the first), the path of a CSV; or `none` alone.
    tags : mapping of Path to TrackTags
        Of the lessons' files.
    first_level : int
        The first level that may hold artists.

    Raises
    ------
    UsageError
        When one of `wanted` is none of these.
    DataError
        When a CSV cannot be read, or names none of the tracks.
    """
    if NONE in wanted:
        if len(wanted) > 1:
            raise UsageError("--artists none goes with no other --artists", next_step="Leave the others out")
        return tuple(replace(lesson, group="") for lesson in lessons)

    names: list[set[str]] = [{name_key(lesson.group) or lesson.group} - {""} for lesson in lessons]
    for where in wanted:
        if where == FROM_TAGS:
            found = [tags.get(lesson.path, TrackTags()).artists for lesson in lessons]
        elif where.isdecimal():
            found = _of_level(lessons, source, int(where), first_level)
        elif Path(where).suffix.lower() == ".csv":
            found = _of_table(lessons, Path(where))
        else:
            raise UsageError(
                f"--artists {where!r} says nothing of artists",
                valid=f"tags, none, the number of a level of folders ({first_level} or more), or a .csv",
            )
        for known, more in zip(names, found, strict=True):
            known.update(more)
    return tuple(replace(lesson, group=group) for lesson, group in zip(lessons, groups_of(names), strict=True))


def groups_of(names: Sequence[set[str]]) -> list[str]:
    """Give every track a name that all have that are joined to it by shared names; empty where it has none."""
    pairs: list[tuple[int, int]] = []
    last_with: dict[str, int] = {}
    for number, own in enumerate(names):
        for name in sorted(own):
            pairs.append((last_with.get(name, number), number))
            last_with[name] = number

    shared: dict[int, set[str]] = {}
    groups = join_groups([""] * len(names), pairs).tolist()
    for group, own in zip(groups, names, strict=True):
        shared.setdefault(group, set()).update(own)
    return [min(shared[group], default="") for group in groups]


def one_artist_each(lessons: Sequence[Lesson]) -> bool:
    """Whether the tracks of every class are by one artist, known by name."""
    groups: dict[str, set[str]] = {}
    for lesson in lessons:
        groups.setdefault(lesson.label, set()).add(lesson.group)
    return all(len(own) == 1 and "" not in own for own in groups.values())


def refuse_artist_tree(source: Path, lessons: Sequence[Lesson], tags: Mapping[Path, TrackTags]) -> None:
    """Refuse a folder tree whose classes are artists.

    Where most tracks have tags, these decide: the artist has the name of the folder in half of the folders or more, or
    a dozen folders and more have one artist each, a fifth excepted. Else it is the folders: a dozen and more, half of
    them of fewer than twenty tracks, with names of which less than a quarter are genres'.

    Raises
    ------
    DataError
        With what shows it, and the ways to go on.
    """
    classes: dict[str, list[Lesson]] = {}
    for lesson in lessons:
        classes.setdefault(lesson.label, []).append(lesson)
    sizes = [len(members) for members in classes.values()]
    artists = {label: [tags.get(item.path, TrackTags()).artists for item in items] for label, items in classes.items()}
    n_tagged = sum(bool(own) for found in artists.values() for own in found)

    sign = ""
    if n_tagged * 2 > len(lessons):
        sign = _sign_of_tags(artists)
    elif len(classes) >= MANY_CLASSES and median(sizes) < _SMALL_CLASS:
        genres = {name_key(genre) for genre in TCON.GENRES}
        if sum(name_key(label) in genres for label in classes) < _KNOWN_GENRES_SHARE * len(classes):
            sign = f"{len(classes)} folders of mostly {median(sizes):g} tracks, and few have the name of a genre"
    if not sign:
        return

    shown = shortened([repr(label) for label in classes], _SHOWN_FOLDERS)
    raise DataError(
        f"the folders in {printable(source)} look like artists, not genres: {sign} ({shown})",
        valid="a folder a genre, with several artists in each",
        next_step="Learn from the genres in the files' tags (--from-tags), name each track's genre in a CSV"
        " (path,label,group), put the folders of the artists into folders of genres, or go on with --anyway",
    )


def name_key(name: str) -> str:
    """Let spellings of a name compare as equal: case, blanks, punctuation and `The` do not count; empty for nobody."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    folded = re.sub(r"^the\s+|,\s*the$", "", folded.strip())
    key = "".join(character for character in folded if character.isalnum()) or folded
    return "" if key in _NOBODY else key


def _tags_of(path: Path) -> TrackTags:
    """Read a file's tags; guests do not count as artists, or every duet would join two of them."""
    try:
        found = read_tags(path, with_sound=False)
    except LibraryError:
        return TrackTags()
    keys = {name_key(_GUESTS.sub("", name)) for name in (found.artist, found.album_artist)}
    return TrackTags(found.genres, tuple(sorted(keys - {""})))


def _sign_of_tags(artists: Mapping[str, Sequence[tuple[str, ...]]]) -> str:
    """What the tags' artists, by folder, tell of a tree of artists; empty if nothing."""
    n_told, n_own_name, n_of_one = 0, 0, 0
    for label, found in artists.items():
        told = [own for own in found if own]
        if not told:
            continue
        n_told += 1
        n_own_name += sum(name_key(label) in own for own in told) * 2 > len(told)
        most = Counter(name for own in told for name in own).most_common(1)[0][1]
        n_of_one += most == len(told) >= _FEWEST_OF_ONE_ARTIST

    if n_own_name >= 2 and n_own_name * 2 >= n_told:
        return f"{n_own_name} of {n_told} folders have the name of the artist in the tags of their tracks"
    if n_told >= MANY_CLASSES and n_of_one * 5 >= n_told * 4:
        return f"{n_of_one} of {n_told} folders have one artist each, by the tags of their tracks"
    return ""


def _of_level(lessons: Sequence[Lesson], source: Path, level: int, first_level: int) -> list[tuple[str, ...]]:
    """Names of the folders of one level; a file that does not lie so deep has none."""
    if not source.is_dir() or level < first_level:
        raise UsageError(
            f"--artists {level} is no level of {printable(source)} that can hold artists",
            valid=f"{first_level} or more, in a folder: the folders in it are level 1",
        )
    found: list[tuple[str, ...]] = []
    for lesson in lessons:
        folders = lesson.path.relative_to(source).parts[:-1]
        key = name_key(folders[level - 1]) if len(folders) >= level else ""
        found.append((key,) if key else ())
    if not any(found):
        raise UsageError(f"no track lies in a folder of level {level} of {printable(source)}", valid="A level that is")
    return found


def _of_table(lessons: Sequence[Lesson], table: Path) -> list[tuple[str, ...]]:
    """Names from a CSV: by path (relative to its folder, or absolute) or by track id, a file's name without suffix."""
    key, names = read_artist_names(table)
    found = []
    for lesson in lessons:
        place = os.path.abspath(lesson.path) if key == "path" else lesson.path.stem  # noqa: PTH100 - links stay
        keys = {name_key(name) for name in names.get(place, ())}
        found.append(tuple(sorted(keys - {""})))
    if not any(found):
        raise DataError(
            f"{printable(table)} names the artist of none of the tracks (such as {printable(lessons[0].path)})",
            valid="paths relative to the folder of the table, or names of files without suffix as track_id",
        )
    return found
