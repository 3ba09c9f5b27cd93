"""`musicgenre classify`: name the genre of files, folders, globs or a list on standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre._text import printable
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.listening.batch import Failure
    from musicgenre.listening.classifier import Classifier
    from musicgenre.listening.results import Format, ResultFile

_INTERRUPTED = 130  # what shells report for a process that Ctrl-C ended


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
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._progress import counting
    from musicgenre.cli._render import is_unicode, table_row
    from musicgenre.listening.batch import Failure, hear_many, plan_threads
    from musicgenre.listening.gather import gather_paths
    from musicgenre.listening.results import csv_header, format_line, record_of

    # What is wrong with the options is told before the model is loaded, which takes a second.
    gathered = gather_paths(paths, exclude or [], stdin=sys.stdin.buffer)
    kind = _check_options(gathered.paths, output_format, output, resume, overwrite, plot)
    file_format: Format = "csv" if kind is OutputFormat.csv else "json"
    n_jobs, n_threads = plan_threads(jobs, threads, len(gathered.paths))
    classifier = _load(model, coverage, n_threads)

    failures: list[Failure] = []
    missing = list(gathered.paths)
    try:
        with ExitStack() as stack:
            results = None
            if output is not None:
                results = stack.enter_context(
                    _open_results(output, file_format, classifier, coverage, resume, overwrite)
                )
                missing = [path for path in missing if results.done(path) is None]
            elif kind is OutputFormat.csv:  # the file has its header already
                typer.echo(csv_header(resumable=False, tags=classifier.names_tags), nl=False)

            # A file that no decoder survives costs a worker, not the run; one alone is worth no process.
            stack.enter_context(decoding_apart(len(missing)))

            # A bar for one track would only flicker.
            no_bar = quiet or len(missing) < 2 or not sys.stderr.isatty()
            update = stack.enter_context(counting("listening", quiet=no_bar))
            update(0, len(missing))

            heard = hear_many(missing, classifier.classify, jobs=n_jobs)
            for n_done, result in enumerate(chain(gathered.failures, heard), start=1):
                if isinstance(result, Failure):
                    failures.append(result)

                if kind is OutputFormat.table:
                    table_row(result, top=top, timeline=timeline)
                else:
                    record = record_of(result, top=top, timeline=timeline, names_tags=classifier.names_tags)
                    if results is None:
                        typer.echo(format_line(record, file_format, only_ascii=not is_unicode()), nl=False)
                    else:
                        results.add(record)

                if plot is not None and not isinstance(result, Failure):
                    from musicgenre.listening.plot import plot_answer

                    plot_answer(result, plot)
                    typer.echo(f"drew {plot}", err=True)
                update(n_done, len(missing))
    except KeyboardInterrupt:
        hint = "" if output is None else f": {output} is valid so far; go on with --resume"
        typer.echo(f"interrupted{hint}", err=True)
        raise typer.Exit(_INTERRUPTED) from None

    n_classified = len(gathered.failures) + len(missing) - len(failures)
    _summarise(n_classified, len(gathered.paths) - len(missing), failures, quiet=quiet)
    raise typer.Exit(1 if failures else 0)


def _check_options(
    paths: tuple[str, ...],
    chosen: OutputFormat | None,
    output: Path | None,
    resume: bool,
    overwrite: bool,
    plot: Path | None,
) -> OutputFormat:
    """Refuse options that contradict each other, and an output that is one of the tracks; tell the format to write."""
    if chosen is OutputFormat.table and output is not None:
        raise UsageError("--format table goes to the screen only", valid="Use --format json or csv with --output")
    if (resume or overwrite) and output is None:
        raise UsageError("--resume and --overwrite need --output", next_step="Add --output FILE")
    if output == Path("-"):
        raise UsageError("--output - names no file", next_step="Leave --output out to have results on standard output")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", next_step="Give one of them")

    if overwrite and output is not None and output.exists():
        for path in paths:
            with suppress(OSError):  # a track that cannot be found is not the output
                if output.samefile(path):
                    raise UsageError(
                        f"--output {output} is one of the tracks", next_step="Give --output a name of its own"
                    )

    if plot is not None and len(paths) != 1:
        raise UsageError(f"--plot draws one track, not {len(paths)}", next_step="Give a single file with --plot")
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot} cannot be the name of a picture", valid="A name that ends in .png")

    # Where no format was asked for, the output file's name tells it; on the screen it is a table.
    if chosen is None and output is not None:
        return OutputFormat.csv if output.suffix.lower() == ".csv" else OutputFormat.json
    return chosen or OutputFormat.table


def _load(model: str, coverage: str | None, threads: int) -> Classifier:
    """Load the model; offer to fetch the default one where a person can answer, else the error names the command."""
    from musicgenre.bundle.store import DEFAULT_BUNDLE, bundle_path, ensure_default
    from musicgenre.listening.classifier import Classifier

    a_person_is_there = sys.stdin.isatty() and sys.stderr.isatty()
    if model == "default" and a_person_is_there and not bundle_path(DEFAULT_BUNDLE).is_file():
        question = "The default model is not here yet (a 29 MB download). Get it now?"
        if typer.confirm(question, default=True, err=True):
            ensure_default(allow_fetch=True, report=lambda line: typer.echo(line, err=True))

    return Classifier(model, coverage=coverage, threads=threads)


def _open_results(
    output: Path, kind: Format, classifier: Classifier, coverage: str | None, resume: bool, overwrite: bool
) -> ResultFile:
    """Open the file that results go to; tracks in it that were heard with the same settings are done."""
    from musicgenre.listening.results import ResultFile

    settings = {
        "model": classifier.model,
        "coverage": coverage or "default",
        "model_sha256": classifier.model_sha256,
    }
    return ResultFile(
        output,
        kind,
        settings,
        resume=resume,
        overwrite=overwrite,
        tags=classifier.names_tags,
    )


def _summarise(n_classified: int, n_reused: int, failures: Sequence[Failure], *, quiet: bool) -> None:
    """Say what failed and how many tracks there were, on standard error; nothing of a single track that went well."""
    for failure in failures:
        typer.echo(f"failed: {printable(failure.error)}", err=True)
    if quiet or (n_classified + n_reused <= 1 and not failures):
        return

    parts = [f"{n_classified} classified"]
    if n_reused:
        parts.append(f"{n_reused} done before")
    if failures:
        parts.append(f"{len(failures)} failed")
    typer.echo(", ".join(parts), err=True)
