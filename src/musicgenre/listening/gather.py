"""From what a person typed to a list of tracks: files, folders, globs, a list on standard input."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from musicgenre.audio import find_audio_files
from musicgenre.errors import UsageError
from musicgenre.listening.batch import Failure

_STDIN = "-"
_SEPARATORS = re.escape(os.sep + (os.altsep or ""))
# How WAV, AIFF, FLAC, Ogg, MP3, MP4, Matroska and WMA begin, and no list of names does.
_SOUND = re.compile(
    rb"RIFF.{4}WAVE|FORM.{4}AIF|fLaC\0|OggS\0|ID3[\2-\4]|\xff[\xf2-\xfb][\x80-\xff]|\0\0\0.ftyp|\x1aE\xdf\xa3|0&\xb2u",
    re.DOTALL,
)
_RECURSIVE = re.compile(rf"((?:.*?[{_SEPARATORS}])?)\*\*(?:[{_SEPARATORS}]+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The tracks to classify, in the order they were named, and the places where there were none."""

    paths: tuple[str, ...]
    failures: tuple[Failure, ...]


def gather_paths(arguments: Sequence[str], exclude: Sequence[str], *, stdin: BinaryIO) -> Gathered:
    """Find the tracks that command-line arguments name.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders (searched recursively for audio files), globs, or ``-`` for a list on ``stdin``, one path a
        line (or separated by NUL bytes). A file is taken whatever its name ends with.
    exclude : sequence of str
        Globs; files and folders that match are left out of folder searches.
    stdin : binary file object
        Where ``-`` is read from.

    Returns
    -------
    Gathered
        Every track once, even when it was named twice.

    Raises
    ------
    UsageError
        When nothing was named at all.
    """
    paths: dict[str, None] = {}
    failures: list[Failure] = []
    for argument in _expanded(arguments, stdin):
        if not os.path.isdir(argument):  # noqa: PTH112 (an empty name is no folder, one too long no error)
            paths[argument] = None
            continue
        found = [str(path) for path in find_audio_files([argument], exclude=exclude)]
        if not found:
            failures.append(Failure(argument, f"{argument}: no audio files in this folder."))
        paths.update(dict.fromkeys(found))
    if not paths and not failures:
        raise UsageError("no tracks were named", next_step="Give files, folders or globs, or a list on standard input")
    return Gathered(tuple(paths), tuple(failures))


def _expanded(arguments: Iterable[str], stdin: BinaryIO) -> Iterator[str]:
    for argument in arguments:
        if argument == _STDIN:
            yield from _listed(stdin)
        elif not os.path.lexists(argument) and glob.has_magic(argument):
            yield from sorted(set(_matches(argument))) or [argument]
        else:
            yield argument


def _matches(pattern: str) -> Iterator[str]:
    """Names that match; unlike in the standard library, links that lead back do not multiply what ``**`` finds."""
    found = _RECURSIVE.fullmatch(pattern)
    if found is None:
        yield from glob.glob(pattern)  # noqa: PTH207 (keeps the spelling)
        return
    before, after = found.groups()
    for root in glob.glob(before) if before else [""]:  # noqa: PTH207
        for folder in _folders(root):
            yield from _matches(os.path.join(glob.escape(folder), after or "*"))  # noqa: PTH118 (keeps the spelling)


def _folders(root: str) -> Iterator[str]:
    """List a folder and those below it, none twice and no hidden ones."""
    seen = set()
    for folder, below, _ in os.walk(root or os.curdir, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield folder if root else folder.removeprefix(os.curdir).lstrip(os.sep)


def _listed(stdin: BinaryIO) -> Iterator[str]:
    content = stdin.read().removeprefix(codecs.BOM_UTF8)
    if _SOUND.match(content):
        raise UsageError(
            "standard input holds sound", valid="A list of files, one a line", next_step="Save the sound to a file"
        )
    separator = b"\0" if b"\0" in content else b"\n"
    for line in content.split(separator):
        name = line.rstrip(b"\r\n")
        if name:
            yield os.fsdecode(name)
