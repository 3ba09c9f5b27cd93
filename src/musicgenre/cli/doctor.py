"""`musicgenre doctor`: the state of this installation, for bug reports."""

from __future__ import annotations

import typer

from musicgenre.errors import MusicgenreError


def doctor(context: typer.Context) -> None:
    """Print versions, inference providers, folders and model state for a bug report."""
    from musicgenre.audio import printable
    from musicgenre.cli._doctor import diagnose

    rows = diagnose()
    if isinstance(context.obj, MusicgenreError):  # what the root command met when it read the config file
        rows.append(("problem", printable(str(context.obj))))
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        typer.echo(f"{printable(what):<{width}}  {printable(value)}")
