"""`musicgenre evaluate`: how good a run is, under which protocol, on how many tracks, how surely."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from musicgenre.errors import UsageError


class Part(StrEnum):
    """Which predictions are scored."""

    test = "test"
    validation = "validation"


class Pooling(StrEnum):
    """How segments score together."""

    mean = "mean"
    max = "max"
    vote = "vote"


class ReportFormat(StrEnum):
    """How a report is written."""

    text = "text"
    json = "json"
    html = "html"


_BY_SUFFIX = {".txt": ReportFormat.text, ".json": ReportFormat.json, ".html": ReportFormat.html}


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, a group of seeds and folds, or a study.")],
    part: Annotated[Part, typer.Option("--part", help="Which predictions to score.")] = Part.test,
    pooling: Annotated[
        Pooling | None,
        typer.Option(
            "--pooling", help="How the segments' scores are combined into one per track; default: the recipe's choice."
        ),
    ] = None,
    output_format: Annotated[
        ReportFormat | None, typer.Option("--format", help="Default: text, or what --output's suffix says.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report here (.txt, .json or .html).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")] = False,
) -> None:
    """Score a run with 95 % intervals: accuracy and confusion matrix, or areas and decisions tag by tag."""
    from musicgenre._json import pretty_json
    from musicgenre._outputs import refuse_overwriting
    from musicgenre.runs.folder import files_of_runs, is_study, open_study

    kind = _choose_format(output_format, output)
    if output is not None:
        refuse_overwriting(output, overwrite=overwrite, inputs=files_of_runs(run))

    from musicgenre.evaluation.evaluate import evaluate as evaluate_run
    from musicgenre.evaluation.html import render_html, render_ranking
    from musicgenre.evaluation.ranking import rank
    from musicgenre.evaluation.study import evaluate_study

    chosen: Literal["mean", "max", "vote"] | None = None if pooling is None else pooling.value
    if is_study(run) and kind is ReportFormat.html:
        recipe, variants = open_study(run)
        _write(render_ranking(rank(variants, part=part.value, pooling=chosen), recipe), output, overwrite)
        return
    if is_study(run):
        study = evaluate_study(run, part=part.value, pooling=chosen)
        _write(pretty_json(study.as_dict()) if kind is ReportFormat.json else study.to_text(), output, overwrite)
        return

    report = evaluate_run(run, part=part.value, pooling=chosen)
    render = {ReportFormat.text: report.to_text, ReportFormat.json: report.to_json}
    _write(render_html(report) if kind is ReportFormat.html else render[kind](), output, overwrite)
    if output is not None:
        typer.echo(f"{report.recipe}: {report.short} ({report.setting})")
        for warning in report.warnings:
            typer.echo(f"! {warning}.", err=True)


def _choose_format(chosen: ReportFormat | None, output: Path | None) -> ReportFormat:
    if chosen is not None:
        return chosen
    if output is None:
        return ReportFormat.text
    if output.suffix.lower() not in _BY_SUFFIX:
        raise UsageError(
            f"cannot tell the format of {output.name!r}",
            valid=f"a name that ends in {', '.join(_BY_SUFFIX)}",
            next_step="Or give --format",
        )
    return _BY_SUFFIX[output.suffix.lower()]


def _write(text: str, output: Path | None, overwrite: bool) -> None:
    """Write to a file and say so, or to the screen."""
    from musicgenre._files import write_text_atomic, writing_result

    if output is None:
        typer.echo(text, nl=False)
        return
    with writing_result(output, "Give another --output"):
        write_text_atomic(output, text, overwrite=overwrite)
    typer.echo(f"wrote {output}")
