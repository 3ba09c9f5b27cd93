"""Heads by name: the default one, those taught on this machine, and files of heads."""

from __future__ import annotations

import re
from pathlib import Path

from musicgenre._files import config_folder
from musicgenre.errors import BundleError, UsageError
from musicgenre.models.head import GenreHead

DEFAULT_HEAD = "default"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def heads_folder() -> Path:
    """Folder of the heads taught on this machine."""
    return config_folder() / "heads"


def taught_path(name: str) -> Path:
    """Where the taught head of this name is, or would be.

    Raises
    ------
    UsageError
        When the name cannot be a file name on every system, or is that of the default head.
    """
    stem = name.split(".", maxsplit=1)[0].lower()
    if not _NAME.fullmatch(name) or name.endswith((".", ".json", ".onnx")) or stem in _RESERVED:
        raise UsageError(
            f"{name!r} cannot be the name of a taught model",
            valid="letters, digits, '-', '_' and '.', at most 64, the first a letter or digit, no .json at the end",
        )
    if name == DEFAULT_HEAD:
        raise UsageError(
            f"{name!r} is the name of the model that comes with musicgenre", next_step="Choose another name"
        )
    return heads_folder() / f"{name}.json"


def list_taught() -> tuple[str, ...]:
    """Names of the heads taught on this machine, sorted."""
    return tuple(sorted(path.stem for path in heads_folder().glob("*.json") if _NAME.fullmatch(path.stem)))


def load_head(name_or_path: str | Path) -> GenreHead:
    """Load the default head, a taught head by its name, or a head file by its path.

    Raises
    ------
    BundleError
        When there is none, or it is damaged or from a newer version.
    """
    text = str(name_or_path)
    if text == DEFAULT_HEAD:
        return GenreHead.load_default()
    path = Path(text)
    if path.suffix == ".json" or len(path.parts) > 1:
        return GenreHead.load(path)
    if text not in list_taught():
        known = ", ".join((DEFAULT_HEAD, *list_taught()))
        raise BundleError(
            f"there is no model {text!r}",
            valid=f"{known}, or the path of a bundle (.onnx) or head (.json)",
            next_step="Teach one: musicgenre teach FOLDER --name NAME",
        )
    return GenreHead.load(taught_path(text))
