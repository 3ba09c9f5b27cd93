"""What a training is asked to do, checked before what trains is loaded: that takes seconds, a wrong name none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from musicgenre._outputs import refuse_input
from musicgenre._text import unknown_name
from musicgenre.data.manifest import read_manifest
from musicgenre.data.shard_places import looks_like_shards
from musicgenre.data.store import check_store_folder
from musicgenre.errors import UsageError, require
from musicgenre.features.registry import list_representations
from musicgenre.models.registry import names_in_files
from musicgenre.runs.folder import RunFolder, check_output
from musicgenre.training.recipe_names import Report, find_recipe

if TYPE_CHECKING:
    from musicgenre.training.recipes import Recipe


def check_request(
    recipe: str | Path | Recipe,
    overrides: Iterable[str] = (),
    *,
    data: Path | str | None = None,
    seeds: int = 1,
    folds: int = 0,
    output: Path | None = None,
    resume: bool = False,
    store: Path | None = None,
    report: Report = lambda text: None,
) -> Recipe:
    """Read the recipe, and refuse what cannot be trained whatever is in the data.

    Parameters
    ----------
    recipe, overrides, seeds, folds, output, resume, store, report
        As `musicgenre.training.train.train` takes them.
    data : Path or str, optional
        A manifest or shards; looked for where given.

    Returns
    -------
    Recipe
        The recipe with its overrides.

    Raises
    ------
    RecipeError
        The recipe does not exist, or is none.
    UsageError
        An unknown model or representation, impossible numbers of seeds or folds, nothing to resume, an output or a
        store that is taken.
    DataError
        There is no such manifest.
    MissingExtraError
        The training packages are not installed.
    """
    # by its name alone first, which needs no package at all
    if isinstance(recipe, (str, Path)):
        find_recipe(recipe)
        require("training", "train", "torch", "lightning", "pydantic", "yaml")
        from musicgenre.training.recipes import load_recipe

        recipe = load_recipe(recipe, overrides, report=report)

    for one in recipe.variants().values() or [recipe]:
        known = names_in_files()
        if one.model.name not in known:
            raise unknown_name("model", one.model.name, sorted(known))
        if one.representation.name not in list_representations():
            raise unknown_name("representation", one.representation.name, list_representations())

    if seeds < 1 or folds < 0 or folds == 1:
        raise UsageError(f"seeds={seeds}, folds={folds}", valid="1 seed or more; 0 folds, or 2 and more")
    if resume and output is None:
        raise UsageError("there is nothing to resume", next_step="Name the run folder with --output")
    if output is not None:
        check_output(output, resume)
        files = RunFolder(output)
        if data is not None and files.status is None:  # a run that is gone on with may well read its own
            refuse_input(files.manifest, [data])
    if store is not None:
        check_store_folder(store, "--store")

    if data is not None and not looks_like_shards(data) and not Path(data).exists():
        read_manifest(Path(data))  # which says what to do about it
    return recipe
