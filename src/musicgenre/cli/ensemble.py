"""`musicgenre ensemble`: several finished runs that answer together, as a run like any other."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Together(StrEnum):
    """How the runs answer together."""

    mean = "mean"
    weighted = "weighted"
    stacking = "stacking"


def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(help="Two run folders or more, or groups of the same seeds and folds.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the new run; default runs/NAME, with a number if it exists."),
    ] = None,
    how: Annotated[
        Together, typer.Option("--how", help="Mean of the probabilities, or what is fitted on the validation tracks.")
    ] = Together.mean,
    name: Annotated[str, typer.Option("--name", help="Stands for the recipe's name; default ensemble-HOW.")] = "",
) -> None:
    """Let finished runs answer together. The last line is the new run, for 'evaluate' and 'compare'."""
    from musicgenre.evaluation.ensemble import ensemble as make
    from musicgenre.evaluation.run_reports import write_reports
    from musicgenre.runs.folder import free_folder

    folder = output or free_folder(Path("runs") / (name or f"ensemble-{how.value}"))
    words = ["musicgenre", "ensemble", *(run.name for run in runs), "--how", how.value]
    made = make(runs, folder, how=how.value, name=name, command=shlex.join(words + ["--name", name] * bool(name)))
    typer.echo(f"{how.value} of {len(made.members)} runs:\n{made.to_text()}", err=True)
    reports = write_reports(folder)
    warnings = (*made.warnings, *(warning for report in reports for warning in report.warnings))
    for report in reports:
        typer.echo(f"{report.recipe}: {report.short} ({report.setting})", err=True)
    for warning in warnings:
        typer.echo(f"! {warning}.", err=True)
    typer.echo(folder)
