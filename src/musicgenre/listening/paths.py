"""From what a person typed to a list of tracks: files, folders, globs, a list on standard input."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from musicgenre._text import did_you_mean_path, printable
from musicgenre.audio import find_audio_files
from musicgenre.errors import UsageError
from musicgenre.listening.batch import Failure

_STDIN = "-"
# How WAV, AIFF, FLAC, Ogg, MP3, MP4, Matroska and WMA begin, and no list of names does.
_SOUND = re.compile(
    rb"RIFF.{4}WAVE|FORM.{4}AIF|fLaC\0|OggS\0|ID3[\2-\4]|\xff[\xf2-\xfb][\x80-\xff]|\0\0\0.ftyp|\x1aE\xdf\xa3|0&\xb2u",
    re.DOTALL,
)
_SEPARATORS = re.escape(os.sep + (os.altsep or ""))
# What stands before `**` and what behind it.
_RECURSIVE = re.compile(rf"((?:.*?[{_SEPARATORS}])?)\*\*(?:[{_SEPARATORS}]+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Tracks to classify, in the order they were named, places where there were none, and folders that had some."""

    paths: tuple[str, ...]
    failures: tuple[Failure, ...]
    folders: tuple[str, ...] = ()


def gather_paths(arguments: Sequence[str], exclude: Sequence[str], *, stdin: BinaryIO) -> Gathered:
    """Find the tracks that command-line arguments name.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders (searched recursively for audio files), globs, or `-` for a list on `stdin`, one path a line
        (or separated by NUL bytes). A file is taken whatever its name ends with.
    exclude : sequence of str
        Globs; files and folders that match are left out of folder searches.
    stdin : binary file object
        Where `-` is read from.

    Returns
    -------
    Gathered
        Every track once, even when it was named twice.

    Raises
    ------
    UsageError
        When nothing was named at all, or standard input holds sound.
    """
    # A file may be called like a glob: only what does not exist is taken for one. A glob that matches nothing stays,
    # and fails later as a file that does not exist.
    places: list[str] = []
    for argument in arguments:
        if argument == _STDIN:
            places += _paths_on(stdin)
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            places += sorted(set(_matches(argument))) or [argument]
        else:
            places.append(argument)

    paths: dict[str, None] = {}  # as an ordered set
    failures: list[Failure] = []
    folders: list[str] = []
    for place in places:
        if not os.path.isdir(place):  # noqa: PTH112 (an empty name is no folder, one too long no error)
            paths[place] = None
            continue

        found = [str(path) for path in find_audio_files([place], exclude=exclude)]
        if found:
            folders.append(place)
        else:
            failures.append(Failure(place, f"{place}: no audio files in this folder."))
        paths.update(dict.fromkeys(found))

    if not paths and not failures:
        raise UsageError("no tracks were named", next_step="Give files, folders or globs, or a list on standard input")
    return Gathered(tuple(paths), tuple(failures), tuple(folders))


def refuse_missing(arguments: Sequence[str], gathered: Gathered) -> None:
    """Refuse what a person named and is not there, for commands that are asked for whole folders.

    Raises
    ------
    UsageError
        A file or folder does not exist, or a glob matches nothing; the nearest name is told.
    """
    for argument in arguments:
        if argument in gathered.paths and not os.path.lexists(argument):
            raise UsageError(
                f"there is no file or folder {printable(argument)}",
                next_step=f"{did_you_mean_path(argument)}Check the name and the folder",
            )


def _paths_on(stdin: BinaryIO) -> list[str]:
    """Read a list of paths, one a line or separated by NUL bytes (as `find -print0` writes it)."""
    content = stdin.read().removeprefix(codecs.BOM_UTF8)
    if _SOUND.match(content):
        raise UsageError(
            "standard input holds sound", valid="A list of files, one a line", next_step="Save the sound to a file"
        )

    separator = b"\0" if b"\0" in content else b"\n"
    paths = []
    for line in content.split(separator):
        name = line.rstrip(b"\r\n")
        if name:
            paths.append(os.fsdecode(name))
    return paths


def _matches(pattern: str) -> Iterator[str]:
    """Names that match; unlike in the standard library, links that lead back do not multiply what `**` finds."""
    found = _RECURSIVE.fullmatch(pattern)
    if found is None:
        yield from glob.glob(pattern)  # noqa: PTH207 (keeps the spelling)
        return

    before, after = found.groups()
    roots = glob.glob(before) if before else [""]  # noqa: PTH207
    for root in roots:
        seen = set()
        for folder, below, _ in os.walk(root or os.curdir, followlinks=True):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                below.clear()  # which keeps `os.walk` from going on in there
                continue
            seen.add((status.st_dev, status.st_ino))
            below[:] = sorted(name for name in below if not name.startswith("."))

            # The rest of the pattern may hold another `**`.
            spelled = folder if root else folder.removeprefix(os.curdir).lstrip(os.sep)
            yield from _matches(os.path.join(glob.escape(spelled), after or "*"))  # noqa: PTH118 (keeps the spelling)
