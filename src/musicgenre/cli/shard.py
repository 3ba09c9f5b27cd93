"""`musicgenre shard`: write the features of a store or a manifest as shards to stream from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from musicgenre._text import how_many


def shard(
    source: Annotated[Path, typer.Argument(help="A store (see: musicgenre prepare), or a manifest with --recipe.")],
    output: Annotated[Path, typer.Option("--output", help="The folder of the shards; new, empty or unfinished.")],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Split, augment and prepare the manifest as this recipe does.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe, section.key=value; repeatable.")
    ] = None,
    shard_mb: Annotated[float, typer.Option("--shard-mb", min=0.001, help="Size of a shard in MiB.")] = 64.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order in which tracks are written.")] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, max=256, help="Processes that prepare; default one a core.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Write features as tar archives to train from.

    Exit code: 0 all fine, 1 some tracks were skipped, 2 misuse.
    """
    from musicgenre._parallel import usable_cores
    from musicgenre._text import did_you_mean_path
    from musicgenre.audio import decoding_apart
    from musicgenre.cli._options import report_line  # standard output holds the result alone
    from musicgenre.cli._terminal import counting_several
    from musicgenre.data.shards import write_shards
    from musicgenre.data.store import is_store, open_store
    from musicgenre.errors import UsageError, needing
    from musicgenre.training.request import check_request, check_tracks

    holds_features = is_store(source)
    if holds_features and (recipe is not None or settings):
        raise UsageError(f"{source} is a store: it is written as it is", next_step="Leave --recipe and --set out")
    if not holds_features and recipe is None:
        near = "" if source.exists() else did_you_mean_path(source)
        raise UsageError(
            f"{source} is no store, and without a recipe nothing says what to compute of a manifest",
            next_step=f"{near}Give --recipe, or the folder that 'musicgenre prepare' made",
        )

    with decoding_apart(), counting_several(quiet=quiet) as advance:
        manifest = None
        if recipe is None:
            store = open_store(source)
        else:
            # the store that the recipe would train from; a store by itself needs no training package
            wanted = check_request(recipe, settings or [], data=source, report=report_line)
            check_tracks(wanted, source, has_test=False)
            with needing("recipes", "train"):
                from musicgenre.training.material import gather_material
            material = gather_material(
                wanted, source, jobs=jobs or usable_cores(), report=report_line, progress=advance
            )
            store, manifest = material.store, material.manifest

        shards = write_shards(
            store,
            manifest,
            output,
            shard_mb=shard_mb,
            seed=seed,
            progress=lambda done, total: advance("writing shards", done, total),
        )

    if manifest is None:  # else they were named while features were prepared
        for skip in store.skipped:
            report_line(f"skipped {skip['track_id']}: {skip['reason']}")
    n_rows = sum(shard.n_rows for shard in shards)
    n_mb = sum(shard.n_bytes for shard in shards) / 2**20
    typer.echo(f"{how_many(n_rows, 'row')} in {how_many(len(shards), 'shard')}, {n_mb:.1f} MiB, in {output}")
    raise typer.Exit(1 if store.skipped else 0)
