"""`musicgenre recipes`: list the recipes with their row codes, or show one whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from musicgenre.training.recipes import Recipe

_ROW_CODE = re.compile(r"[A-Ea-e][0-9]{1,2}")


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this recipe whole, every default filled in; a row code (E3) or a pattern ('mfcc-*') lists some."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="With NAME: change a key, section.key=value; repeatable.")
    ] = None,
) -> None:
    """List the recipes, with the row codes (docs/codes.md) of the published systems that they rebuild.

    Names that recipes had before still find them.
    """
    from musicgenre.errors import UsageError
    from musicgenre.training.recipes import former_names, load_recipe

    is_code = name is not None and _ROW_CODE.fullmatch(name) and name not in former_names()  # e3 was a recipe, E3 not
    is_pattern = name is None or any(character in name for character in "*?[")
    if name is not None and not is_code and not is_pattern:
        shown = load_recipe(name, settings or [], report=_tell)
        typer.echo(shown.as_yaml(), nl=False)
        return
    if settings:
        raise UsageError("--set changes one recipe, and none is named", next_step="Give its name in front of --set")

    found = _recipes_of_code(name) if name is not None and is_code else _recipes_named_like(name or "*")
    rows = [(recipe.name, ", ".join(recipe.systems), recipe.summary) for recipe in found]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for known, systems, summary in rows:
        typer.echo(f"{known:{widths[0]}}  {systems:{widths[1]}}  {summary}")
    _tell("to begin with: musicgenre train mfcc-cnn --data MANIFEST; musicgenre recipes NAME shows one whole")


def _recipes_of_code(code: str) -> list[Recipe]:
    """The recipes that rebuild what a row code stands for."""
    from musicgenre.errors import UsageError
    from musicgenre.training.recipes import list_recipes, load_recipe

    recipes = [load_recipe(name) for name in list_recipes()]
    found = [recipe for recipe in recipes if code.upper() in recipe.systems]
    if not found:
        raise UsageError(
            f"no recipe has the row code {code.upper()}", next_step="docs/codes.md says what each code stands for"
        )
    return found


def _recipes_named_like(pattern: str) -> list[Recipe]:
    """The recipes whose name, or a name they had before, matches a pattern."""
    from fnmatch import fnmatchcase

    from musicgenre.errors import UsageError
    from musicgenre.training.recipes import former_names, list_recipes, load_recipe

    renamed = {name for old, name in former_names().items() if fnmatchcase(old, pattern)}
    found = [name for name in list_recipes() if name in renamed or fnmatchcase(name, pattern)]
    if not found:
        raise UsageError(f"no recipe's name matches {pattern!r}", next_step="'musicgenre recipes' lists all of them")
    return [load_recipe(name) for name in found]


def _tell(text: str) -> None:
    typer.echo(text, err=True)
