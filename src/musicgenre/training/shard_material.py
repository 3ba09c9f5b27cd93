"""From a shard set to what a recipe trains on: opened, and checked against the recipe."""

from __future__ import annotations

from pathlib import Path

from musicgenre.data.shards import ShardSet, open_shards
from musicgenre.data.splits import protocol_of
from musicgenre.data.targets import tag_targets
from musicgenre.errors import RecipeError, UsageError
from musicgenre.features.registry import representation_from_settings
from musicgenre.training.material import MANIFEST_SPLIT, Material, check_task, representation_of
from musicgenre.training.parts import LEAKY
from musicgenre.training.recipes import Recipe


def material_of_shards(recipe: Recipe, where: Path | str, *, folds: int = 0) -> Material:
    """Open shards for a recipe; tracks, split, copies and features are what was written into them.

    Parameters
    ----------
    recipe : Recipe
        Must ask for what the shards hold.
    where : Path or str
        See :func:`~musicgenre.data.shards.open_shards`.
    folds : int
        Must be 0: shards have one split.

    Raises
    ------
    RecipeError
        The recipe reads another representation, other labels, left out tracks or augmented copies.
    UsageError
        Folds, or a protocol that deals single segments.
    """
    if folds or recipe.protocol.name == LEAKY:
        asked = "--folds" if folds else f"the protocol {LEAKY}"
        raise UsageError(
            f"{asked} cannot be had from shards: they have one split", next_step="Train from the manifest"
        )
    shards = open_shards(where)
    check_task(recipe, shards.manifest)
    _check(recipe, shards)
    record = protocol_of(shards.manifest)
    protocol = record.protocol if record else MANIFEST_SPLIT
    targets = tag_targets(shards.manifest, recipe.data.targets, recipe.data.labels) if recipe.is_tagging else None
    representation = representation_from_settings(shards.representation)
    return Material(shards.manifest, shards, protocol, representation, recipe, targets=targets)


def _check(recipe: Recipe, shards: ShardSet) -> None:
    section = recipe.representation
    wanted = representation_of(recipe, shards.manifest)
    hop_s = wanted.segment_s if section.hop_s is None else section.hop_s
    asked = {**wanted.settings(), "hop_s": hop_s, "dtype": section.dtype}
    held = {**shards.representation, "hop_s": shards.hop_s, "dtype": str(shards.dtype)}
    different = [key for key in {**asked, **held} if asked.get(key) != held.get(key)]
    if different:
        key = different[0]
        raise RecipeError(
            f"the recipe {recipe.name} reads {key}={asked.get(key)!r}, but the shards {shards.place.base} hold "
            f"{key}={held.get(key)!r}",
            next_step="Write shards of this recipe: musicgenre shard MANIFEST --recipe NAME",
        )
    if recipe.data.labels and not recipe.is_tagging and set(recipe.data.labels) != set(shards.labels):
        raise RecipeError(
            f"the recipe {recipe.name} names other labels than the shards", valid=f"data.labels={list(shards.labels)}"
        )
    held_tracks = set(shards.everything.track_ids.tolist())
    if present := [name for name in recipe.data.exclude if name in held_tracks]:
        raise RecipeError(f"the recipe {recipe.name} leaves out {present[0]}, which the shards hold")
    if recipe.augmentation.online.waveform is not None:
        raise RecipeError("augmentation.online.waveform needs the sound, and shards hold features", valid="none")
    if bool(recipe.augmentation.offline.copies) != bool(shards.everything.augmented.any()):
        raise RecipeError(
            f"the recipe {recipe.name} has augmentation.offline.copies={recipe.augmentation.offline.copies}, "
            "and the shards were written otherwise",
            next_step="Write shards of this recipe: musicgenre shard MANIFEST --recipe NAME",
        )
