"""Words of messages: names that can be printed, lists that are cut short, and the name somebody meant."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from musicgenre.errors import UsageError, escaped

LONGEST_NAME = 200
"""Characters of the name of a model, a label or a tag that comes from a file."""

_SHOWN_CHARACTERS = 200  # of a value
_N_NEIGHBOURS = 1000  # of a folder are looked at: enough for music, and quick where thousands of paths are wrong


def printable(path: str | bytes | os.PathLike[str]) -> str:
    r"""Return a file's name with everything that cannot be printed escaped.

    Parameters
    ----------
    path : str, bytes or path-like
        A name as the operating system gives it; bytes that are not UTF-8 may stand in it as surrogates.

    Returns
    -------
    str
        The name, with undecodable bytes as ``\xNN`` and control characters as ``\n``, ``\x1b``, ...
    """
    raw = path if isinstance(path, bytes) else os.fspath(path).encode("utf-8", "surrogateescape")
    return escaped(raw.decode("utf-8", "backslashreplace"))


def is_plain_name(value: object) -> bool:
    """Tell a name that can be shown on a line: text, printable, not blank, not longer than `LONGEST_NAME`."""
    return isinstance(value, str) and value.isprintable() and bool(value.strip()) and len(value) <= LONGEST_NAME


def shortened(names: Sequence[str], shown: int, *, separator: str = ", ") -> str:
    """List the first ``shown`` names and count the others: ``a, b and 3 more``."""
    text = separator.join(names[:shown])
    n_left_out = len(names) - shown

    return f"{text} and {n_left_out} more" if n_left_out > 0 else text


def how_many(number: int, thing: str, things: str = "") -> str:
    """Count things in words: `1 track`, `3 tracks`, `1 class`; ``things`` is a plural that has no s more."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"


def short_repr(value: object) -> str:
    """Return `repr(value)`, only its beginning where all of it would fill the screen."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}[...]"


def nearest_name(given: str, names: Iterable[str]) -> str:
    """Find the name that was meant by ``given``, upper and lower case being the same; empty where none is near.

    Parameters
    ----------
    given : str
        What somebody wrote.
    names : iterable of str
        The names there are.
    """
    as_written = {name.lower(): name for name in names}
    near = difflib.get_close_matches(given.lower(), as_written, n=1)

    return as_written[near[0]] if near else ""


def name_list(names: Iterable[str]) -> str:
    """List names with commas, or with semicolons where one of them has a comma of its own."""
    names = list(names)
    return ("; " if any("," in name for name in names) else ", ").join(names)


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """Ask for the nearest name, with a blank behind, in front of a list of all names; empty where none is near."""
    near = nearest_name(given, names)
    return f"Did you mean {near!r}? " if near else ""


def unknown_name(what: str, given: str, names: Iterable[str]) -> UsageError:
    """Make the error for a name that does not exist, with the nearest one that does.

    Parameters
    ----------
    what : str
        What is named: ``model``, ``option of the model mfcc-cnn``.
    given : str
        The name that does not exist.
    names : iterable of str
        Those that do, in the order to list them.
    """
    names = list(names)
    near = nearest_name(given, names)

    return UsageError(
        f"there is no {what} named {given!r}",
        valid=f"Valid: {', '.join(names) or 'none'}",
        next_step=f"Nearest: {near!r}" if near else "",
    )


def did_you_mean_path(path: str | os.PathLike[str]) -> str:
    """Ask for the nearest file or folder that is there, with a blank behind, in front of advice; empty for none.

    Parameters
    ----------
    path : str or path-like
        A path that leads nowhere. Its first part that does not exist is held against its neighbours on the disk.
    """
    given = Path(path)
    try:
        missing = given
        while missing.parent != missing and not missing.parent.exists():
            missing = missing.parent
        with os.scandir(missing.parent) as entries:
            neighbours = [entry.name for entry in islice(entries, _N_NEIGHBOURS)]
        if missing.name in neighbours:  # a link to nothing is there, and is what was meant
            return ""

        near = nearest_name(missing.name, neighbours)
        if not near:
            return ""
        meant = missing.with_name(near)
        whole = meant / given.relative_to(missing)
        if whole.exists():
            meant = whole
    except (OSError, ValueError):  # a name too long, one that cannot be a name, a folder that may not be read
        return ""
    return f"Did you mean '{printable(meant)}'? "
