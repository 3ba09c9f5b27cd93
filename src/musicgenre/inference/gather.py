"""From what a person typed to a list of tracks: files, folders, globs, a list on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from musicgenre.audio import find_audio_files
from musicgenre.errors import UsageError
from musicgenre.inference.batch import Failure

_STDIN = "-"


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
        if not Path(argument).is_dir():
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
            yield from sorted(glob.glob(argument, recursive=True)) or [argument]  # noqa: PTH207 (keeps the spelling)
        else:
            yield argument


def _listed(stdin: BinaryIO) -> Iterator[str]:
    content = stdin.read()
    separator = b"\0" if b"\0" in content else b"\n"
    for line in content.split(separator):
        name = line.rstrip(b"\r\n")
        if name:
            yield os.fsdecode(name)
