"""`musicgenre prepare`: compute one representation of a manifest's tracks into a store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from musicgenre._text import how_many
from musicgenre.cli._cluster import at_least, attached
from musicgenre.cli._options import RayAddressOption, RayOption, check_ray_options, parse_settings, report_skipped

# Written out, for help must come without importing them.
_REPRESENTATIONS = "melspectrogram, mfcc, table, picture, waveform, musicnn, vggish, transformer or columns."


def prepare(
    manifest: Annotated[Path, typer.Argument(help="The manifest, a CSV; see: musicgenre data index.")],
    representation: Annotated[
        str,
        typer.Option("--representation", help=_REPRESENTATIONS),
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the representation, key=value; repeatable.")
    ] = None,
    segment: Annotated[
        float | None, typer.Option("--segment", min=0.01, help="Cut tracks into segments of so many seconds.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option("--hop", min=0.01, help="Seconds from one segment to the next; default --segment.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The store's folder; default MANIFEST-REPRESENTATION beside it.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, max=256, help="Processes, for networks threads; default one a core.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, or float16 for half the size.")] = "float32",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder of rows computed before; default in the cache folder.")
    ] = None,
    one_example: Annotated[
        int | None,
        typer.Option("--one-example", min=0, help="Store one segment a training track, drawn from this seed."),
    ] = None,
    ray: RayOption = False,
    ray_address: RayAddressOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Compute a representation of every track into a store.

    Exit code: 0 all fine, 1 some tracks failed, 2 misuse.
    """
    from musicgenre._parallel import usable_cores
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._terminal import counting
    from musicgenre.data.manifest import read_manifest
    from musicgenre.data.store import check_store_folder
    from musicgenre.features import prepare as preparation
    from musicgenre.features.registry import create_representation

    check_ray_options(ray, ray_address)
    folder = output or manifest.with_name(f"{manifest.stem}-{representation}")
    check_store_folder(folder)

    options = parse_settings(settings or [])
    if segment is not None:
        options["segment_s"] = segment
    front_end = create_representation(representation, **options)

    tracks = read_manifest(manifest)

    with ExitStack() as stack:
        if not ray:  # whose workers each do so
            stack.enter_context(decoding_apart())
        advance = stack.enter_context(counting("preparing", quiet=quiet))
        runner = None
        if ray:
            from musicgenre.cluster.preparing import runner_on

            cluster = stack.enter_context(attached(ray_address, at_least(jobs)))
            runner = runner_on(cluster, n_actors=jobs)
        done = preparation.prepare(
            tracks,
            front_end,
            folder,
            hop_s=hop,
            dtype=dtype,
            jobs=jobs or usable_cores(),
            cache=cache,
            progress=advance,
            one_example_seed=one_example,
            runner=runner,
        )

    report_skipped("Prepared with a warning", done.warnings)
    report_skipped("Skipped", done.skipped)

    counts = f"{how_many(done.n_tracks, 'track')}, {how_many(done.n_rows, 'row')} in {done.folder}"
    work = f"{done.computed} computed, {done.reused} reused, {len(done.skipped)} skipped"
    if done.unused:
        work += f", {done.unused} outside the split"
    typer.echo(f"{counts} ({work}; {done.seconds:.1f} s)")
    raise typer.Exit(1 if done.skipped else 0)
