"""Hear a track, name its genre; train such a listener on your own music and know how good it is.

Importing this package is cheap: the public names below are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from musicgenre import _privacy as _privacy  # first of all: no package may have been imported before it
from musicgenre._version import __version__

if TYPE_CHECKING:
    from musicgenre.errors import (
        AudioError,
        BundleError,
        DataError,
        LibraryError,
        MissingExtraError,
        MusicgenreError,
        RecipeError,
        RunError,
        UsageError,
    )
    from musicgenre.listening.answer import Answer
    from musicgenre.listening.classifier import Classifier

_HOMES = {
    "Answer": "musicgenre.listening.answer",
    "AudioError": "musicgenre.errors",
    "BundleError": "musicgenre.errors",
    "Classifier": "musicgenre.listening.classifier",
    "DataError": "musicgenre.errors",
    "LibraryError": "musicgenre.errors",
    "MissingExtraError": "musicgenre.errors",
    "MusicgenreError": "musicgenre.errors",
    "RecipeError": "musicgenre.errors",
    "RunError": "musicgenre.errors",
    "UsageError": "musicgenre.errors",
}

__all__ = [
    "Answer",
    "AudioError",
    "BundleError",
    "Classifier",
    "DataError",
    "LibraryError",
    "MissingExtraError",
    "MusicgenreError",
    "RecipeError",
    "RunError",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'musicgenre' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
