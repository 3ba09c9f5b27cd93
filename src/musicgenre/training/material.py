"""From a manifest to what a recipe trains on: labels chosen, split, augmented, prepared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import cache_folder
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.splits import protocol_of, split, take_fold
from musicgenre.data.store import Store
from musicgenre.errors import DataError, RecipeError
from musicgenre.features.base import Representation
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation
from musicgenre.training.parts import LEAKY, Parts, leaking_parts, parts_of
from musicgenre.training.recipes import Recipe

MANIFEST_SPLIT = "manifest"
"""Name of the protocol where a manifest brought a split that no protocol of ours made."""

_FOLD_VALIDATION = 0.125
"""Share of the tracks outside the tested fold that validates: of five folds, a tenth of all tracks."""

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Material:
    """What a recipe trains on.

    Parameters
    ----------
    manifest : Manifest
        With split or folds, and with augmented rows.
    store : Store
        The features of all its tracks.
    protocol : str
        How the tracks were split.
    representation : Representation
        What the store holds.
    recipe : Recipe
        What asked for it.
    """

    manifest: Manifest
    store: Store
    protocol: str
    representation: Representation
    recipe: Recipe

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds of the manifest, sorted."""
        return tuple(sorted({track.fold for track in self.manifest.tracks if track.fold is not None}))

    def round(self, fold: int | None) -> tuple[Manifest, Parts]:
        """Return the manifest and the parts of one training; ``fold`` is tested, if given."""
        options = self.recipe.protocol.options
        seed = self.recipe.protocol.seed
        if self.protocol == LEAKY:
            return self.manifest, leaking_parts(self.store, seed, **_leaky_options(options))
        manifest = self.manifest
        if fold is not None:
            share = float(options.get("validation_size", _FOLD_VALIDATION))
            manifest = take_fold(manifest, fold, validation_size=share, seed=seed)
        return manifest, parts_of(self.store, manifest)


def gather_material(
    recipe: Recipe,
    data: Manifest | Path,
    *,
    folds: int = 0,
    store: Path | None = None,
    jobs: int = 1,
    tell: Tell = lambda text: None,
    progress: Progress | None = None,
) -> Material:
    """Choose, split, augment and prepare the tracks of a manifest as the recipe says.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    data : Manifest or Path
        The tracks. A split or folds that it carries are kept.
    folds : int
        Folds of a cross-validation; 0: one split.
    store : Path, optional
        Folder of the store; in the cache folder by default, shared by all that read the same.
    jobs : int
        Processes that prepare.
    tell : callable
        Takes a line for the person who waits.
    progress : callable, optional
        Takes (tracks prepared, all tracks).
    """
    manifest = data if isinstance(data, Manifest) else read_manifest(data)
    manifest = _with_split(recipe, _chosen(recipe, manifest), folds)
    manifest = _with_copies(recipe, manifest, tell)
    representation = create_representation(recipe.representation.name, **recipe.representation.options)
    section = recipe.representation
    folder = store or cache_folder() / "stores" / _digest(manifest, representation, section.hop_s, section.dtype)
    done = prepare(
        manifest, representation, folder, hop_s=section.hop_s, dtype=section.dtype, jobs=jobs, progress=progress
    )
    for skip in done.skipped:
        tell(f"skipped {skip.track_id}: {skip.reason}")
    record = protocol_of(manifest)
    return Material(manifest, done.open(), record.protocol if record else MANIFEST_SPLIT, representation, recipe)


def _chosen(recipe: Recipe, manifest: Manifest) -> Manifest:
    if recipe.data.labels:
        manifest = manifest.with_labels(recipe.data.labels)
    left_out = set(recipe.data.exclude)
    return manifest.with_tracks(track for track in manifest.tracks if track.source_id not in left_out)


def _with_split(recipe: Recipe, manifest: Manifest, folds: int) -> Manifest:
    wanted = recipe.protocol
    if wanted.name == LEAKY:
        _leaky_options(wanted.options)
        return split(manifest, LEAKY, seed=wanted.seed)
    if folds:
        return _with_folds(recipe, manifest, folds)
    if any(track.split for track in manifest.tracks):
        return manifest
    if any(track.fold is not None for track in manifest.tracks):
        raise DataError(
            "the manifest has folds but no split",
            next_step="Give --folds with their number, or split it: musicgenre data split",
        )
    return split(manifest, wanted.name, seed=wanted.seed, **wanted.options)


def _with_folds(recipe: Recipe, manifest: Manifest, folds: int) -> Manifest:
    present = {track.fold for track in manifest.tracks if track.fold is not None}
    if present and len(present) != folds:
        raise DataError(
            f"the manifest has {len(present)} folds, not {folds}", next_step=f"Give --folds {len(present)}"
        )
    if present:
        return manifest
    name = "artist-kfold" if recipe.protocol.name in ("artist", "artist-kfold") else "kfold"
    return split(manifest, name, seed=recipe.protocol.seed, folds=folds)


def _with_copies(recipe: Recipe, manifest: Manifest, tell: Tell) -> Manifest:
    wanted = recipe.augmentation.offline
    if not wanted.copies:
        return manifest
    raise DataError("offline augmentation is not joined yet")


def _leaky_options(options: Mapping[str, Any]) -> dict[str, float]:
    unknown = sorted(set(options) - {"test_size"})
    if unknown:
        raise RecipeError(f"the protocol {LEAKY} takes no {unknown[0]!r}", valid="test_size")
    return {name: float(value) for name, value in options.items()}


def _digest(manifest: Manifest, representation: Representation, hop_s: float | None, dtype: str) -> str:
    """Name a store by what it holds, so that trainings on the same features share it."""
    rows = [[track.track_id, str(track.path), track.label, track.split, track.fold] for track in manifest.tracks]
    content = json.dumps([representation.settings(), hop_s, dtype, rows], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]
