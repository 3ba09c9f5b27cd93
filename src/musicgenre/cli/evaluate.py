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


_SHOWN_LINES = 20
_BY_SUFFIX = {".txt": ReportFormat.text, ".json": ReportFormat.json, ".html": ReportFormat.html}


def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL",
            help="Run, group of seeds and folds, study or search; with --data any model, or 'default'.",
        ),
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
    answers: Annotated[
        Path | None, typer.Option("--answers", help="With --data: write what it said of every track here (.csv).")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="With --data: tracks at a time.")] = None,
    output_format: Annotated[
        ReportFormat | None, typer.Option("--format", help="Default: text, or what --output's suffix says.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the report here (.txt, .json or .html).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Score a run with 95 % intervals, or any model on other labelled tracks than its own (--data).

    Tracks that the model learnt from, and those of their artists, are named and left out. Exit code 1 if some could
    not be heard.
    """
    from musicgenre.runs.folder import SEARCH_FILE, is_study

    kind = format_of(output_format, output, _BY_SUFFIX, ReportFormat.text)
    folder = Path(run)
    _check_outputs(folder, data, labels_map, {"--output": output, "--answers": answers}, overwrite=overwrite)
    chosen: Literal["mean", "max", "vote"] | None = None if pooling is None else pooling.value
    own_part = "test" if part is None else part.value

    if data is not None:
        report = _elsewhere(run, data, part, chosen, labels_map, leave_out, coverage, answers, jobs, quiet=quiet)
    elif labels_map or leave_out or answers or coverage is not None or jobs is not None:
        raise UsageError(
            "--labels-map, --leave-out, --coverage, --answers and --jobs are for other tracks than the run's own",
            next_step="Name those with --data, or leave them out",
        )
    elif (folder / SEARCH_FILE).is_file():
        write_or_print(_search_report(folder, kind, is_pooled=pooling is not None), output, overwrite=overwrite)
        return
    elif is_study(folder):
        write_or_print(_study(folder, kind, own_part, chosen), output, overwrite=overwrite)
        return
    else:
        from musicgenre.evaluation.evaluate import evaluate as evaluate_run

        refuse_model(run)
        report = evaluate_run(folder, part=own_part, pooling=chosen)

    _write(report, kind, output, overwrite=overwrite)
    if data is not None and _tell_unheard(report, answers):
        raise typer.Exit(1)


def refuse_model(name: str) -> None:
    """Refuse the name of a model where a run is wanted: a model keeps no predictions."""
    from musicgenre._text import printable
    from musicgenre.bundle.store import is_model_name
    from musicgenre.runs.folder import holds_runs

    if not holds_runs(Path(name)) and is_model_name(name):
        raise UsageError(
            f"{printable(name)} is a model and no folder of a run: it keeps no predictions to score",
            valid="the folder that 'musicgenre train' printed",
            next_step=f"Score the model on labelled tracks: musicgenre evaluate {name} --data MANIFEST.csv",
        )


def _check_outputs(
    run: Path, data: Path | None, labels_map: Path | None, outputs: dict[str, Path | None], *, overwrite: bool
) -> None:
    """Refuse outputs that would replace anything unasked, each other, or what is read: the tracks of --data too."""
    from musicgenre._outputs import refuse_overwriting, refuse_same_outputs
    from musicgenre.data.manifest import read_manifest
    from musicgenre.runs.folder import files_of_runs

    given = [(option, path) for option, path in outputs.items() if path is not None]
    refuse_same_outputs(given)
    for option, path in given:
        inputs = [*files_of_runs(run), *(read for read in (run, data, labels_map) if read is not None)]
        if data is not None and path.exists():
            inputs += [track.path for track in read_manifest(data).tracks]
        refuse_overwriting(path, overwrite=overwrite, inputs=inputs, option=option)


def _write(report: Report, kind: ReportFormat, output: Path | None, *, overwrite: bool) -> None:
    """Print a report, or write it and print the headline and the warnings."""
    from musicgenre.evaluation.html import render_html

    render = {ReportFormat.text: report.to_text, ReportFormat.json: report.to_json}
    write_or_print(render_html(report) if kind is ReportFormat.html else render[kind](), output, overwrite=overwrite)
    if output is not None:
        typer.echo(f"{report.recipe}: {report.short} ({report.setting})")
        for warning in report.warnings:
            typer.echo(f"! {warning}.", err=True)


def _tell_unheard(report: Report, answers: Path | None) -> bool:
    """List the tracks that could not be heard, each with its reason; whether there are any."""
    from musicgenre.cli._options import report_line
    from musicgenre.judging.elsewhere import ElsewhereReport, TagElsewhereReport

    assert isinstance(report, ElsewhereReport | TagElsewhereReport), "it is of other tracks"
    if answers is not None:
        report_line(f"wrote what it said of every track to {answers}")
    if report.failures:
        typer.echo(f"not heard ({len(report.failures)}), and counted for nothing:", err=True)
    for track_id, reason in list(report.failures.items())[:_SHOWN_LINES]:
        report_line(f"  {track_id}: {reason}")
    if len(report.failures) > _SHOWN_LINES:
        report_line(f"  and {len(report.failures) - _SHOWN_LINES} more (--answers lists all)")
    return bool(report.failures)


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
    answers: Path | None,
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
            answers_file=answers,
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
