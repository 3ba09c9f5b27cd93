"""The space that is searched where nobody gives one: what matters most of each kind of model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from musicgenre.models.registry import model_entry
from musicgenre.search.space import Parameter
from musicgenre.training.recipes import Recipe

_DECAYS = (0.0, 1e-5, 1e-4, 1e-3)
# Of networks whose weights are published these are settled; a head may still be changed.
_OF_THE_BODY = ("width", "channels", "kernel", "kernels", "pool")


def default_space(recipe: Recipe) -> dict[str, Parameter]:
    """A space for a recipe: its training, and the options of its model that are known here.

    Front ends and augmentation are in no default space, for every value of them computes all features anew; they are
    searched where they are named.

    Parameters
    ----------
    recipe : Recipe
        The recipe around which is searched.

    Returns
    -------
    dict of str to Parameter
    """
    entry = model_entry(recipe.model.name)
    space: dict[str, Parameter] = {}
    if not entry.has_epochs:
        space["training.class_weights"] = Parameter("choice", (False, True))
        space["representation.normalise"] = Parameter("choice", ("standard", "row_l2"))
    else:
        training = recipe.training
        rate, batch = training.learning_rate, training.batch_size
        space["training.learning_rate"] = Parameter("log", low=rate / 10, high=min(rate * 10, 1.0))
        space["training.weight_decay"] = Parameter("choice", _DECAYS)
        space["training.batch_size"] = Parameter("choice", (max(4, batch // 2), max(4, batch // 2) * 2))

    options = {**entry.options, **recipe.model.options}
    has_published_body = str(options.get("weights") or "none") != "none"
    for name, value in options.items():
        if name in _MAKERS and not (has_published_body and name in _OF_THE_BODY):
            parameter = _MAKERS[name](value)
            if parameter is not None:
                space[f"model.options.{name}"] = parameter
    return space


def _halved_and_doubled(value: Any) -> Parameter | None:
    """Of a width, or of several: half of it, it, twice."""
    if isinstance(value, tuple | list):
        if not value or not all(isinstance(one, int) and one > 1 for one in value):
            return None
        sizes = [[one // 2 for one in value], list(value), [one * 2 for one in value]]
        return Parameter("choice", tuple(sizes))
    if not isinstance(value, int) or isinstance(value, bool) or value < 2:
        return None
    return Parameter("choice", (value // 2, value, value * 2))


def _around(value: Any) -> Parameter | None:
    """Of a penalty: a hundredth of it to a hundred times."""
    return Parameter("log", low=float(value) / 100, high=float(value) * 100)


# What is searched of each option, given its value in the recipe.
_MAKERS: dict[str, Callable[[Any], Parameter | None]] = {
    "dropout": lambda value: Parameter("float", low=0.0, high=0.6),
    "width": _halved_and_doubled,
    "hidden": _halved_and_doubled,
    "channels": _halved_and_doubled,
    "layers": lambda value: Parameter("int", low=1, high=3) if isinstance(value, int) else None,
    "c": _around,
    "max_depth": lambda value: Parameter("choice", (None, 4, 8, 16, 32)),
    "n_neighbours": lambda value: Parameter("int", low=1, high=25),
    "n_trees": lambda value: Parameter("choice", (100, 300, 1000)),
}
