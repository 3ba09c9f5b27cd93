"""`musicgenre bundles`: provide, list, check and remove model bundles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from musicgenre.errors import UsageError

app = typer.Typer(
    help="Provide, list, check and remove model bundles; list and remove models you taught.", no_args_is_help=True
)

_Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Bundles; see `bundles list`.")]


@app.command("get")
def get(
    names: _Names = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="The published wheel, a folder with its files, or a model.onnx."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="The .json of a model.onnx, unless beside it.")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Agree to the terms of a model that asks for it.")
    ] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Take discogs-effnet with another checksum than the published one.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Get or convert again what is cached already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")] = False,
) -> None:
    """Provide models: by default the two published MusiCNNs, once 29 MB over the network, 6 MB on disk each.

    `discogs-effnet` and Essentia's heads show their terms and ask first.
    """
    from rich.console import Console

    from musicgenre.bundle.store import DEFAULT_NAMES, get_bundles, get_on_terms
    from musicgenre.features.published.musicnn.published import PUBLISHED

    wanted = list(names or DEFAULT_NAMES)
    if not names and source is not None and source.suffix == ".onnx":
        from musicgenre.bundle.essentia import name_of_source

        wanted = [name_of_source(source)]
    on_terms = [name for name in wanted if name not in PUBLISHED]
    if source is not None and on_terms and len(wanted) > 1:
        raise UsageError(f"--from {source} cannot be {len(wanted)} models", next_step="Name one")
    if not on_terms and (labels is not None or unverified):
        raise UsageError("--labels and --unverified go with discogs-effnet and heads", next_step="Leave them out")

    # Asked before anything is fetched, and before a status line would be drawn over the question.
    for name in on_terms:
        if not accept_licence:
            _ask_for(name, source=source, force=force)

    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    with console.status("looking for the weights") as status:

        def report(line: str) -> None:
            status.update(line)
            console.print(line, markup=False)

        for name in on_terms:
            get_on_terms(
                name,
                accept_licence=True,
                source=source,
                labels=labels,
                unverified=unverified,
                force=force,
                report=report,
            )
        if published := [name for name in wanted if name in PUBLISHED]:
            get_bundles(published, source=source, force=force, report=report)


def _ask_for(name: str, *, source: Path | None, force: bool) -> None:
    """Show the terms of a model that is not here yet, and ask whether to go on; refuse where nobody can answer."""
    from musicgenre.bundle.essentia import check_is_published, terms_of
    from musicgenre.bundle.store import bundle_path, problem_of

    if source is None:
        if not force and bundle_path(name).is_file() and problem_of(bundle_path(name)) is None:
            return
        check_is_published(name)

    typer.echo(terms_of(name), err=True)
    line = f"musicgenre bundles get {name} --accept-licence"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{name} has terms that somebody must agree to, and nobody can be asked here",
            next_step=f"If you agree to them: {line} (with the other options you gave)",
        )
    if not typer.confirm("Do you agree to these terms?", default=False, err=True):
        raise UsageError(f"{name} was not fetched: nobody agreed to its terms", next_step=f"If you do: {line}")


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
