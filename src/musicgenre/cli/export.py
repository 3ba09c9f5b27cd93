"""`musicgenre export`: turn a run into one portable file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Run folder (one seed, one fold).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: RECIPE.onnx in the run folder.")
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option("--check", help="Tracks to check the bundle on; default: tracks of the run's own manifest."),
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights, written on the card.")] = "",
    citation: Annotated[str, typer.Option("--citation", help="Whose work it is, written on the card.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle if it exists.")] = False,
    no_support: Annotated[
        bool,
        typer.Option(
            "--no-support",
            help="Do not hear training and validation tracks for what the training music looks like: the bundle then"
            " answers of any sound that it is confident of.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Export a run to a bundle: one ONNX file that 'musicgenre classify --model FILE' takes at once."""
    from musicgenre._parallel import usable_cores
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting
    from musicgenre.exporting.export import export_run

    with decoding_apart(), counting("hearing", quiet=quiet) as progress:
        exported = export_run(
            run,
            output,
            check=check or None,
            licence=licence,
            citation=citation,
            overwrite=overwrite,
            with_support=not no_support,
            jobs=usable_cores(),
            progress=progress,
        )
    typer.echo(exported.to_text())
