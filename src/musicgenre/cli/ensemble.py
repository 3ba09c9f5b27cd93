"""`musicgenre ensemble`: several finished runs that answer together, as a run like any other."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Mixture(StrEnum):
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
    mixture: Annotated[
        Mixture, typer.Option("--how", help="Mean of the probabilities, or what is fitted on the validation tracks.")
    ] = Mixture.mean,
    name: Annotated[str, typer.Option("--name", help="Stands for the recipe's name; default ensemble-HOW.")] = "",
) -> None:
    """Let finished runs answer together. The last line is the new run, for 'evaluate' and 'compare'."""
    from musicgenre.evaluation.ensemble import ensemble as ensemble_of
    from musicgenre.evaluation.study import write_reports
    from musicgenre.runs.folder import output_folder

    # the record names runs, not the folders of this machine
    words = ["musicgenre", "ensemble", *(run.name for run in runs), "--how", mixture.value]
    if name:
        words += ["--name", name]
    with output_folder(output, Path("runs") / (name or f"ensemble-{mixture.value}")) as folder:
        answer = ensemble_of(runs, folder, mixture=mixture.value, name=name, command=shlex.join(words))
    typer.echo(f"{mixture.value} of {len(answer.members)} runs:\n{answer.to_text()}", err=True)

    reports = write_reports(folder)
    for report in reports:
        typer.echo(f"{report.recipe}: {report.short} ({report.setting})", err=True)
    warnings = [*answer.warnings]
    for report in reports:
        warnings += report.warnings
    for warning in dict.fromkeys(warnings):  # the report repeats what making it found
        typer.echo(f"! {warning}.", err=True)
    typer.echo(folder)
