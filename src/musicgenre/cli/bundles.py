"""`musicgenre bundles`: provide, list, check and remove model bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Provide, list, check and remove model bundles; list and remove models you taught.", no_args_is_help=True
)

_Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Bundles; see `bundles list`.")]


@app.command("get")
def get(
    names: _Names = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="The published wheel, or a folder with its checkpoints."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Convert again what is cached already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")] = False,
) -> None:
    """Provide the published MusiCNN models (both by default): once 29 MB over the network, 6 MB on disk each."""
    from rich.console import Console

    from musicgenre.bundle.store import DEFAULT_NAMES, get_bundles

    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    with console.status("looking for the weights") as status:

        def report(line: str) -> None:
            status.update(line)
            console.print(line, markup=False)

        get_bundles(names or DEFAULT_NAMES, source=source, force=force, report=report)


@app.command("list")
def list_() -> None:
    """List the bundles: name, size and place of those in the cache, those `get` can provide, taught models."""
    from musicgenre._text import printable
    from musicgenre.bundle.store import list_bundles
    from musicgenre.errors import BundleError
    from musicgenre.models.head import GenreHead, list_taught, taught_path

    for entry in list_bundles():
        name = printable(entry.name)
        if entry.size_bytes is None:
            typer.echo(f"{name}\tnot cached\tmusicgenre bundles get {name}")
        elif entry.problem:
            typer.echo(f"{name}\tdamaged\t{printable(entry.path)}")
        else:
            typer.echo(f"{name}\t{entry.size_bytes / 1e6:.1f} MB\t{printable(entry.path)}")

    for taught in list_taught():
        path = taught_path(taught)
        try:
            GenreHead.load(path)
            state = "taught"
        except BundleError:
            state = "damaged"
        typer.echo(f"{taught}\t{state}\t{printable(path)}")


@app.command("verify")
def verify(names: _Names = None) -> None:
    """Check cached bundles against their checksums; exit code 1 if one is damaged."""
    from musicgenre._text import printable
    from musicgenre.bundle.store import verify_bundles

    entries = verify_bundles(names or ())
    for entry in entries:
        typer.echo(f"{printable(entry.name)}\t{printable(entry.problem or 'fine')}")

    if not entries:
        typer.echo("no bundles in the cache", err=True)
    if any(entry.problem for entry in entries):
        raise typer.Exit(1)


@app.command("remove")
def remove(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Bundles or taught models.")]) -> None:
    """Delete bundles from the cache, or models you taught."""
    from musicgenre.bundle.store import remove_bundles

    for path in remove_bundles(names):
        typer.echo(f"removed {path}")
