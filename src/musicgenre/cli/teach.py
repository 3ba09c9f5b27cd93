"""`musicgenre teach`: a model of one's own genres from labelled tracks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgenre.errors import UsageError

if TYPE_CHECKING:
    from musicgenre.teaching.teach import Taught

_LISTED = 20


def teach(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|MANIFEST.csv", help="A folder a genre, or a CSV: path,label[,group].")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the model, for classify --model.")],
    output: Annotated[Path | None, typer.Option("--output", help="Save it into this .json file instead.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of this name.")] = False,
    coverage: Annotated[
        str, typer.Option("--coverage", help="Seconds of each track to hear, evenly spread, or 'full'.")
    ] = "30",
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Tracks at a time.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no report.")] = False,
) -> None:
    """Teach a model of your own genres.

    Exit code: 0 all fine, 1 some files were left out, 2 misuse.
    """
    # The fits are thousands of products of small matrices: more threads would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from musicgenre.cli._progress import counting
    from musicgenre.listening.batch import available_cores
    from musicgenre.teaching.teach import teach as teach_head

    if not source.exists():
        raise UsageError(f"{source} does not exist", next_step="Name a folder of tracks or a manifest CSV")
    _offer_default_bundle()
    with counting("hearing", quiet=quiet) as progress:
        taught = teach_head(
            source,
            name,
            output=output,
            overwrite=overwrite,
            coverage=coverage,
            jobs=jobs or available_cores(),
            progress=progress,
        )
    _list("left out", [f"{path}: {reason}" for path, reason in taught.failures])
    if not quiet:
        _list("look at this", list(taught.warnings))
        _report(taught)
    raise typer.Exit(1 if taught.failures else 0)


def _offer_default_bundle() -> None:
    """Ask to fetch the network where a person can answer; otherwise the error names the command."""
    from musicgenre.bundle.store import bundle_path, ensure_default
    from musicgenre.models.head import GenreHead

    if bundle_path(GenreHead.load_default().bundle_name).is_file() or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if typer.confirm("The default model is not here yet (a 29 MB download). Get it now?", default=True, err=True):
        ensure_default(allow_fetch=True, report=lambda line: typer.echo(line, err=True))


def _list(title: str, lines: list[str]) -> None:
    if not lines:
        return
    from musicgenre.audio.names import printable

    typer.echo(f"{title} ({len(lines)}):", err=True)
    for line in lines[:_LISTED]:
        typer.echo(f"  {printable(line)}", err=True)
    if len(lines) > _LISTED:
        typer.echo(f"  and {len(lines) - _LISTED} more", err=True)


def _report(taught: Taught) -> None:
    score, classes = taught.score, taught.score.classes
    low, high = score.interval
    width = max(len(label) for label in (*taught.head.labels, "genre"))
    typer.echo(f"{'genre':{width}}  tracks  tested  precision  recall    F1")
    for number, label in enumerate(taught.head.labels):
        figures = (f"{values[number]:.2f}" for values in (classes.precision, classes.recall, classes.f1))
        tested = round(float(classes.support[number]))
        row = "{:>9}  {:>6}  {:>4}".format(*figures) if tested else "        -       -     -"
        typer.echo(f"{label:{width}}  {taught.counts[label]:>6}  {tested:>6}  {row}")
    typer.echo(
        f"accuracy {score.accuracy:.3f} [{low:.3f}, {high:.3f}] on {score.n_tested} tracks in cross-validation"
        f" (always naming the most frequent genre: {score.majority:.3f})"
    )
    typer.echo(
        f"below a confidence of {taught.head.unsure_threshold:.2f} it says 'unsure': it answers"
        f" {score.answered.coverage:.0%} of the tracks, {score.answered.accuracy:.0%} of them rightly;"
        f" confidence is off by {score.calibration_error:.3f}"
    )
    typer.echo(f"saved {taught.path} after {taught.seconds:.0f} s")
    typer.echo(f"use it: musicgenre classify FILE --model {taught.head.name}")
