"""`musicgenre classify`: name the genre of files, folders, globs or a list on standard input."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
import typer.core

from musicgenre._outputs import RESUME_OR_REPLACE, refuse_overwriting, refuse_same_outputs
from musicgenre._text import how_many, printable
from musicgenre.cli._cluster import Partitioned, hear_with_ray, refuse_with_ray
from musicgenre.cli._options import (
    CoverageOption,
    ExcludeOption,
    GenreChoice,
    GenresOption,
    MaxDuration,
    MaxModel,
    QuietOption,
    RayAddressOption,
    RayOption,
    ResumeOption,
    ThreadsATrack,
    TracksArgument,
    TracksAtATime,
    check_ray_options,
    inputs_of,
)
from musicgenre.errors import UsageError
from musicgenre.listening.answer import Answer

if TYPE_CHECKING:
    from musicgenre._outputs import Input
    from musicgenre.cli._table import Table
    from musicgenre.cluster.hearing import Answers
    from musicgenre.listening.batch import Failure, Result
    from musicgenre.listening.classifier import Classifier
    from musicgenre.listening.results import FileFormat, Format, ResultFile

_OUTPUT_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json", "")  # of --output without --format; none means JSON lines


class OutputFormat(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    tsv = "tsv"


class Rejection(StrEnum):
    """Who may answer `unsure`."""

    model = "model"
    none = "none"


class Timeline(StrEnum):
    """How much of the timeline is drawn."""

    sections = "sections"
    full = "full"


class ClassifyCommand(typer.core.TyperCommand):
    """Lets `--timeline` stand alone: only the word `full` behind it is its value, anything else is a track."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spell the value of `--timeline` out."""
        spelled: list[str] = []
        for number, word in enumerate(args):
            if word == "--":
                spelled += args[number:]
                break
            if word == "full" and spelled and spelled[-1] == f"--timeline={Timeline.sections}":
                spelled[-1] = f"--timeline={Timeline.full}"
            elif word == "--timeline":
                spelled.append(f"--timeline={Timeline.sections}")
            else:
                spelled.append(word)
        return super().parse_args(ctx, spelled)


def _read_timeline(value: Any) -> Timeline | None:
    """Read the value of `--timeline`, in the config file also true and false."""
    words = {"true": Timeline.sections, "false": None, **{str(kind): kind for kind in Timeline}}
    word = str(value).lower()
    if word not in words:
        raise UsageError(f"--timeline {value} is not known", valid="--timeline alone, or --timeline full")
    return words[word]


TimelineOption = Annotated[
    Timeline | None,
    typer.Option(
        "--timeline",
        metavar="[full]",
        parser=_read_timeline,
        help="Show the genre over time in 20 lines at most, or 'full'.",
    ),
]


def classify(
    paths: TracksArgument,
    output_format: Annotated[
        OutputFormat | None, typer.Option("--format", help="Default: table, tsv in a pipe.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=0, max=1000, help="How many tags to name.")] = 3,
    timeline: TimelineOption = None,
    coverage: CoverageOption = None,
    level: Annotated[str | None, typer.Option("--level", help="Bring tracks to this RMS in dBFS, or 'off'.")] = None,
    reject: Annotated[
        Rejection, typer.Option("--reject", help="'none': never unsure, always the most probable genre.")
    ] = Rejection.model,
    genres: GenresOption = GenreChoice.ten,
    max_duration_s: MaxDuration = None,
    model: Annotated[
        str, typer.Option("--model", help="'default', a taught model, mtt-musicnn, discogs-effnet, or a bundle file.")
    ] = "default",
    output: Annotated[
        Path | None, typer.Option("--output", help="Write results here, a line per track; with --ray, a folder.")
    ] = None,
    resume: ResumeOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output and --plot if they exist.")] = False,
    csv_safe: Annotated[bool, typer.Option("--csv-safe", help="In CSV and TSV, let no cell be a formula.")] = False,
    exclude: ExcludeOption = None,
    jobs: TracksAtATime = None,
    threads: ThreadsATrack = None,
    max_model_mb: MaxModel = 4_000,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw one track into this PNG file.")] = None,
    ray: RayOption = False,
    ray_address: RayAddressOption = None,
    quiet: QuietOption = False,
) -> None:
    """Name the genre of tracks.

    Exit code: 0 all fine, 1 some tracks failed, 2 misuse.
    """
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._table import Table
    from musicgenre.cli._terminal import INTERRUPTED, counting, say, say_interrupted
    from musicgenre.listening.batch import Failure, hear_many, plan_threads
    from musicgenre.listening.paths import gather_paths

    options: dict[str, Any] = {"model": model, "coverage": coverage, "level": level, "reject": reject.value}
    options |= {"genres": genres.value, "max_duration_s": max_duration_s, "max_model_mb": max_model_mb}
    check_ray_options(ray, ray_address)
    if ray:
        refuse_with_ray({"--format": output_format, "--plot": plot, "--csv-safe": csv_safe, "--threads": threads})
        make = partial(_answers, options, top, bool(timeline))
        where = Partitioned(output, resume, overwrite)
        hear_with_ray(paths, where, make, address=ray_address, exclude=exclude, jobs=jobs, quiet=quiet)

    # What is wrong with the options is told before the model is loaded, which takes a second.
    gathered = gather_paths(paths, exclude or [], stdin=sys.stdin.buffer)
    _check_outputs(inputs_of(paths, gathered.paths, model), output, plot, resume, overwrite)
    kind = _check_options(gathered.paths, output_format, output, timeline, resume, overwrite, plot, csv_safe)
    n_jobs, n_threads = plan_threads(jobs, threads, len(gathered.paths))

    tally = _Tally()
    missing = list(gathered.paths)
    try:
        with ExitStack() as stack:
            # What no decoder survives costs one line, also where it ended the run that is to go on.
            stack.enter_context(decoding_apart(None if resume else len(missing)))
            classifier = _load(options, n_threads, quiet=quiet)

            results = None
            if output is not None:
                results = _open_results(
                    output, kind, classifier, coverage, gathered.folders, resume, overwrite, csv_safe
                )
                stack.enter_context(results)
                missing = [path for path in missing if not tally.knows(results.done(path))]

            # A bar for one track would only flicker.
            places = [*(failure.path for failure in gathered.failures), *missing]
            wants_bar = not quiet and len(places) > 1 and sys.stderr.isatty()
            (update := stack.enter_context(counting("listening", quiet=not wants_bar)))(0, len(places))

            table = Table(places, classifier.labels, top=top, timeline=timeline)
            rows = _Rows(kind, table, results, top, bool(timeline), classifier, csv_safe)
            heard = hear_many(missing, classifier.classify, jobs=n_jobs)
            for result in chain(gathered.failures, heard):
                tally.add(result)
                rows.write(result)
                if plot is not None and not isinstance(result, Failure):
                    from musicgenre.listening.plot import plot_answer

                    plot_answer(result, plot, overwrite=overwrite)
                    say(f"drew {plot}")
                update(tally.n_done, len(places))
    except KeyboardInterrupt:
        hint = "" if output is None else f": {output} is valid so far; go on with --resume"
        say_interrupted(f"interrupted after {tally.n_done} of {how_many(len(missing), 'track')}{hint}")
        raise typer.Exit(INTERRUPTED) from None

    for failure in tally.failures:
        say(f"failed: {printable(failure.error)}")
    if not quiet and (tally.n_done + tally.n_before > 1 or tally.failures):
        say(tally.summary())
    raise typer.Exit(1 if tally.failures else 0)


class _Rows:
    """Where results go: the table or the lines on standard output, or a file."""

    def __init__(
        self,
        kind: OutputFormat,
        table: Table,
        results: ResultFile | None,
        top: int,
        timeline: bool,
        classifier: Classifier,
        csv_safe: bool,
    ) -> None:
        from musicgenre.cli._terminal import print_out
        from musicgenre.listening.results import header_line

        self._table = table if kind is OutputFormat.table else None
        self._kind = cast("Format", kind.value)  # of lines; a table has none
        self._results, self._csv_safe = results, csv_safe
        self._top, self._timeline = top, timeline
        self._names_tags, self._names_wide = classifier.names_tags, classifier.names_wide
        if results is None and self._kind in ("csv", "tsv"):  # a file has its header already
            header = header_line(self._kind, resumable=False, tags=self._names_tags, wide=self._names_wide)
            print_out(header, newline=False)

    def write(self, result: Result) -> None:
        """Write what became of a track."""
        from musicgenre.cli._terminal import is_unicode, print_out
        from musicgenre.listening.results import format_line, record_of

        if self._table is not None:
            self._table.print(result)
            return

        record = record_of(
            result,
            top=self._top,
            timeline=self._timeline,
            names_tags=self._names_tags,
            names_wide=self._names_wide,
        )
        if self._results is not None:
            self._results.add(record)
            return
        line = format_line(record, self._kind, only_ascii=not is_unicode(), csv_safe=self._csv_safe)
        print_out(line, newline=False)


@dataclass
class _Tally:
    """Counts what became of the tracks."""

    failures: list[Failure] = field(default_factory=list)
    genres: Counter[str] = field(default_factory=Counter)  # a tagger's tracks have the empty one
    n_done: int = 0
    n_before: int = 0
    n_warned: int = 0

    def add(self, result: Result) -> None:
        """Count a track that was heard, or failed, now."""
        self.n_done += 1
        if isinstance(result, Answer):
            self.genres[result.genre] += 1
            self.n_warned += bool(result.own_warnings)
        else:
            self.failures.append(result)

    def knows(self, record: Mapping[str, Any] | None) -> bool:
        """Tell whether there is a record of a track from before, and count it."""
        if record is None:
            return False
        self.n_before += 1
        self.genres[str(record.get("genre") or "")] += 1
        return True

    def summary(self) -> str:
        """Tell how many tracks there were in a line, and their genres in another, the commonest first."""
        parts = [f"{self.n_done - len(self.failures)} classified"]
        if self.n_before:
            parts.append(f"{self.n_before} done before")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        if self.n_warned:
            parts.append(f"{self.n_warned} with a warning")
        summary = ", ".join(parts)

        from musicgenre.cli._table import counted_genres

        named = counted_genres(self.genres)
        return f"{summary}\n{named}" if named else summary


def _check_options(
    paths: tuple[str, ...],
    chosen: OutputFormat | None,
    output: Path | None,
    timeline: Timeline | None,
    resume: bool,
    overwrite: bool,
    plot: Path | None,
    csv_safe: bool,
) -> OutputFormat:
    """Refuse options that contradict each other; tell the format to write."""
    from musicgenre.cli._terminal import is_screen

    if chosen in (OutputFormat.table, OutputFormat.tsv) and output is not None:
        raise UsageError(
            f"--format {chosen} goes to standard output only", valid="Use --format json or csv with --output"
        )
    if (resume or (overwrite and plot is None)) and output is None:
        raise UsageError("--resume and --overwrite need --output", next_step="Add --output FILE")
    if output == Path("-"):
        raise UsageError("--output - names no file", next_step="Leave --output out to have results on standard output")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other", next_step="Give one of them")

    # A name that promises something else, a playlist say, gets results only where a format was asked for.
    if chosen is None and output is not None and output.suffix.lower() not in _OUTPUT_SUFFIXES:
        raise UsageError(
            f"--output {output} does not tell what to write",
            valid="A name that ends in .csv for CSV, in .jsonl, .ndjson or .json for JSON lines",
            next_step="Choose such a name, or add --format json or csv",
        )

    if plot is not None and len(paths) != 1:
        raise UsageError(f"--plot draws one track, not {len(paths)}", next_step="Give a single file with --plot")
    if plot is not None:
        from musicgenre.listening.plot import check_can_plot

        check_can_plot()

    # Where no format was asked for, the output file's name tells it. A person gets a table, another program what it
    # can split at tabs, unless a timeline is to be drawn.
    if chosen is not None:
        kind = chosen
    elif output is not None:
        kind = OutputFormat.csv if output.suffix.lower() == ".csv" else OutputFormat.json
    else:
        kind = OutputFormat.table if is_screen() or timeline is not None else OutputFormat.tsv

    if csv_safe and kind not in (OutputFormat.csv, OutputFormat.tsv):
        raise UsageError(f"--csv-safe changes nothing in {kind}", next_step="Add --format csv, or leave it out")
    return kind


def _check_outputs(inputs: list[Input], output: Path | None, plot: Path | None, resume: bool, overwrite: bool) -> None:
    """Refuse a picture of another name, and outputs that replace what is not to be replaced."""
    if output is not None:
        replaces = resume or overwrite
        refuse_overwriting(output, overwrite=replaces, inputs=inputs, next_step=RESUME_OR_REPLACE)
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot} cannot be the name of a picture", valid="A name that ends in .png")
    if plot is not None:
        refuse_overwriting(plot, overwrite=overwrite, inputs=inputs, option="--plot")
    if output is not None and plot is not None:
        refuse_same_outputs([("--output", output), ("--plot", plot)])


def _load(options: Mapping[str, Any], threads: int, *, quiet: bool) -> Classifier:
    """Load the model; offer to fetch the default one where a person can answer, else the error names the command.

    Terms that bind whoever uses its answers are told once.
    """
    from musicgenre.bundle.store import DEFAULT_BUNDLE, bundle_path, ensure_default
    from musicgenre.cli._terminal import say
    from musicgenre.listening.classifier import Classifier

    a_person_is_there = sys.stdin.isatty() and sys.stderr.isatty()
    if options["model"] == "default" and a_person_is_there and not bundle_path(DEFAULT_BUNDLE).is_file():
        question = "The default model is not here yet (a 29 MB download). Get it now?"
        if typer.confirm(question, default=True, err=True):
            ensure_default(allow_fetch=True, report=lambda line: typer.echo(line, err=True))

    classifier = Classifier(**options, threads=threads)
    if (card := classifier.model_card) and not quiet:
        say(f"{card['name']}: licence {card['licence'].partition(' (')[0]}. {card['notes']}")
    return classifier


def _answers(options: Mapping[str, Any], top: int, timeline: bool) -> Answers:
    """Load the model to classify on a cluster with."""
    from musicgenre.cluster.hearing import Answers

    return Answers(options, top=top, timeline=timeline)


def _open_results(
    output: Path,
    kind: OutputFormat,
    classifier: Classifier,
    coverage: str | None,
    folders: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    csv_safe: bool,
) -> ResultFile:
    """Open the file that results go to; tracks in it that were heard with the same settings are done."""
    from musicgenre.cli._terminal import say
    from musicgenre.listening.results import ResultFile

    settings = {
        "model": classifier.model,
        "coverage": coverage or "default",
        "model_sha256": classifier.model_sha256,
    }
    file_kind: FileFormat = "csv" if kind is OutputFormat.csv else "json"
    results = ResultFile(
        output,
        file_kind,
        settings,
        resume=resume,
        overwrite=overwrite,
        tags=classifier.names_tags,
        wide=classifier.names_wide,
        csv_safe=csv_safe,
        folders=folders,
    )
    if results.n_left_out:
        say(f"left out {how_many(results.n_left_out, 'row')} of files that are gone; {output}.gone keeps them")
    return results
