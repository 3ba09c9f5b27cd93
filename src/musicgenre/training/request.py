"""What a training is asked to do, checked before what trains is loaded: that takes seconds, a wrong name none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from musicgenre._outputs import refuse_input
from musicgenre._text import unknown_name
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.shard_places import looks_like_shards
from musicgenre.data.store import check_store_folder
from musicgenre.errors import UsageError, require
from musicgenre.features.registry import list_representations
from musicgenre.models.registry import names_in_files
from musicgenre.runs.folder import RunFolder, check_output
from musicgenre.training.recipe_names import Report, find_recipe
from musicgenre.training.tracks import split_tracks

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
        The training packages are not installed, or those that this recipe needs beside them.
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
        _check_extras(one)

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


def check_tracks(
    recipe: Recipe, data: Manifest | Path | str, *, folds: int = 0, has_test: bool = True
) -> Manifest | Path | str:
    """Refuse what a manifest cannot give the recipe: labels or tags, groups, parts; nothing is computed or fetched.

    Parameters
    ----------
    recipe, data, folds, has_test
        As `musicgenre.training.train.train` takes them, the recipe checked.

    Returns
    -------
    Manifest, Path or str
        The manifest, so that it is read once; shards as they were given.

    Raises
    ------
    DataError
        The manifest cannot be read, does not fit the recipe's task, cannot be split as asked, or lacks a part.
    UsageError
        The protocol does not exist, or does not take its options.
    """
    if not isinstance(data, Manifest):
        if looks_like_shards(data) or not Path(data).is_file():
            return data
        data = read_manifest(Path(data))
    for one in recipe.variants().values() or [recipe]:
        split_tracks(one, data, folds=folds, has_test=has_test)
    return data


def _check_extras(recipe: Recipe) -> None:
    """Refuse a recipe that needs more packages than every training does, where they are not installed."""
    if "transformer" in (recipe.representation.name, recipe.model.name):
        require(f"the recipe {recipe.name}", "pretrained", "transformers")
    if recipe.training.stream.active:
        require("streaming", "stream", "pescador")
