"""`musicgenre classify`: name the genre of files, folders, globs or a list on standard input."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.listening.classifier import Classifier


class OutputFormat(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"


def classify(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders (searched recursively), globs, or - for a list on stdin.")
    ],
    output_format: Annotated[OutputFormat | None, typer.Option("--format", help="Default: table.")] = None,
    top: Annotated[int, typer.Option("--top", min=0, max=1000, help="How many tags to name.")] = 3,
    timeline: Annotated[bool, typer.Option("--timeline", help="Show the genre over time.")] = False,
    coverage: Annotated[
        str | None, typer.Option("--coverage", help="Seconds of each track to hear, evenly spread, or 'full'.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="'default', a taught model, a tagger (mtt-musicnn), or a bundle file.")
    ] = "default",
    output: Annotated[Path | None, typer.Option("--output", help="Write results here, a line a track.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --output; done tracks are skipped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")] = False,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Leave out files or folders that match this glob.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Tracks at a time.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads a track.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw one track into this PNG file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")] = False,
) -> None:
    """Name the genre of tracks.

    Exit code: 0 all fine, 1 some tracks failed, 2 misuse.
    """
    from musicgenre.listening.batch import plan_threads
    from musicgenre.listening.gather import gather_paths

    kind = _choose_format(output_format, output)
    wanted = gather_paths(paths, exclude or [], stdin=sys.stdin.buffer)
    _check_combination(wanted.paths, output, resume, overwrite, plot)
    n_jobs, n_threads = plan_threads(jobs, threads, len(wanted.paths))
    classifier = _load(model, coverage, n_threads)
    from musicgenre.cli._classify_run import Settings, run

    settings = Settings(
        kind=kind.value,
        top=top,
        timeline=timeline,
        coverage=coverage or "default",
        output=output,
        resume=resume,
        overwrite=overwrite,
        plot=plot,
        quiet=quiet,
        jobs=n_jobs,
    )
    raise typer.Exit(run(wanted, classifier, settings))


def _choose_format(chosen: OutputFormat | None, output: Path | None) -> OutputFormat:
    """Take the format asked for; otherwise the one the output file's name tells, or a table on the screen."""
    if output is None:
        return chosen or OutputFormat.table
    if chosen is OutputFormat.table:
        raise UsageError("--format table goes to the screen only", valid="Use --format json or csv with --output")
    by_name = OutputFormat.csv if output.suffix.lower() == ".csv" else OutputFormat.json
    return chosen or by_name


def _check_combination(
    paths: tuple[str, ...], output: Path | None, resume: bool, overwrite: bool, plot: Path | None
) -> None:
    if (resume or overwrite) and output is None:
        raise UsageError("--resume and --overwrite need --output", next_step="Add --output FILE")
    if output == Path("-"):
        raise UsageError("--output - names no file", next_step="Leave --output out to have results on standard output")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", next_step="Give one of them")
    if overwrite and output is not None and output.exists() and any(_is_same(path, output) for path in paths):
        raise UsageError(f"--output {output} is one of the tracks", next_step="Give --output a name of its own")
    if plot is not None and len(paths) != 1:
        raise UsageError(f"--plot draws one track, not {len(paths)}", next_step="Give a single file with --plot")
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot} cannot be the name of a picture", valid="A name that ends in .png")


def _is_same(path: str, other: Path) -> bool:
    try:
        return other.samefile(path)
    except OSError:
        return False


def _load(model: str, coverage: str | None, threads: int) -> Classifier:
    from musicgenre.listening.classifier import Classifier

    if model == "default":
        _offer_default_bundle()
    return Classifier(model, coverage=coverage, threads=threads)


def _offer_default_bundle() -> None:
    """Ask to fetch the default model where a person can answer; otherwise the error names the command."""
    from musicgenre.bundle.store import DEFAULT_BUNDLE, bundle_path, ensure_default

    if bundle_path(DEFAULT_BUNDLE).is_file() or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if typer.confirm("The default model is not here yet (a 29 MB download). Get it now?", default=True, err=True):
        ensure_default(allow_fetch=True, report=lambda line: typer.echo(line, err=True))
