"""The recipes by name: those of the package's folder `recipes/`, and those of folders that plugins register.

Nothing is parsed here and nothing needs an extra: a plugin registers its recipes in the light install too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from musicgenre._registry import load_plugins
from musicgenre.errors import RecipeError

RECIPE_FOLDER = Path(__file__).resolve().parents[1] / "recipes"
"""Where the recipes that come with the package live."""

_FORMERLY = "formerly: "

_plugin_files: dict[str, Path] = {}
"""Recipes that plugins registered."""


def register_recipes(folder: str | Path) -> None:
    """Add the recipes of a folder, one YAML file each; files whose name begins with `_` are parts of them.

    Parameters
    ----------
    folder : str or Path
        As a rule the folder `recipes` beside the plugin's module: `Path(__file__).parent / "recipes"`.

    Raises
    ------
    RecipeError
        If there is no recipe in the folder, or a name is taken; then none of them is added.
    """
    files = _recipes_in(Path(folder).resolve())
    if not files:
        raise RecipeError(
            f"no recipe stands in {folder}",
            valid="A folder with files NAME.yaml",
            next_step="See that the plugin's package brings its YAML files along",
        )

    known = {**_recipes_in(RECIPE_FOLDER), **_plugin_files}
    for name, file in files.items():
        if name in former_names():
            raise RecipeError(
                f"the recipe {file} has the name that {current_name(name)} had before", valid="A name of its own"
            )
        if name in known:
            raise RecipeError(f"two recipes are called {name!r}: {known[name]} and {file}", valid="Each name once")
    _plugin_files.update(files)


def recipe_files() -> dict[str, Path]:
    """The file of every recipe, by name."""
    load_plugins()
    return dict(sorted({**_recipes_in(RECIPE_FOLDER), **_plugin_files}.items()))


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package or with a plugin, sorted."""
    return list(recipe_files())


@functools.cache
def former_names() -> Mapping[str, str]:
    """Every name that a recipe or a part of the package had before, with what it is called now.

    A file says so itself, `formerly: e3`. That line alone is read, since parsing every recipe would take long.
    """
    names = {}
    for path in RECIPE_FOLDER.glob("*.yaml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(_FORMERLY):
                names[line.removeprefix(_FORMERLY).strip()] = path.stem
    return names


def current_name(name: str) -> str:
    """What a recipe, or a variant `STUDY.VARIANT`, is called now; any other name as it is."""
    recipe, dot, variant = name.partition(".")
    return former_names().get(recipe, recipe) + dot + variant


def _recipes_in(folder: Path) -> dict[str, Path]:
    """The recipes of a folder by name, without parts and what all start from."""
    files = {}
    for path in sorted(folder.glob("*.yaml")):
        if not path.stem.startswith("_") and path.stem != "base":
            files[path.stem] = path
    return files
