"""`musicgenre compare`: whether two runs differ by more than chance, on the tracks both were tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from musicgenre.cli.evaluate import Pooling


def compare(
    first: Annotated[Path, typer.Argument(help="Run folder or group.")],
    second: Annotated[Path, typer.Argument(help="Run folder or group to hold against it.")],
    pooling: Annotated[
        Pooling | None, typer.Option("--pooling", help="How segments score together; default: as the recipe says.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two runs on the same test tracks: difference, its 95 % interval, and a paired test."""
    from musicgenre._json import pretty_json
    from musicgenre.evaluation.compare import compare as compare_runs

    comparison = compare_runs(first, second, pooling=None if pooling is None else pooling.value)
    typer.echo(pretty_json(comparison.as_dict()) if as_json else comparison.to_text(), nl=False)
