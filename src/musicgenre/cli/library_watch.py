"""`musicgenre library watch`: hear what comes into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre._text import how_many, printable
from musicgenre.cli._library_options import (
    Coverage,
    Decade,
    Exclude,
    Jobs,
    Level,
    MapFile,
    MaxGenres,
    Model,
    Mood,
    Style,
    Threads,
    check_style,
    decade_field,
)
from musicgenre.cli._options import GenreChoice, GenresOption
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.library.plan import PlanRow


def watch(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders, with all below them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The plan that lines are added to.")],
    apply: Annotated[bool, typer.Option("--apply", help="Write at once, into files without a genre.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Deal with what lies there now, and end.")] = False,
    settle: Annotated[
        float, typer.Option("--settle", min=0.0, help="Seconds without change after which a file counts as whole.")
    ] = 10.0,
    poll: Annotated[
        bool, typer.Option("--poll", help="Look for changes where the system tells of none: network shares.")
    ] = False,
    max_genres: MaxGenres = 1,
    genres: GenresOption = GenreChoice.ten,
    style: Style = False,
    mood: Mood = False,
    decade: Decade = "",
    map_file: MapFile = None,
    model: Model = "default",
    coverage: Coverage = None,
    level: Level = None,
    exclude: Exclude = None,
    jobs: Jobs = None,
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line per file.")] = False,
) -> None:
    """Hear files that come into folders, once they stopped growing, and add their lines to a plan.

    What is in the plan is not heard again, so it goes on where it was ended. Ctrl-C ends it. Exit code: 0, 2 misuse.
    """
    from musicgenre._locks import file_lock
    from musicgenre._outputs import refuse_overwriting
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import say, say_interrupted
    from musicgenre.errors import require
    from musicgenre.library.genre_map import GenreMap, read_map
    from musicgenre.library.journal import Journal
    from musicgenre.library.make_plan import PlanOptions
    from musicgenre.library.memory import HeardMemory
    from musicgenre.library.watch import PlanThatGrows, all_below, take_in_once
    from musicgenre.library.watch import watch as watch_folders
    from musicgenre.listening.batch import plan_threads
    from musicgenre.listening.classifier import Classifier

    # What is wrong with the options is told before the model is loaded.
    if not once:
        require("library watch", "watch", "watchdog")
    check_style(style, max_genres, genres)
    field = decade_field(decade)
    there = all_below(folders, exclude or [])
    refuse_overwriting(output, overwrite=True, inputs=[*there, model, *filter(None, [map_file])])
    if apply and there and not output.exists():
        raise UsageError(
            f"there is no plan {printable(output)}, and --apply would write into {how_many(len(there), 'file')} "
            "that nobody saw",
            next_step=f"First: musicgenre library plan {printable(folders[0])} -o {printable(output)}",
        )
    n_jobs, n_threads = plan_threads(jobs, threads, len(there) or 1)

    n_added = 0
    # The first lets a file that no decoder survives cost one line; it begins before the model is loaded.
    with (
        decoding_apart(),
        file_lock(output, "'musicgenre library watch'"),
        HeardMemory() as memory,
        Journal() as journal,
    ):
        classifier = Classifier(model, coverage=coverage, threads=n_threads, level=level, genres=genres.value)
        names = GenreMap() if map_file is None else read_map(map_file, classifier.vocabulary)
        options = PlanOptions("keep", max_genres, style, mood, field, genre_map=names)
        plan = PlanThatGrows(
            output,
            classifier,
            memory,
            journal,
            options,
            settings=coverage or "default",
            jobs=n_jobs,
            writes=apply,
        )
        try:
            if once:
                rows = take_in_once(folders, plan, exclude=exclude or [], settle_s=settle)
            else:
                rows = watch_folders(folders, plan, exclude=exclude or [], settle_s=settle, polls=poll)
            if not quiet:
                say(f"watching {', '.join(printable(folder) for folder in folders)}; Ctrl-C ends it")
            for row in rows:
                n_added += 1
                if not quiet:
                    _tell(row)
        except KeyboardInterrupt:
            say_interrupted(f"ended; {how_many(n_added, 'line')} added to {printable(output)}")
            return
    if not quiet:
        say(f"{how_many(n_added, 'line')} added to {printable(output)}")


def _tell(row: PlanRow) -> None:
    """Print what became of a file."""
    from musicgenre.cli._terminal import print_out

    now = printable(", ".join(row.now)) or "(none)"
    after = printable(", ".join(row.set.get("genre", ())))
    sure = "" if row.confidence is None else f"  {row.confidence:.0%}"
    what = f"{now} -> {after}{sure}" if after else f"{now} stays"
    note = f"  ({printable(row.note)})" if row.note else ""
    print_out(f"{printable(row.path)}: {what}  {row.why}{note}")
