"""Which tracks of a manifest a recipe trains on: held against its task, chosen, split; no sound is read.

Nothing here needs the training packages, so that what a manifest alone tells is told before they are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgenre._text import how_many
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.splits import SPLIT_BEFORE, VALIDATION_SHARE, split, with_validation
from musicgenre.data.targets import tag_targets
from musicgenre.errors import DataError, RecipeError
from musicgenre.training.recipe_names import Report

if TYPE_CHECKING:
    from musicgenre.training.recipes import Recipe

LEAKY = "segment-leaky"
"""Name of the protocol that deals single segments."""

EVERY_PART = "Train, validation and test each hold one track at least"
SPLIT_AGAIN = "Split again (musicgenre data split, --validation-size, --test-size), or add tracks"


def split_tracks(
    recipe: Recipe, data: Manifest | Path, *, folds: int = 0, has_test: bool = True, report: Report | None = None
) -> Manifest:
    """Choose the tracks of a manifest and split them as the recipe says; no sound is read.

    Parameters
    ----------
    recipe, data, folds, has_test
        As `musicgenre.training.material.gather_material` takes them.
    report : callable, optional
        Takes a line where a validation part is taken from the training part.

    Returns
    -------
    Manifest
        With a training, a validation and, unless there need be none, a test part; or with folds.

    Raises
    ------
    DataError
        The manifest does not fit the recipe's task, cannot be split as asked, or its split lacks a part.
    """
    manifest = data if isinstance(data, Manifest) else read_manifest(data)
    check_task(recipe, manifest)
    if recipe.data.labels and not recipe.is_tagging:
        manifest = manifest.with_labels(recipe.data.labels)
    left_out = set(recipe.data.exclude)
    manifest = manifest.with_tracks(track for track in manifest.tracks if track.source_id not in left_out)

    # where the split has no validation part, one is taken from training: the test part chooses nothing
    manifest = whole = _with_split(recipe, manifest, folds)
    if not folds:
        share = float(recipe.protocol.options.get("validation_size", 0)) or VALIDATION_SHARE
        manifest = with_validation(whole, validation_size=share, seed=recipe.protocol.seed)
    if manifest is not whole and report is not None:
        from musicgenre.models.registry import model_entry  # which has to load what makes the models

        n_taken = sum(track.split == "validation" for track in manifest.tracks)
        n_left = sum(track.split == "train" and not track.augmented for track in manifest.tracks)
        does = "are held out for it"  # a model that is fitted in one go has no weights to choose among
        if model_entry(recipe.model.name).has_epochs:
            does = "choose the weights (and thresholds)"
        report(
            f"the split has no validation part: {n_taken} of {n_taken + n_left} training tracks {does} and do not "
            f"train; the column {SPLIT_BEFORE} marks them"
        )
    if not folds and recipe.protocol.name != LEAKY:
        _check_parts(manifest, has_test=has_test)
        _check_training_labels(recipe, manifest)
    return manifest


def check_task(recipe: Recipe, manifest: Manifest) -> None:
    """Hold the manifest against the recipe's task before anything is computed."""
    if recipe.is_tagging:
        tag_targets(manifest, recipe.data.targets, recipe.data.labels)
        if recipe.data.targets == "labels" and all(track.labels == (track.label,) for track in manifest.tracks):
            raise DataError(
                "every track of the manifest has one label, and the recipe names any number of tags",
                valid="A manifest whose column labels lists tags; see docs/tagging.md",
                next_step="Choose a recipe with task: single_label, or list the tags",
            )
        return

    tagged = [track.track_id for track in manifest.tracks if not track.label]
    if tagged:
        raise DataError(
            f"{how_many(len(tagged), 'track')} of the manifest {'has' if len(tagged) == 1 else 'have'} tags and no "
            f"label ({tagged[0]} is one)",
            valid="A recipe with task: multi_label, or a label on every row",
            next_step="'musicgenre recipes' lists recipes; --set task=multi_label makes one of most",
        )


def _check_parts(manifest: Manifest, *, has_test: bool) -> None:
    """Refuse a split without one of its parts; augmented tracks only train."""
    present = {track.split for track in manifest.tracks if track.split == "train" or not track.augmented}
    needed = ("train", "validation", "test") if has_test else ("train", "validation")
    missing = [part for part in needed if part not in present]
    if missing:
        raise DataError(
            f"the split has no {' part and no '.join(missing)} part", valid=EVERY_PART, next_step=SPLIT_AGAIN
        )


def _check_training_labels(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse a split whose training part lacks a label or tag, before hours of preparing; parts are checked again."""
    training = {track.track_id for track in manifest.tracks if track.split == "train"}
    kind = "label"
    if recipe.is_tagging:
        kind = "tag"
        targets = tag_targets(manifest, recipe.data.targets, recipe.data.labels)
        trains = np.array([track_id in training for track_id in targets.track_ids])
        known = np.asarray(np.nansum(targets.table[trains], axis=0, dtype=np.float64))
        absent = [tag for tag, degree in zip(targets.tags, known, strict=True) if not degree]
    else:
        present = {track.label for track in manifest.tracks if track.split == "train"}
        absent = sorted({track.label for track in manifest.tracks if track.split} - present)
    if absent:
        raise DataError(
            f"no track of the training part has the {kind} {', '.join(absent)}",
            next_step="Split again, add tracks, or choose other labels with --set data.labels=[...]",
        )


def _with_split(recipe: Recipe, manifest: Manifest, folds: int) -> Manifest:
    """Split the manifest as the recipe says, or into folds; what it brings along is kept."""
    wanted = recipe.protocol
    if wanted.name == LEAKY:
        leaky_options(wanted.options)  # wrong ones are refused now, not after hours of preparing
        return split(manifest, LEAKY, seed=wanted.seed)

    present = {track.fold for track in manifest.tracks if track.fold is not None}
    if folds:
        if present and len(present) != folds:
            raise DataError(
                f"the manifest has {how_many(len(present), 'fold')}, not {folds}",
                next_step=f"Give --folds {len(present)}",
            )
        if present:
            return manifest
        name = "artist-kfold" if wanted.name in ("artist", "artist-kfold") else "kfold"
        return split(manifest, name, seed=wanted.seed, folds=folds)

    if any(track.split for track in manifest.tracks):
        return manifest
    if present:
        raise DataError(
            "the manifest has folds but no split",
            next_step="Give --folds with their number, or split it: musicgenre data split",
        )
    return split(manifest, wanted.name, seed=wanted.seed, **wanted.options)


def leaky_options(options: Mapping[str, Any]) -> dict[str, float]:
    """The options of the protocol that deals single segments, others refused."""
    unknown = sorted(set(options) - {"test_size"})
    if unknown:
        raise RecipeError(f"the protocol {LEAKY} takes no {unknown[0]!r}", valid="test_size")
    return {name: float(value) for name, value in options.items()}
