"""Plumbing of recipes: find the file, lay it over its parents, apply ``--set`` values; nothing is checked here."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from musicgenre.errors import MissingExtraError, RecipeError

try:
    import yaml
except ModuleNotFoundError as error:  # the light install has none
    raise MissingExtraError("reading recipes", "train") from error

RECIPE_FOLDER = Path(__file__).resolve().parents[1] / "recipes"
"""Where the recipes that come with the package live."""

_SHOWN = 5  # names that a message lists
_FORMERLY = "formerly: "


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    stems = (path.stem for path in RECIPE_FOLDER.glob("*.yaml"))
    return sorted(stem for stem in stems if not stem.startswith("_") and stem != "base")


def find_recipe(recipe: str | Path, report: Callable[[str], None]) -> Path:
    """The file of a recipe given by its path, its name, or a name that it had before."""
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"there is no recipe file {path}")
        return path

    names = list_recipes()
    name = current_name(str(recipe))
    if name in names:
        if name != str(recipe):
            report(f"{recipe} is called {name} now")
        return RECIPE_FOLDER / f"{name}.yaml"

    near = [known for known in names if recipe and str(recipe).lower() in known]
    near = near or difflib.get_close_matches(str(recipe), names, n=1)
    near = near or [current_name(old) for old in difflib.get_close_matches(str(recipe), former_names(), n=1)]
    more = f" and {len(near) - _SHOWN} more" if len(near) > _SHOWN else ""
    raise RecipeError(
        f"there is no recipe named {str(recipe)!r}",
        valid=f"Nearest: {', '.join(near[:_SHOWN])}{more}" if near else "",
        next_step="'musicgenre recipes' lists them, 'musicgenre recipes E3' those of a row code; "
        "or give the path of a YAML file",
    )


@functools.cache
def former_names() -> Mapping[str, str]:
    """Every name that a recipe or a part had before, with what it is called now.

    A file says so itself, ``formerly: e3``. That line alone is read, since parsing every recipe would take long.
    """
    names = {}
    for path in RECIPE_FOLDER.glob("*.yaml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(_FORMERLY):
                names[line.removeprefix(_FORMERLY).strip()] = path.stem
    return names


def current_name(name: str) -> str:
    """What a recipe, or a variant ``STUDY.VARIANT``, is called now; any other name as it is."""
    recipe, dot, variant = name.partition(".")
    return former_names().get(recipe, recipe) + dot + variant


def merged_recipe(path: Path, children: tuple[Path, ...], report: Callable[[str], None]) -> dict[str, Any]:
    """Read ``path`` on top of its parents."""
    if path in children:
        raise RecipeError(f"the recipe {path.name} is its own parent")
    own = _read(path)
    own.pop("formerly", None)  # a name is a file's own, not its children's
    parents = own.pop("base", [])
    merged: dict[str, Any] = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        merged = _merge(merged, merged_recipe(_parent(str(parent), path, report), (*children, path), report))
    return _merge(merged, own)


def _parent(name: str, child: Path, report: Callable[[str], None]) -> Path:
    """The file of a parent: beside the child, or in the package, there under a former name too."""
    for folder in (child.parent, RECIPE_FOLDER):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    if name in former_names():
        report(f"{name} is called {current_name(name)} now")
        return RECIPE_FOLDER / f"{current_name(name)}.yaml"
    valid = sorted(path.stem for path in RECIPE_FOLDER.glob("*.yaml"))
    near = difflib.get_close_matches(name, valid, n=1)
    raise RecipeError(
        f"the recipe {child.name} names the base {name!r}, which does not exist",
        valid=f"Nearest: {near[0]}" if near else "",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no recipe", valid="A recipe is a mapping of sections")
    return content


def _merge(low: dict[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``high`` over ``low``; mappings are merged, all else is replaced."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def parsed_settings(overrides: Iterable[str]) -> list[tuple[str, Any]]:
    pairs = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"cannot read the setting {override!r}", valid="section.key=value")
        try:
            pairs.append((key.strip(), yaml.safe_load(value)))
        except yaml.YAMLError as error:
            raise RecipeError(f"cannot read the value of {override!r}", valid="A value in YAML") from error
    return pairs


def with_settings(plain: Mapping[str, Any], pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    changed = dict(plain)
    for key, value in pairs:
        nested: Any = value
        for step in reversed(key.split(".")):
            nested = {step: nested}
        changed = _merge(changed, nested)
    return changed
