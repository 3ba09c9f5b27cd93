"""`musicgenre show`: draw a track, before and after an augmentation, and write the changed sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    track: Annotated[Path, typer.Argument(help="An audio file.")],
    output: Annotated[Path, typer.Option("--output", help="The picture, a PNG file.")],
    augment: Annotated[
        str | None, typer.Option("--augment", help="Chain: a3, b2, noise, time-stretch, pitch-shift or shift.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="What of the chain happens.")] = 0,
    sound: Annotated[
        Path | None, typer.Option("--sound", help="Write the changed sound here (.wav or .flac).")
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", min=0.1, max=3600.0, help="Seconds from the beginning.")
    ] = 30.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --output and --sound if they exist.")
    ] = False,
) -> None:
    """Draw waveform, log-mel and MFCC of a track, before and after an augmentation."""
    from musicgenre.augment.show import describe, show_track
    from musicgenre.augment.waveform import get_chain

    chain = None if augment is None else get_chain(augment)
    drawn = show_track(track, output, chain=chain, seed=seed, sound=sound, duration_s=duration, overwrite=overwrite)
    if drawn is not None:
        typer.echo(f"{drawn['chain']}, seed {seed}: {describe(drawn)}")
    typer.echo(f"wrote {output}" + (f" and {sound}" if sound is not None else ""))
