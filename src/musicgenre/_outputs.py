"""The rule of every output: what a person has is not replaced unasked, and what a command reads is never replaced.

A file that exists is replaced with `overwrite` alone; a folder that holds anything is taken only where the same
command made it. The exceptions are the files that a command is documented to extend: a manifest, a result file, an
index. All is checked before any work.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from musicgenre._files import writing_result
from musicgenre._locks import LOCK_NAME
from musicgenre._text import printable
from musicgenre.errors import UsageError

UNFINISHED = ".unfinished"
"""File in a folder that a command of ours fills; it goes when all is written, and marks what a kill left."""

RESUME_OR_REPLACE = "Add --resume to go on with it, or --overwrite to replace it"
"""Next step where a command can extend the file that exists."""

Input = str | Path | int
"""What a command reads: a path, or the number of an open file (0 is standard input)."""


def refuse_overwriting(
    path: Path,
    *,
    overwrite: bool,
    inputs: Iterable[Input] = (),
    option: str = "--output",
    next_step: str = "",
) -> None:
    """Refuse to write a file over one that exists, unless that was asked for, and over an input in any case.

    Parameters
    ----------
    path : Path
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.
    inputs : iterable of str, Path or int
        What the command reads. Only where `path` exists is any of it looked at.
    option : str
        How the command line names the output.
    next_step : str
        What to do about a file that exists; `--overwrite` or another name by default.

    Raises
    ------
    UsageError
        If the file exists and `overwrite` is false, if it is an input, a folder, or no regular file.
    """
    refuse_input(path, inputs, option=option)

    with writing_result(path, f"Choose another {option}"):
        try:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                with suppress(FileNotFoundError):  # a link that leads nowhere is a file of somebody all the same
                    mode = path.stat().st_mode
        except FileNotFoundError:
            return

    shown = printable(path)
    if stat.S_ISDIR(mode):
        raise UsageError(f"{shown} is no file but a folder", next_step=f"Give {option} the name of a file")
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise UsageError(f"{shown} is no file but a device or a pipe", next_step=f"Give {option} the name of a file")
    if not overwrite:
        raise UsageError(
            f"{shown} exists already",
            valid="A file is never overwritten unasked",
            next_step=next_step or f"Add --overwrite to replace it, or give another {option}",
        )


def refuse_input(path: Path, inputs: Iterable[Input], *, option: str = "--output") -> None:
    """Refuse an output that is one of the inputs, whatever it is called: by links, `..` or another case of letters.

    Raises
    ------
    UsageError
        If it is one.
    """
    try:
        own = path.stat()
    except (OSError, ValueError):  # what is not there is no input
        return

    for given in inputs:
        with suppress(OSError, ValueError):  # an input that cannot be found is not the output
            if os.path.samestat(own, os.stat(given)):  # noqa: PTH116 - it may be the number of an open file
                raise UsageError(
                    f"{option} {printable(path)} is one of the tracks or other files that this command reads",
                    valid="An input is never replaced, with --overwrite neither",
                    next_step=f"Give {option} a name of its own",
                )


def refuse_same_outputs(outputs: Sequence[tuple[str, Path]]) -> None:
    """Refuse outputs of one command, as (option, path), that would replace each other.

    Raises
    ------
    UsageError
        If two are one file, also where they differ in the case of letters alone.
    """
    options: dict[str, str] = {}
    for option, path in outputs:
        place = os.path.realpath(path).casefold()
        if place in options:
            raise UsageError(
                f"{options[place]} and {option} are the same file, {printable(path)}",
                next_step=f"Give {option} a name of its own",
            )
        options[place] = option


def refuse_foreign_folder(
    folder: Path, is_ours: Callable[[Path], bool], *, command: str, option: str = "--output"
) -> None:
    """Refuse to write into a folder that holds anything but what the same command made, finished or not.

    Parameters
    ----------
    folder : Path
        The folder; it need not exist.
    is_ours : callable
        Tells whether a folder that is not empty holds what the command writes.
    command : str
        Who writes there, for the message.
    option : str
        How the command line names the folder.

    Raises
    ------
    UsageError
        If it is a file, or a folder that holds something else.
    """
    with writing_result(folder, f"Choose another {option}"):
        if not folder.is_dir():
            if os.path.lexists(folder):
                raise UsageError(f"{printable(folder)} is a file", next_step=f"Give {option} the name of a folder")
            return
        held = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_NAME)

    if not held or UNFINISHED in held or is_ours(folder):
        return
    raise UsageError(
        f"the folder {printable(folder)} is not empty: it holds {printable(held[0])}",
        valid=f"A folder that is new, empty, or was made by {command}",
        next_step=f"Give another {option}",
    )
