"""`musicgenre teach`: a model of one's own genres from labelled tracks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre.cli._options import MaxDuration, report_line
from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.teaching.teach import Taught

_SHOWN_LINES = 20


def teach(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|MANIFEST.csv",
            help="A folder per genre, or a CSV: path,label[,group]; with --from-tags any folder of music.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the model, for classify --model.")],
    from_tags: Annotated[
        bool, typer.Option("--from-tags", help="Learn from the genres that the files' tags name.")
    ] = False,
    artists: Annotated[
        list[str] | None,
        typer.Option(
            "--artists",
            metavar="tags|none|LEVEL|FILE.csv",
            help="Who plays, so that no artist is on both sides of the score: the tags (default), a level of folders"
            " (2: FOLDER/genre/ARTIST), a CSV (path,artist); repeatable.",
        ),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Take the folders for genres even if they look like artists.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="What hears: msd-musicnn (default), mtt-musicnn, both, discogs-effnet, or the path of an embedding"
            " bundle.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Save it into this .json file instead.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of this name.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Add the tracks to a model of this name; its own are not heard again.")
    ] = False,
    with_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Also tell how accuracy grew with the tracks of a genre.")
    ] = False,
    coverage: Annotated[
        str | None,
        typer.Option("--coverage", help="Seconds of each track to hear, evenly spread, or 'full'. Default: 30."),
    ] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="Bring tracks to this RMS in dBFS, or 'off'. Default: -17.2.")
    ] = None,
    max_duration_s: MaxDuration = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Tracks at a time.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no report.")] = False,
) -> None:
    """Teach a model of your own genres.

    Exit code: 0 all fine, 1 some files were left out, 2 misuse.
    """
    # The fits are thousands of products of small matrices: more threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from musicgenre._parallel import usable_cores
    from musicgenre._text import did_you_mean_path
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting
    from musicgenre.teaching.sources import LessonSource
    from musicgenre.teaching.teach import teach as teach_head

    if update and overwrite:
        raise UsageError("--update adds to a model and --overwrite replaces it", next_step="Choose one of them")

    if not source.exists():
        raise UsageError(
            f"{source} does not exist",
            next_step=f"{did_you_mean_path(source)}Name a folder of tracks or a manifest CSV",
        )

    if model in (None, "default") and not update:
        _offer_default()
    with decoding_apart(), counting("hearing", quiet=quiet) as progress:
        taught = teach_head(
            LessonSource(source, from_tags, tuple(artists or ()), anyway),
            name,
            model=model,
            output=output,
            overwrite=overwrite,
            update=update,
            coverage=coverage,
            level=level,
            max_duration_s=max_duration_s,
            with_curve=with_curve,
            jobs=jobs or usable_cores(),
            progress=progress,
            report=(lambda line: None) if quiet else report_line,
        )

    _list("left out", [f"{path}: {reason}" for path, reason in taught.failures])
    if not quiet:
        _list("look at this", list(taught.warnings))
        _print_report(taught)
    if not taught.score.answered.n_answered:
        _warn_of_no_answers(taught)
    raise typer.Exit(1 if taught.failures else 0)


def _offer_default() -> None:
    """Offer the default network where it is not here and a person can answer; else the error names what gets it."""
    from musicgenre.bundle.store import bundle_path, ensure_default
    from musicgenre.models.head import GenreHead

    is_here = bundle_path(GenreHead.load_default().bundle_name).is_file()
    if not is_here and sys.stdin.isatty() and sys.stderr.isatty():
        question = "The default model is not here yet (a 29 MB download). Get it now?"
        if typer.confirm(question, default=True, err=True):
            ensure_default(allow_fetch=True, report=lambda line: typer.echo(line, err=True))


def _list(title: str, lines: list[str]) -> None:
    """List what a person should look at on standard error, the first of it."""
    if not lines:
        return
    from musicgenre._text import printable

    typer.echo(f"{title} ({len(lines)}):", err=True)
    for line in lines[:_SHOWN_LINES]:
        typer.echo(f"  {printable(line)}", err=True)
    if len(lines) > _SHOWN_LINES:
        typer.echo(f"  and {len(lines) - _SHOWN_LINES} more", err=True)


def _print_report(taught: Taught) -> None:
    """Print how good the model is, genre by genre and as a whole."""
    from musicgenre.teaching.advice import answering, meaning_for_new_artists

    score = taught.score
    _print_genres(taught)
    low, high = score.interval
    typer.echo(
        f"accuracy {score.accuracy:.3f} [{low:.3f}, {high:.3f}] on {score.n_tested} tracks in cross-validation"
        f" (always naming the most frequent genre: {score.majority:.3f})"
    )
    tested = zip(taught.head.labels, score.classes.support, strict=True)
    untested = [label for label, n_tested in tested if not round(float(n_tested))]
    typer.echo(meaning_for_new_artists(taught.n_known, sum(taught.counts.values()), untested))
    if taught.curve:
        typer.echo("tracks a genre, at most  accuracy")
    for point in taught.curve:
        low, high = point.interval
        typer.echo(f"{point.tracks_per_label:>23}  {point.accuracy:.3f} [{low:.3f}, {high:.3f}]")
    typer.echo(answering(taught.head, score))
    typer.echo(f"saved {taught.path} after {taught.seconds:.0f} s")

    if score.answered.n_answered:
        typer.echo(f"use it: musicgenre classify FILE --model {_name_of(taught)}")


def _name_of(taught: Taught) -> str:
    """What --model takes: a head in a place of its own choosing is found by that place, not by its name."""
    import shlex

    from musicgenre.models.head import taught_path

    name = taught.head.name
    return name if taught.path == taught_path(name) else shlex.quote(str(taught.path))


def _warn_of_no_answers(taught: Taught) -> None:
    """Say of a model that is unsure of everything that it is of no use yet, and what helps; asked for quiet or not."""
    from musicgenre.teaching.score import TARGET

    model = _name_of(taught)
    typer.echo(
        f"NOT OF USE YET: this model will answer 'unsure' for every track, since at no confidence {TARGET:.0%} of its"
        " answers were right.\n"
        f"  Add tracks: musicgenre teach MORE --name {taught.head.name} --update\n"
        "  or teach it fewer genres that differ more (join those that it takes for each other).\n"
        f"  To see its guesses all the same: musicgenre classify FILE --model {model} --reject none",
        err=True,
    )


def _print_genres(taught: Taught) -> None:
    """Print a row a genre; how many artists it has where any is known."""
    classes = taught.score.classes
    width = max(len(label) for label in (*taught.head.labels, "genre"))
    shows_artists = taught.n_known > 0
    artists = "artists  " if shows_artists else ""
    typer.echo(f"{'genre':{width}}  tracks  {artists}tested  precision  recall    F1")
    for number, label in enumerate(taught.head.labels):
        tested = round(float(classes.support[number]))
        row = "        -       -     -"
        if tested:
            precision, recall, f1 = classes.precision[number], classes.recall[number], classes.f1[number]
            row = f"{precision:>9.2f}  {recall:>6.2f}  {f1:>4.2f}"
        artists = f"{taught.artists[label]:>7}  " if shows_artists else ""
        typer.echo(f"{label:{width}}  {taught.counts[label]:>6}  {artists}{tested:>6}  {row}")
