"""`musicgenre recipes`: list the recipes with their row codes, or show one whole."""

from __future__ import annotations

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe whole, every default filled in.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="With NAME: change a key, section.key=value; repeatable.")
    ] = None,
) -> None:
    """List the recipes, one a published system, with the row codes of the systems they rebuild."""
    from musicgenre.training.recipes import list_recipes, load_recipe

    if name is not None:
        typer.echo(load_recipe(name, settings or []).as_yaml(), nl=False)
        return
    rows = [(known, ", ".join(load_recipe(known).systems), load_recipe(known).summary) for known in list_recipes()]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for known, systems, summary in rows:
        typer.echo(f"{known:{widths[0]}}  {systems:{widths[1]}}  {summary}")
