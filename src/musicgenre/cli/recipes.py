"""`musicgenre recipes`: list the recipes with their row codes, or show one whole."""

from __future__ import annotations

import re
from typing import Annotated

import typer

_ROW_CODE = re.compile(r"[A-Ea-e][0-9]{1,2}")
"""What a system of the reports is called in docs/codes.md: E3."""

_WILDCARDS = re.compile(r"\*|\?|\[[^]]*\]?")
_N_SHOWN = 5  # names that a message lists


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
    from fnmatch import fnmatchcase
    from functools import partial

    from musicgenre._text import nearest_name, shortened
    from musicgenre.errors import UsageError
    from musicgenre.training.recipe_names import former_names, list_recipes, recipe_lines

    report = partial(typer.echo, err=True)  # standard output holds the recipes alone
    is_code = name is not None and _ROW_CODE.fullmatch(name) and name not in former_names()  # e3 was a recipe, E3 not
    is_pattern = name is None or any(character in name for character in "*?[")
    if name is not None and not is_code and not is_pattern:
        from musicgenre.training.recipes import load_recipe

        recipe = load_recipe(name, settings or [], report=report)
        typer.echo(recipe.as_yaml(), nl=False)
        return
    if settings:
        raise UsageError("--set changes one recipe, and none is named", next_step="Give its name in front of --set")

    if name is not None and is_code:
        code = name.upper()
        found = [recipe for recipe in recipe_lines() if code in recipe.systems]
        if not found:
            raise UsageError(
                f"no recipe has the row code {code}", next_step="docs/codes.md says what each code stands for"
            )
    else:
        # a recipe is found by a name it had before, too
        pattern = name or "*"
        renamed = {new for old, new in former_names().items() if fnmatchcase(old, pattern)}
        found = [line for line in recipe_lines() if line.name in renamed or fnmatchcase(line.name, pattern)]
        if not found:
            bare, names = _WILDCARDS.sub("", pattern), list_recipes()
            near = [nearest_name(bare, names), *(one for one in names if one.startswith(_WILDCARDS.split(pattern)[0]))]
            near = list(dict.fromkeys(filter(None, near))) if bare else []
            raise UsageError(
                f"no recipe's name matches {pattern!r}",
                valid=f"Nearest: {shortened(near, _N_SHOWN)}" if near else "",
                next_step="'musicgenre recipes' lists all of them",
            )

    rows = [(recipe.name, ", ".join(recipe.systems), recipe.summary) for recipe in found]
    name_width = max(len(row[0]) for row in rows)
    systems_width = max(len(row[1]) for row in rows)
    for known, systems, summary in rows:
        typer.echo(f"{known:{name_width}}  {systems:{systems_width}}  {summary}")
    report("to begin with: musicgenre train mfcc-cnn --data MANIFEST; musicgenre recipes NAME shows one whole")
