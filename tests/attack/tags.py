"""Tags of music files: what is read is readable, and what is written is taken back to the last byte."""

from __future__ import annotations

from pathlib import Path

from musicgenre.filetags.music_file import read_tags, splice_for
from musicgenre.filetags.splice import Splice, replace_spliced, temporary_beside
from tests.attack.base import BrokenPromiseError, Target
from tests.attack.mutations import BINARY
from tests.tagged_files import MAKERS, tagged

CHANGES = {"genre": ("Jazz", "Soul"), "mood": ("Happy",), "custom:decade": ("80s",)}


def tags(folder: Path) -> list[Target]:
    """Files of every container, with tags and without."""
    return [Target.of_file(kind, tagged(kind), ".music", BINARY, change_and_take_back) for kind in MAKERS]


def change_and_take_back(path: Path) -> None:
    """Read a file's tags, write a genre into it, and take that back.

    Raises
    ------
    BrokenPromiseError
        What was written is not read, or the file is not what it was.
    """
    before = path.read_bytes()
    read_tags(path)
    splice = splice_for(path, CHANGES)
    if path.read_bytes() != before:
        raise BrokenPromiseError("a file was changed by reading it")

    _replace(path, splice)
    if read_tags(path, with_sound=False).genres != CHANGES["genre"]:
        raise BrokenPromiseError(f"the genres are {read_tags(path).genres}")
    _replace(path, splice.inverse())
    if path.read_bytes() != before:
        raise BrokenPromiseError("what was written was not taken back")


def _replace(path: Path, splice: Splice) -> None:
    replace_spliced(path, splice, temporary_beside(path), verify=lambda temporary: None)
