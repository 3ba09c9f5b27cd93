"""Published weights are found or fetched before hours of features are computed for a network that cannot have them."""

from __future__ import annotations

from typing import Any

from musicgenre.models.registry import model_entry
from musicgenre.training.recipes import Recipe


def find_weights_first(recipe: Recipe) -> None:
    """Find the file that the recipe's network will load, or fetch it; nothing is read of it yet.

    Raises
    ------
    BundleError
        If it is not there and cannot be fetched.
    """
    name, options = recipe.model.name, recipe.model.options
    if "net" in options:  # a network inside of another
        name, options = str(options["net"]), {**(options.get("net_options") or {}), **options}
    entry = model_entry(name)
    known: dict[str, Any] = {**entry.options, **options}
    weights = str(known.get("weights") or "none")
    if weights == "none":
        return
    if entry.family == "imagenet":
        from musicgenre.models._published_weights import find_weights

        find_weights(weights, name)
    elif entry.family == "vggish":
        from musicgenre.features._vggish_files import WEIGHTS, find_file

        find_file(weights, WEIGHTS, "model.options.weights")
    elif entry.family == "transformer" and known.get("model"):
        from musicgenre.features._transformers.hub import find_model

        find_model(str(known["model"]))
