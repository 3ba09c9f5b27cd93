"""`musicgenre doctor`: the state of this installation, for bug reports."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Print versions, inference providers, folders and model state for a bug report."""
    from musicgenre.inference.doctor import diagnose

    rows = diagnose()
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        typer.echo(f"{what:<{width}}  {value}")
