"""What recipes there are: their names, row codes and summaries, and the names they had before.

Read without the training packages, so that the light install can list them, and quickly, so that a wrong name is told
before these are loaded. Of a recipe's file only whole lines are read here, `summary: ...` and the like, as the recipes
of this package have them; `recipes.py` reads all of it as YAML.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from musicgenre._registry import load_plugins
from musicgenre._text import did_you_mean_path, nearest_name, shortened
from musicgenre.errors import RecipeError

RECIPE_FOLDER = Path(__file__).resolve().parents[1] / "recipes"
"""Where the recipes that come with the package live."""

Report = Callable[[str], None]
"""Takes a line for the person who waits."""

_N_SHOWN = 5  # names that a message lists

_plugin_files: dict[str, Path] = {}
"""Recipes that plugins bring, and the parts of them, by the stems of their files."""


@dataclass(frozen=True, slots=True)
class RecipeLine:
    """A line of the list of recipes.

    Attributes
    ----------
    name : str
        Stem of the file.
    systems : tuple of str
        Row codes of the published systems it rebuilds.
    summary : str
        One line.
    """

    name: str
    systems: tuple[str, ...]
    summary: str


def register_recipes(folder: str | Path) -> None:
    """Add the recipes of a plugin: the files NAME.yaml of a folder; those that begin with `_` are parts of others.

    Parameters
    ----------
    folder : str or Path
        As a rule `recipes/` beside the plugin's module: `Path(__file__).parent / "recipes"`.

    Raises
    ------
    RecipeError
        No recipe stands there, or one has a name that is taken; then none of them is added.
    """
    files = {path.stem: path for path in sorted(Path(folder).resolve().glob("*.yaml"))}
    if not files:
        raise RecipeError(
            f"no recipe stands in {folder}",
            valid="A folder with files NAME.yaml",
            next_step="See that the plugin's package brings its YAML files along",
        )

    known = {path.stem: path for path in RECIPE_FOLDER.glob("*.yaml")} | _plugin_files
    for name, path in files.items():
        if known.get(name, path) != path or name in former_names():
            raise RecipeError(f"the recipe name {name!r} of {path} is taken", valid="Each name once")
    _plugin_files.update(files)


def recipe_files() -> dict[str, Path]:
    """The file of every recipe and part, by name: those of the package, and those that plugins bring."""
    load_plugins()
    return {path.stem: path for path in RECIPE_FOLDER.glob("*.yaml")} | _plugin_files


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package or with a plugin, sorted."""
    return sorted(name for name in recipe_files() if not name.startswith("_") and name != "base")


def recipe_lines() -> list[RecipeLine]:
    """Every recipe with what a list shows of it, by name; one that cannot be read is left out with a warning."""
    files = recipe_files()
    lines = []
    for name in list_recipes():
        try:
            told = _with_parents(name, files)
        except RecipeError as error:
            warnings.warn(f"a recipe is left out of the list: {error}", stacklevel=2)
            continue
        lines.append(RecipeLine(name, tuple(_items_of(told.get("systems", ""))), told.get("summary", "")))
    return lines


@functools.cache
def former_names() -> Mapping[str, str]:
    """Every name that a recipe or a part had before, with what it is called now; a file says so: `formerly: e3`."""
    names = {}
    for path in RECIPE_FOLDER.glob("*.yaml"):
        former = _keys(path).get("formerly")
        if former:
            names[former] = path.stem
    return names


def current_name(name: str) -> str:
    """What a recipe, or a variant `STUDY.VARIANT`, is called now; any other name as it is."""
    recipe, dot, variant = name.partition(".")
    return former_names().get(recipe, recipe) + dot + variant


def find_recipe(recipe: str | Path, report: Report = lambda text: None) -> Path:
    """Find the file of a recipe given by its path, its name, or a name that it had before.

    Parameters
    ----------
    recipe : str or Path
        A name of `list_recipes` or a former one, or the path of a YAML file.
    report : callable
        Takes a line where the name is a former one.

    Raises
    ------
    RecipeError
        There is none; the message names those that are near.
    """
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(
                f"there is no recipe file {path}", next_step=f"{did_you_mean_path(path)}Check the name and the folder"
            )
        return path

    given, names = str(recipe), list_recipes()
    name = current_name(given)
    if name in names:
        if name != given:
            report(f"{given} is called {name} now")
        return recipe_files()[name]

    # a part of a name says more than a few wrong letters do, and today's names more than former ones
    near = [known for known in names if given and given.lower() in known]
    if not near and (meant := nearest_name(given, names) or nearest_name(given, former_names())):
        near = [current_name(meant)]
    raise RecipeError(
        f"there is no recipe named {given!r}",
        valid=f"Nearest: {shortened(near, _N_SHOWN)}" if near else "",
        next_step="'musicgenre recipes' lists them, 'musicgenre recipes E3' those of a row code; "
        "or give the path of a YAML file",
    )


def _with_parents(name: str, files: Mapping[str, Path], children: tuple[str, ...] = ()) -> dict[str, str]:
    """What a recipe says by keys of one line, and, where it is silent, what its parents say; the last of them wins."""
    own = _keys(files[name])
    told: dict[str, str] = {}
    for parent in map(current_name, _items_of(own.get("base", ""))):
        if parent not in files:
            raise RecipeError(f"{files[name]} names the base {parent!r}, which does not exist")
        if parent in (name, *children):
            raise RecipeError(f"{files[name]} is its own parent")
        told |= _with_parents(parent, files, (name, *children))
    return told | own


@functools.cache
def _keys(path: Path) -> dict[str, str]:
    """The values of a recipe's file, or a part's, that stand in the line of their key; as they are written."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is no text in UTF-8", next_step="Save it as UTF-8") from error

    keys = {}
    for line in text.splitlines():
        key, colon, value = line.partition(": ")
        if colon and key.isidentifier():  # neither a comment nor a key within a section
            keys[key] = value.strip().strip("'\"")
    return keys


def _items_of(value: str) -> list[str]:
    """The items of a list that is written `[a, b]`, or the one that stands alone."""
    items = value.removeprefix("[").removesuffix("]").split(",")
    return [item.strip() for item in items if item.strip()]
