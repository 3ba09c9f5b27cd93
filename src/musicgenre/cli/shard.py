"""`musicgenre shard`: write the features of a store or a manifest as shards to stream from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from musicgenre.data.manifest import Manifest
    from musicgenre.data.store import Store


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
    from musicgenre.cli._terminal import counting_several
    from musicgenre.data.shards import write_shards

    with counting_several(quiet=quiet) as advance:
        store, manifest = _prepared(source, recipe, settings or [], jobs, advance)
        shards = write_shards(
            store,
            manifest,
            output,
            shard_mb=shard_mb,
            seed=seed,
            progress=lambda done, total: advance("writing shards", done, total),
        )
    n_rows, n_mb = sum(shard.n_rows for shard in shards), sum(shard.n_bytes for shard in shards) / 2**20
    if manifest is None:
        for skip in store.skipped:
            _tell(f"skipped {skip['track_id']}: {skip['reason']}")
    typer.echo(f"{n_rows} rows in {len(shards)} shards, {n_mb:.1f} MiB, in {output}")
    raise typer.Exit(1 if store.skipped else 0)


def _prepared(
    source: Path,
    recipe: str | None,
    settings: list[str],
    jobs: int | None,
    advance: Callable[[str, int, int], None],
) -> tuple[Store, Manifest | None]:
    """Open the store, or make the one that the recipe would train from."""
    from musicgenre.data._pool import usable_cores
    from musicgenre.data.store import is_store, open_store
    from musicgenre.errors import UsageError, needing

    if is_store(source):
        if recipe is not None or settings:
            raise UsageError(f"{source} is a store: it is written as it is", next_step="Leave --recipe and --set out")
        return open_store(source), None
    if recipe is None:
        raise UsageError(
            f"{source} is no store, and without a recipe nothing says what to compute of a manifest",
            next_step="Give --recipe, or the folder that 'musicgenre prepare' made",
        )
    with needing("recipes", "train"):
        from musicgenre.training.material import gather_material
        from musicgenre.training.recipes import load_recipe

    wanted = load_recipe(recipe, settings, report=_tell)
    material = gather_material(wanted, source, jobs=jobs or usable_cores(), tell=_tell, progress=advance)
    return material.store, material.manifest


def _tell(text: str) -> None:
    typer.echo(text, err=True)
