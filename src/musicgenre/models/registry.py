"""The models by name: a decorator that registers them, and how they are made.

Every file of this folder that holds a family registers its models; all of them are imported when a model is first
asked for.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from musicgenre._registry import Registry, load_plugins
from musicgenre._text import unknown_name
from musicgenre.errors import UsageError, needing

if TYPE_CHECKING:
    from musicgenre.models.network import Network

# What every maker takes; its other parameters are the model's options.
_FIXED = ("input_shape", "n_classes")

Factory = TypeVar("Factory", bound="Callable[..., Network]")


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
        `make(input_shape, n_classes, **options)` returns the network.
    tiny_shape : tuple of int
        A small input shape that the network takes: tests train it there.
    dims : tuple of int
        Numbers of dimensions that an input may have.
    tiny_options : mapping
        Options that make it small for tests.
    find_weights : callable, optional
        `find_weights(name, options)` finds or fetches the published weights that all its options, defaults included,
        ask for; nothing is read of them yet. Left out where there are none.
    has_epochs : bool
        Whether it is trained in epochs, among whose weights the validation part chooses, and not fitted in one go.
    """

    name: str
    family: str
    make: Callable[..., Network]
    tiny_shape: tuple[int, ...]
    dims: tuple[int, ...]
    tiny_options: Mapping[str, Any]
    find_weights: Callable[[str, Mapping[str, Any]], object] | None = None
    has_epochs: bool = True

    @property
    def file(self) -> str:
        """Where it is written: `models/cnn.py`, or the module of a plugin."""
        module = self.make.__module__
        return f"models/{self.family}.py" if module.startswith("musicgenre.") else module

    @property
    def options(self) -> dict[str, Any]:
        """The options with their defaults."""
        parameters = inspect.signature(self.make).parameters.values()
        return {item.name: item.default for item in parameters if item.name not in _FIXED}


_MODELS: Registry[ModelEntry] = Registry("model", "models", "musicgenre.models")


def register(
    name: str,
    *,
    tiny_shape: tuple[int, ...],
    dims: tuple[int, ...] | None = None,
    tiny_options: Mapping[str, Any] | None = None,
    find_weights: Callable[[str, Mapping[str, Any]], object] | None = None,
    has_epochs: bool = True,
) -> Callable[[Factory], Factory]:
    """Register the decorated function as the maker of the model `name`; a name given twice is an error.

    It takes inputs with as many dimensions as `tiny_shape`, or as any of `dims`. The other parameters are those of
    `ModelEntry`.
    """

    def remember(make: Factory) -> Factory:
        family = make.__module__.rpartition(".")[2]
        entry = ModelEntry(
            name, family, make, tiny_shape, dims or (len(tiny_shape),), tiny_options or {}, find_weights, has_epochs
        )
        _MODELS.add(name, entry)
        return make

    return remember


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match the shell pattern, sorted.

    Raises
    ------
    MissingExtraError
        If torch or scikit-learn is not installed.
    """
    with needing("building models", "train"):
        return _MODELS.names(pattern)


def names_in_files() -> set[str]:
    """Names of the models that the files of this folder register and that plugins bring, without importing a file.

    A file names a model where it registers it, or as a key of its table `VARIANTS`. Importing what makes the models
    takes seconds, which a wrong name need not cost.
    """
    load_plugins()
    return _MODELS.names_so_far() | _names_in_own_files()


@cache
def _names_in_own_files() -> frozenset[str]:
    """Names of the models that the files of this folder register."""
    names = set()
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named: list[ast.expr | None] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                if node.func.id in ("register", "_register"):
                    named = [node.args[0]]
            elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == "VARIANTS" for target in targets):
                    named = list(node.value.keys)
            for name in named:
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    names.add(name.value)
    return frozenset(names)


def model_entry(name: str) -> ModelEntry:
    """Look a model up.

    Raises
    ------
    UsageError
        If there is none of that name; the nearest one is named.
    MissingExtraError
        If torch or scikit-learn is not installed.
    """
    with needing("building models", "train"):
        return _MODELS.get(name)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an option that the model `name` does not take."""
    valid = model_entry(name).options
    for option in options:
        if option not in valid:
            raise unknown_name(f"option of the model {name}", option, sorted(valid))


def create_model(name: str, input_shape: tuple[int, ...], n_classes: int, **options: Any) -> Network:
    """Make a model with fresh weights.

    Parameters
    ----------
    name : str
        One of `list_models`.
    input_shape : tuple of int
        Shape of one representation array, without the batch.
    n_classes : int
        Number of logits.
    **options
        What the model takes; see `docs/models.md`.

    Returns
    -------
    Network
        `model(x)` with x of shape (batch, *input_shape) gives logits of shape (batch, n_classes).

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
    """As `create_model`, for weights that are put in next: published ones are neither looked for nor loaded."""
    without = dict(options)
    if "weights" in model_entry(name).options:
        without["weights"] = "none"

    return create_model(name, input_shape, n_classes, **without)
