"""The models by name: a decorator, and a scan of this folder.

Every file here whose stem does not start with ``_`` and is not listed in ``_SUPPORT`` holds one family; all of them
are imported when a model is first asked for.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from musicgenre.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from musicgenre.models._network import Network

_SUPPORT = frozenset({"cards", "registry", "head", "heads"})
_THIRD_PARTY = frozenset({"torch", "sklearn"})
_FIXED = ("input_shape", "n_classes")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One registered model.

    Parameters
    ----------
    name : str
        The registered name.
    family : str
        Stem of the file it lives in.
    make : callable
        ``make(input_shape, n_classes, **options)`` returns the network.
    tiny_shape : tuple of int
        A small input shape that the network takes: tests train it there.
    dims : tuple of int
        Numbers of dimensions that an input may have.
    tiny_options : mapping
        Options that make it small for tests.
    """

    name: str
    family: str
    make: Callable[..., Network]
    tiny_shape: tuple[int, ...]
    dims: tuple[int, ...]
    tiny_options: Mapping[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """The options with their defaults."""
        parameters = inspect.signature(self.make).parameters.values()
        return {item.name: item.default for item in parameters if item.name not in _FIXED}


_ENTRIES: dict[str, ModelEntry] = {}

Factory = TypeVar("Factory", bound="Callable[..., Network]")


def register(
    name: str,
    *,
    tiny_shape: tuple[int, ...],
    dims: tuple[int, ...] | None = None,
    tiny_options: Mapping[str, Any] | None = None,
) -> Callable[[Factory], Factory]:
    """Register the decorated function as the maker of the model ``name``; a name given twice is an error.

    It takes inputs with as many dimensions as ``tiny_shape``, or as any of ``dims``.
    """

    def remember(make: Factory) -> Factory:
        if name in _ENTRIES:
            raise UsageError(f"the model name {name!r} is taken twice", valid="Names are unique")
        family = make.__module__.rpartition(".")[2]
        _ENTRIES[name] = ModelEntry(name, family, make, tiny_shape, dims or (len(tiny_shape),), tiny_options or {})
        return make

    return remember


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match the shell pattern, sorted."""
    _import_families()
    return sorted(fnmatch.filter(_ENTRIES, pattern))


def model_entry(name: str) -> ModelEntry:
    """Look a model up.

    Raises
    ------
    UsageError
        If there is none of that name; the nearest one is named.
    """
    _import_families()
    if name not in _ENTRIES:
        raise _unknown("model", name, sorted(_ENTRIES))
    return _ENTRIES[name]


def check_options(name: str, options: dict[str, Any]) -> None:
    """Raise `UsageError` for an option that the model ``name`` does not take."""
    valid = model_entry(name).options
    for option in options:
        if option not in valid:
            raise _unknown(f"option of the model {name}", option, sorted(valid))


def create_model(name: str, input_shape: tuple[int, ...], n_classes: int, **options: Any) -> Network:
    """Make a model with fresh weights.

    Parameters
    ----------
    name : str
        One of :func:`list_models`.
    input_shape : tuple of int
        Shape of one representation array, without the batch.
    n_classes : int
        Number of logits.
    **options
        What the model takes; see ``docs/models.md``.

    Returns
    -------
    Network
        ``model(x)`` with x of shape (batch, *input_shape) gives logits of shape (batch, n_classes).

    Raises
    ------
    UsageError
        If the name or an option is unknown, or the model cannot take such an input.
    """
    entry = model_entry(name)
    check_options(name, options)
    if n_classes < 2:
        raise UsageError(f"n_classes={n_classes} leaves nothing to choose from", valid="2 or more")
    if len(input_shape) not in entry.dims:
        raise UsageError(
            f"the model {name} cannot take arrays of shape {tuple(input_shape)}",
            valid=f"It takes {' or '.join(map(str, entry.dims))} dimensions, for example {entry.tiny_shape}",
            next_step="Choose a representation that fits the model",
        )
    return entry.make(tuple(input_shape), n_classes, **options)


def create_to_restore(name: str, input_shape: tuple[int, ...], n_classes: int, options: Mapping[str, Any]) -> Network:
    """As :func:`create_model`, for weights that are put in next: published ones are neither looked for nor loaded."""
    without = {"weights": "none"} if "weights" in model_entry(name).options else {}
    return create_model(name, input_shape, n_classes, **{**options, **without})


@cache
def _import_families() -> None:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("_") or module.name in _SUPPORT:
            continue
        try:
            importlib.import_module(f"musicgenre.models.{module.name}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _THIRD_PARTY:
                raise
            raise MissingExtraError("building models", "train") from error


def _unknown(what: str, given: str, valid: list[str]) -> UsageError:
    near = difflib.get_close_matches(given, valid, n=1)
    hint = f"Nearest: {near[0]!r}" if near else ""
    return UsageError(
        f"there is no {what} named {given!r}", valid=f"Valid: {', '.join(valid) or 'none'}", next_step=hint
    )
