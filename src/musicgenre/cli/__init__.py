"""The command line: thin commands over the public API, one file a group.

These files import only typer and the standard library at their top, so that ``musicgenre --help`` is quick; the
work is imported inside the commands.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from musicgenre.errors import MusicgenreError

app = typer.Typer(
    name="musicgenre",
    help="Hear a track, name its genre; train such a listener on your own music.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from musicgenre import __version__

        typer.echo(f"musicgenre {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hear a track, name its genre; train such a listener on your own music."""


def main() -> None:
    """Run the command line; errors of ours become one line on standard error and exit code 2."""
    try:
        app()
    except MusicgenreError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
