"""`musicgenre evaluate`: how good a run is, under which protocol, on how many tracks, how surely."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.evaluation.report import Report
    from musicgenre.evaluation.study import Study
    from musicgenre.evaluation.tag_report import TagReport
    from musicgenre.evaluation.tag_study import TagStudy


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
        Pooling | None, typer.Option("--pooling", help="How segments score together; default: as the recipe says.")
    ] = None,
    output_format: Annotated[
        ReportFormat | None, typer.Option("--format", help="Default: text, or what --output's suffix says.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report here (.txt, .json or .html).")
    ] = None,
) -> None:
    """Score a run with 95 % intervals: accuracy and confusion matrix, or areas and decisions tag by tag."""
    from musicgenre.evaluation.run_reports import report_on, report_on_study
    from musicgenre.evaluation.study import is_study

    kind = _choose_format(output_format, output)
    if is_study(run):
        study = report_on_study(run, part=part.value, how=None if pooling is None else pooling.value)
        _write(_render_study(study, kind), output)
        return
    report = report_on(run, part=part.value, how=None if pooling is None else pooling.value)
    _write(_render(report, kind), output)
    if output is not None:
        typer.echo(f"{report.recipe}: {report.short} ({report.setting})")
        for warning in report.warnings:
            typer.echo(f"! {warning}.", err=True)


def _write(text: str, output: Path | None) -> None:
    from musicgenre._files import write_text_atomic

    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        write_text_atomic(output, text)
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written ({error.strerror})", next_step="Give another --output"
        ) from error
    typer.echo(f"wrote {output}")


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


def _render(report: Report | TagReport, kind: ReportFormat) -> str:
    if kind is ReportFormat.json:
        return report.to_json()
    if kind is ReportFormat.text:
        return report.to_text()
    from musicgenre.evaluation.run_reports import render

    return render(report)


def _render_study(study: Study | TagStudy, kind: ReportFormat) -> str:
    if kind is ReportFormat.json:
        return json.dumps(study.as_dict(), indent=2, ensure_ascii=False) + "\n"
    if kind is ReportFormat.text:
        return study.to_text()
    raise UsageError(
        "a study has no HTML page",
        valid="text or json",
        next_step="Give one variant's folder for its page",
    )
