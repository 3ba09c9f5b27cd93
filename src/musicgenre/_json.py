"""JSON that we read and write: what is wrong with it as one error, and files that say which format they have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from musicgenre.errors import MusicgenreError

LARGEST_INTEGER = 2**64
"""Largest whole number, or its negative, that is read of what people write: larger than any seed."""


def parsed_json(text: str | bytes, *, storable: bool = False) -> Any:
    """Read JSON.

    Parameters
    ----------
    text : str or bytes
        The JSON.
    storable : bool, optional
        Also refuse halves of a character, which JSON lets pass and no UTF-8 file can hold.

    Raises
    ------
    ValueError
        For whatever is wrong with it, brackets within brackets without end included.
    """
    try:
        content = json.loads(text)
        if storable:
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error

    return content


def is_plain(value: object) -> bool:
    """Whether people may write this as a value: text, numbers, true, false, nothing, and lists and mappings of those.

    Literals of Python and TOML can be more: sets, bytes and dates, whole numbers that no float holds and nothing
    prints, halves of characters.
    """
    match value:
        case None | bool() | float():
            return True
        case int():
            return abs(value) <= LARGEST_INTEGER
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case list() | tuple():
            return all(map(is_plain, value))
        case dict():
            return all(isinstance(key, str) and is_plain(key) for key in value) and all(map(is_plain, value.values()))
    return False


def pretty_json(content: Any, *, indent: int = 2) -> str:
    """Write JSON for people to read: indented, characters as they are, a newline at the end."""
    return json.dumps(content, indent=indent, ensure_ascii=False) + "\n"


def json_sha256(content: Any) -> str:
    """Hex SHA-256 that names plain JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def read_versioned_json(
    path: Path, newest: int, *, kind: str, error: type[MusicgenreError], remedy: str
) -> dict[str, Any]:
    """Read a JSON object that holds its ``format_version``.

    Parameters
    ----------
    path : Path
        The file.
    newest, kind, error, remedy
        As in `check_version`.

    Raises
    ------
    FileNotFoundError
        If there is none: only the caller can say what its absence means.
    MusicgenreError
        ``error``, if it cannot be read, is damaged or from a newer version.
    """
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as problem:
        raise error(f"{path} is damaged ({problem})", next_step=remedy) from problem

    return check_version(content, newest, str(path), kind=kind, error=error, remedy=remedy)


def check_version(
    content: object, newest: int, where: str, *, kind: str, error: type[MusicgenreError], remedy: str
) -> dict[str, Any]:
    """Give parsed JSON back if it is an object of a format that this version of musicgenre reads.

    Parameters
    ----------
    content : object
        What was read.
    newest : int
        The newest format that is read here; they count from 1.
    where : str
        The file, or whatever holds the content, for messages.
    kind : str
        What has the format: ``bundle``, ``run``, ``store``.
    error : type of MusicgenreError
        What to raise.
    remedy : str
        The next step where the content is damaged, without the full stop.

    Raises
    ------
    MusicgenreError
        ``error``, if there is no version in it, or a newer one.
    """
    if not isinstance(content, dict):
        raise error(f"{where} is damaged: it is not a JSON object", next_step=remedy)

    version = content.get("format_version")
    if type(version) is not int or version < 1:  # True is an int to Python
        raise error(f"{where} is damaged: it has no format version", next_step=remedy)
    if version > newest:
        raise error(
            f"{where} has {kind} format {version}, written by a newer musicgenre",
            valid=f"This version of musicgenre reads formats up to {newest}",
            next_step="Update it with: pip install --upgrade musicgenre",
        )

    return content
