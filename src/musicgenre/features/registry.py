"""The representations by name: a decorator, and a scan of the folder `representations/`.

Every file there whose stem is not plumbing (`_...`) holds the representation of its own name; it is imported when that
name is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from musicgenre.errors import UsageError
from musicgenre.features.base import Representation

_FACTORIES: dict[str, Callable[..., Representation]] = {}

Factory = TypeVar("Factory", bound=Callable[..., Representation])


def register(name: str) -> Callable[[Factory], Factory]:
    """Register the decorated class or function as the maker of the representation ``name``."""

    def remember(factory: Factory) -> Factory:
        if name in _FACTORIES:
            raise UsageError(f"the representation name {name!r} is taken twice", valid="Names are unique")
        _FACTORIES[name] = factory
        return factory

    return remember


def list_representations() -> list[str]:
    """Names that :func:`create_representation` knows, sorted."""
    stems = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent / "representations")])}
    found = {stem for stem in stems if not stem.startswith("_")}
    return sorted(found | set(_FACTORIES))


def create_representation(name: str, **options: Any) -> Representation:
    """Make the representation ``name``.

    Parameters
    ----------
    name : str
        One of :func:`list_representations`.
    **options
        What its class takes: ``preset``, ``segment_s``, ...; see ``docs/features.md``.

    Raises
    ------
    UsageError
        If the name or an option is unknown (the nearest valid one is named), missing or of another type.
    """
    names = list_representations()
    if name not in names:
        raise unknown("representation", name, names)
    if name not in _FACTORIES:
        importlib.import_module(f"musicgenre.features.representations.{name}")
    factory = _FACTORIES[name]
    parameters = inspect.signature(factory).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for option in options:
            if option not in parameters:
                raise unknown(f"option of the representation {name}", option, list(parameters))
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY and option not in options:
            raise UsageError(
                f"the representation {name} needs the option {option}",
                valid=f"Options: {', '.join(parameters)}",
                next_step="docs/features.md says what each takes",
            )
    try:
        return factory(**options)
    except TypeError as error:  # an option holds another kind of value than it takes
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise UsageError(
            f"the representation {name} cannot be made with {given} ({error})",
            next_step="docs/features.md says what each option takes",
        ) from error


def representation_from_settings(settings: Mapping[str, Any]) -> Representation:
    """Make again the representation whose ``settings()`` these are (a run folder or a bundle holds them).

    Raises
    ------
    UsageError
        If this version of musicgenre computes other values under these settings.
    """
    options = {key: value for key, value in settings.items() if key not in {"name", "version"}}
    made = create_representation(str(settings["name"]), **options)
    if made.settings()["version"] != settings["version"]:
        raise UsageError(
            f"the representation {made.name} was stored as version {settings['version']}",
            valid=f"This musicgenre computes version {made.settings()['version']}",
            next_step="Prepare the features again and train anew, or install the musicgenre that made them",
        )
    return made


def unknown(what: str, given: str, valid: list[str]) -> UsageError:
    """Make the error for a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(given, valid, n=1)
    hint = f"Nearest: {near[0]!r}" if near else ""
    return UsageError(f"there is no {what} named {given!r}", valid=f"Valid: {', '.join(valid)}", next_step=hint)
