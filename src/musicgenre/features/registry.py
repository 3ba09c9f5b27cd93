"""The representations by name: those of the folder `representations/`, and those that other packages register."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from musicgenre._registry import Registry
from musicgenre._text import unknown_name
from musicgenre.errors import UsageError
from musicgenre.features.base import Representation, check_size

PLUGIN_PACKAGE = "plugin_package"
"""Key beside the settings on a bundle's card: the Python package of a plugin that brings the representation."""

_REPRESENTATIONS: Registry[Callable[..., Representation]] = Registry(
    "representation", "representations", "musicgenre.features.representations"
)

register = _REPRESENTATIONS.register
"""Register the decorated class or function as the maker of the representation of a name."""


def list_representations() -> list[str]:
    """Names that `create_representation` knows, sorted."""
    return _REPRESENTATIONS.names()


def create_representation(name: str, **options: Any) -> Representation:
    """Make the representation `name`.

    Parameters
    ----------
    name : str
        One of `list_representations`.
    **options
        What its class takes: `preset`, `segment_s`, ...; see `docs/features.md`.

    Raises
    ------
    UsageError
        If the name or an option is unknown (the nearest valid one is named), missing or of another type.
    """
    factory = _REPRESENTATIONS.get(name)

    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in parameters and not takes_any:
            raise unknown_name(f"option of the representation {name}", option, parameters)

    for option, parameter in parameters.items():
        is_needed = parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
        if is_needed and option not in options:
            raise UsageError(
                f"the representation {name} needs the option {option}",
                valid=f"Options: {', '.join(parameters)}",
                next_step="docs/features.md says what each takes",
            )

    try:
        made = factory(**options)
    except TypeError as error:  # an option holds another kind of value than it takes
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise UsageError(
            f"the representation {name} cannot be made with {given} ({error})",
            next_step="docs/features.md says what each option takes",
        ) from error

    # Sizes are known before anything is computed.
    check_size(f"an array of {name}", math.prod(made.shape()))
    if made.segment_s is not None:
        check_size(f"a segment of {name}", math.ceil(made.segment_s * made.sample_rate_hz))
    return made


def representation_from_settings(settings: Mapping[str, Any]) -> Representation:
    """Make again the representation whose `settings()` these are (a run folder or a bundle holds them).

    Raises
    ------
    UsageError
        If this version of musicgenre computes other values under these settings, or they name a place on another
        machine.
    """
    check_places(settings)
    options = {key: value for key, value in settings.items() if key not in {"name", "version", PLUGIN_PACKAGE}}
    made = create_representation(str(settings["name"]), **options)

    version = made.settings()["version"]
    if version != settings["version"]:
        raise UsageError(
            f"the representation {made.name} was stored as version {settings['version']}",
            valid=f"This musicgenre computes version {version}",
            next_step="Prepare the features again and train anew, or install the musicgenre that made them",
        )
    return made


def check_places(settings: Any) -> None:
    """Refuse settings from a file that name a place on another machine, which Windows would ask for it at once.

    Raises
    ------
    UsageError
        A text in it begins as such a place does.
    """
    if isinstance(settings, Mapping):
        settings = list(settings.values())
    if isinstance(settings, str) and settings.replace("\\", "/").startswith("//"):
        raise UsageError(f"{settings[:80]!r} is a place on another machine", valid="folders and files of this one")
    if isinstance(settings, list | tuple):
        for value in settings:
            check_places(value)
