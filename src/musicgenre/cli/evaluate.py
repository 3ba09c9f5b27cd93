"""`musicgenre evaluate`: how good a run is, under which protocol, on how many tracks, how surely."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from musicgenre.cli._options import format_of, write_or_print
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.evaluation.report import Report


class Part(StrEnum):
    """Which predictions are scored."""

    test = "test"
    validation = "validation"


class Pooling(StrEnum):
    """How segments score together."""

    mean = "mean"
    max = "max"
    vote = "vote"


class LeaveOut(StrEnum):
    """What of the model's own training is left out."""

    artists = "artists"
    tracks = "tracks"
    nothing = "nothing"


class ReportFormat(StrEnum):
    """How a report is written."""

    text = "text"
    json = "json"
    html = "html"


_BY_SUFFIX = {".txt": ReportFormat.text, ".json": ReportFormat.json, ".html": ReportFormat.html}


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(help="Run, group of seeds and folds, study or search; with --data any model, or 'default'."),
    ],
    part: Annotated[
        Part | None,
        typer.Option("--part", help="Which predictions, or tracks of --data; default: test, or all of --data."),
    ] = None,
    pooling: Annotated[
        Pooling | None,
        typer.Option(
            "--pooling", help="How the segments' scores are combined into one per track; default: the recipe's choice."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Other labelled tracks to score it on, a manifest.")
    ] = None,
    labels_map: Annotated[
        Path | None,
        typer.Option("--labels-map", help="YAML or TOML: labels of --data to the model's (see docs/evaluation.md)."),
    ] = None,
    leave_out: Annotated[
        LeaveOut | None,
        typer.Option("--leave-out", help="What it learnt from: its tracks and artists (default), tracks, or nothing."),
    ] = None,
    coverage: Annotated[
        str | None, typer.Option("--coverage", help="With --data: seconds of each track to hear, or 'full'.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="With --data: tracks at a time.")] = None,
    output_format: Annotated[
        ReportFormat | None, typer.Option("--format", help="Default: text, or what --output's suffix says.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report here (.txt, .json or .html).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Score a run with 95 % intervals, or any model on other labelled tracks than its own (--data).

    Tracks that the model learnt from, and those of their artists, are named and left out.
    """
    from musicgenre._outputs import refuse_overwriting
    from musicgenre.runs.folder import files_of_runs, is_study

    kind = format_of(output_format, output, _BY_SUFFIX, ReportFormat.text)
    if output is not None:
        inputs = [*files_of_runs(run), *(path for path in (run, data, labels_map) if path is not None)]
        refuse_overwriting(output, overwrite=overwrite, inputs=inputs)

    if (run / "search.json").is_file():
        write_or_print(_search_report(run, kind, is_pooled=pooling is not None), output, overwrite=overwrite)
        return

    chosen: Literal["mean", "max", "vote"] | None = None if pooling is None else pooling.value
    if data is not None:
        report = _elsewhere(str(run), data, part, chosen, labels_map, leave_out, coverage, jobs, quiet=quiet)
    elif labels_map or leave_out or coverage is not None or jobs is not None:
        raise UsageError(
            "--labels-map, --leave-out, --coverage and --jobs are for other tracks than the run's own",
            next_step="Name those with --data, or leave them out",
        )
    elif is_study(run):
        write_or_print(_study(run, kind, "test" if part is None else part.value, chosen), output, overwrite=overwrite)
        return
    else:
        from musicgenre.evaluation.evaluate import evaluate as evaluate_run

        report = evaluate_run(run, part="test" if part is None else part.value, pooling=chosen)

    from musicgenre.evaluation.html import render_html

    render = {ReportFormat.text: report.to_text, ReportFormat.json: report.to_json}
    write_or_print(render_html(report) if kind is ReportFormat.html else render[kind](), output, overwrite=overwrite)
    if output is not None:
        typer.echo(f"{report.recipe}: {report.short} ({report.setting})")
        for warning in report.warnings:
            typer.echo(f"! {warning}.", err=True)


def _study(run: Path, kind: ReportFormat, part: str, pooling: Literal["mean", "max", "vote"] | None) -> str:
    """Write a study, each variant against the first, or as a page, all of them ranked."""
    from musicgenre._json import pretty_json
    from musicgenre.evaluation.html import render_ranking
    from musicgenre.evaluation.ranking import rank
    from musicgenre.evaluation.study import evaluate_study
    from musicgenre.runs.folder import open_study

    if kind is ReportFormat.html:
        recipe, variants = open_study(run)
        return render_ranking(rank(variants, part=part, pooling=pooling), recipe)
    study = evaluate_study(run, part=part, pooling=pooling)
    return pretty_json(study.as_dict()) if kind is ReportFormat.json else study.to_text()


def _elsewhere(
    model: str,
    data: Path,
    part: Part | None,
    pooling: Literal["mean", "max", "vote"] | None,
    labels_map: Path | None,
    leave_out: LeaveOut | None,
    coverage: str | None,
    jobs: int | None,
    *,
    quiet: bool,
) -> Report:
    """Score a model on tracks it was not made for."""
    from musicgenre._parallel import usable_cores
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting_several
    from musicgenre.judging.elsewhere import evaluate_elsewhere
    from musicgenre.judging.label_map import read_label_map

    labels = None if labels_map is None else read_label_map(labels_map)
    with decoding_apart(), counting_several(quiet=quiet) as advance:
        return evaluate_elsewhere(
            model,
            data,
            labels=labels,
            part=None if part is None else part.value,
            pooling=pooling,
            leave_out="artists" if leave_out is None else leave_out.value,
            coverage=coverage,
            jobs=jobs or usable_cores(),
            progress=advance,
        )


def _search_report(folder: Path, kind: ReportFormat, *, is_pooled: bool) -> str:
    """What a search found, in a format."""
    from musicgenre._json import pretty_json
    from musicgenre.errors import needing

    if is_pooled:
        raise UsageError("a search has scored its trials already", next_step="Leave --pooling out, or give a trial")
    with needing("reading a search", "search"):
        from musicgenre.search.report import render_search, report_search
    if kind is ReportFormat.html:
        return render_search(folder)
    report = report_search(folder)
    return pretty_json(report.as_dict()) if kind is ReportFormat.json else report.to_text()
