"""`musicgenre augment`: write augmented copies of the training tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from musicgenre._text import how_many


def augment(
    manifest: Annotated[Path, typer.Argument(help="A manifest that is split; see: musicgenre data split.")],
    chain: Annotated[str, typer.Option("--chain", help="a3, b2, noise, time-stretch, pitch-shift or shift.")] = "a3",
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Keep this step of the chain and apply it always; repeatable.")
    ] = None,
    copies: Annotated[int, typer.Option("--copies", min=1, max=1000, help="Copies of every training track.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same copies.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for audio and manifest; default MANIFEST-CHAIN beside it.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, max=256, help="Processes; default one a core.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Write augmented copies of the training tracks.

    Exit code: 0 all fine, 1 some tracks failed, 2 misuse.
    """
    from musicgenre._parallel import usable_cores
    from musicgenre.audio import decoding_apart
    from musicgenre.augment import offline
    from musicgenre.augment.waveform import get_chain
    from musicgenre.cli._options import report_skipped
    from musicgenre.cli._terminal import counting
    from musicgenre.data.manifest import read_manifest

    tracks = read_manifest(manifest)  # first, since the chains load for seconds
    if output is not None:
        offline.check_output(output, tracks)
    chosen = get_chain(chain).only(only or [])
    folder = output or manifest.with_name(f"{manifest.stem}-{chosen.name}")
    with decoding_apart(), counting("augmenting", quiet=quiet) as advance:
        done = offline.augment(
            tracks,
            chosen,
            folder,
            copies=copies,
            seed=seed,
            jobs=jobs or usable_cores(),
            progress=advance,
        )

    report_skipped("Skipped", done.skipped)
    counts = f"{done.written} written, {done.reused} there before, {len(done.skipped)} skipped"
    typer.echo(
        f"{folder / offline.MANIFEST_FILE}: {how_many(len(done.manifest), 'row')} ({counts}; {done.seconds:.1f} s)"
    )
    raise typer.Exit(1 if done.skipped else 0)
