"""`musicgenre recipes`: list the recipes with their row codes, or show one whole."""

from __future__ import annotations

from typing import Annotated

import typer


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="Show this recipe whole, every default filled in; a pattern ('b9*') lists some."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="With NAME: change a key, section.key=value; repeatable.")
    ] = None,
) -> None:
    """List the recipes, with the row codes (docs/results.md) of the published systems that they rebuild."""
    from fnmatch import fnmatchcase

    from musicgenre.errors import UsageError
    from musicgenre.training.recipes import list_recipes, load_recipe

    is_pattern = name is None or any(character in name for character in "*?[")
    if name is not None and not is_pattern:
        typer.echo(load_recipe(name, settings or []).as_yaml(), nl=False)
        return
    if settings:
        raise UsageError("--set changes one recipe, and none is named", next_step="Give its name in front of --set")
    found = [known for known in list_recipes() if fnmatchcase(known, name or "*")]
    if not found:
        raise UsageError(f"no recipe's name matches {name!r}", next_step="'musicgenre recipes' lists all of them")
    rows = [(known, ", ".join(recipe.systems), recipe.summary) for known in found for recipe in [load_recipe(known)]]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for known, systems, summary in rows:
        typer.echo(f"{known:{widths[0]}}  {systems:{widths[1]}}  {summary}")
    typer.echo("to begin with: musicgenre train mfcc-cnn --data MANIFEST; musicgenre recipes NAME shows one whole", err=True)
