"""From a manifest to what a recipe trains on: labels chosen, split, augmented, prepared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from musicgenre._files import cache_folder
from musicgenre.augment.offline import augment
from musicgenre.augment.waveform import get_chain
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.splits import SPLIT_BEFORE, protocol_of, split, take_fold, with_validation
from musicgenre.data.store import Store
from musicgenre.data.targets import Targets, tag_targets
from musicgenre.errors import DataError, RecipeError
from musicgenre.features.base import Representation
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation
from musicgenre.features.representations.columns import missing_columns
from musicgenre.models.registry import model_entry
from musicgenre.training.parts import LEAKY, Parts, leaking_parts, parts_of
from musicgenre.training.recipes import Recipe

MANIFEST_SPLIT = "manifest"
"""Name of the protocol where a manifest brought a split that no protocol of ours made."""

_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
_VALIDATION = 0.125
"""Share of the tracks outside the test part that validates, of a fold or where a split has none: a tenth of all."""

Tell = Callable[[str], None]
Progress = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is."""


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
    sound : Store or None
        The waveforms of the same segments, for online augmentation of the sound.
    targets : Targets or None
        What is true of every tag of every track, in tagging.
    """

    manifest: Manifest
    store: Store
    protocol: str
    representation: Representation
    recipe: Recipe
    sound: Store | None = None
    targets: Targets | None = None

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds of the manifest, sorted."""
        return tuple(sorted({track.fold for track in self.manifest.tracks if track.fold is not None}))

    def round(self, fold: int | None) -> tuple[Manifest, Parts]:
        """Return the manifest and the parts of one training; ``fold`` is tested, if given."""
        options = self.recipe.protocol.options
        seed = self.recipe.protocol.seed
        if self.protocol == LEAKY:
            if self.recipe.training.examples == "stored":
                raise RecipeError(
                    f"training.examples=stored does not go with the protocol {LEAKY}, which deals single segments",
                    valid="all or fresh",
                )
            return self.manifest, leaking_parts(self.store, seed, **_leaky_options(options))
        manifest = self.manifest
        if fold is not None:
            share = float(options.get("validation_size", _VALIDATION))
            manifest = take_fold(manifest, fold, validation_size=share, seed=seed)
        return manifest, self.parts(self.store, manifest)

    def parts(self, store: Store, manifest: Manifest) -> Parts:
        """Take the parts of ``store`` or of ``sound``; one segment a training track if the recipe wants that."""
        one = self.recipe.training.examples == "stored"
        return parts_of(store, manifest, self.targets, one_example_seed=self.recipe.protocol.seed if one else None)


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
        See `Progress`.
    """
    manifest = data if isinstance(data, Manifest) else read_manifest(data)
    check_task(recipe, manifest)
    manifest = _with_split(recipe, _chosen(recipe, manifest), folds)
    if not folds:
        manifest = _with_validation(recipe, manifest, tell)
    manifest = _with_copies(recipe, manifest, jobs, tell, progress)
    section = recipe.representation
    representation = representation_of(recipe, manifest)
    heard = None if recipe.augmentation.online.waveform is None else _sound_under(representation)
    # with folds every track tests once, and then all its segments score: one is drawn when the parts are made
    one = recipe.protocol.seed if recipe.training.examples == "stored" and not folds else None

    def prepared(read: Representation, folder: Path | None, dtype: str) -> Store:
        settings = [read.settings(), section.hop_s, dtype, *([] if one is None else [one])]
        place = folder or cache_folder() / "stores" / _digest(manifest, settings)
        watch = _watching(progress, f"preparing {read.name}")
        done = prepare(
            manifest,
            read,
            place,
            hop_s=section.hop_s,
            dtype=dtype,
            jobs=jobs,
            progress=watch,
            one_example_seed=one,
        )
        for skip in done.skipped:
            tell(f"skipped {skip.track_id}: {skip.reason}")
        return done.open()

    features = prepared(representation, store, section.dtype)
    sound = None if heard is None else prepared(heard, None, "float32")
    record = protocol_of(manifest)
    protocol = record.protocol if record else MANIFEST_SPLIT
    targets = tag_targets(manifest, recipe.data.targets, recipe.data.labels) if recipe.is_tagging else None
    return Material(manifest, features, protocol, representation, recipe, sound, targets)


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
    elif tagged := [track.track_id for track in manifest.tracks if not track.label]:
        raise DataError(
            f"{len(tagged)} tracks of the manifest have tags and no label ({tagged[0]} is one)",
            valid="A recipe with task: multi_label, or a label on every row",
            next_step="'musicgenre recipes' lists recipes; --set task=multi_label makes one of most",
        )


def representation_of(recipe: Recipe, manifest: Manifest) -> Representation:
    """Make the recipe's representation; a manifest of ready columns or of pictures is read as such."""
    name, options = recipe.representation.name, recipe.representation.options
    if name == "picture" and all(track.path.suffix.lower() in _PICTURES for track in manifest.tracks):
        return create_representation(name, **{**options, "source": "file"})
    made = create_representation(name, **options)
    if made.columns and made.segment_s is None and not missing_columns(made.columns, manifest.extra_columns):
        return create_representation("columns", names=list(made.columns))
    return made


def _sound_under(representation: Representation) -> Representation:
    """Make the representation of the waveform that ``representation`` reads."""
    if representation.segment_s is None:
        raise RecipeError(
            f"the representation {representation.name} of whole tracks cannot be augmented online",
            next_step="Give it a segment length, or use augmentation.offline",
        )
    if representation.reads == "track":
        raise RecipeError(
            f"the representation {representation.name} knows the whole track, of which an epoch draws segments",
            valid="augmentation.online.waveform with parts of one rate that describe the segment",
            next_step="Use augmentation.offline: its copies are whole tracks",
        )
    return create_representation(
        "waveform", sample_rate_hz=representation.sample_rate_hz, segment_s=representation.segment_s
    )


def _chosen(recipe: Recipe, manifest: Manifest) -> Manifest:
    if recipe.data.labels and not recipe.is_tagging:
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


def _with_validation(recipe: Recipe, manifest: Manifest, tell: Tell) -> Manifest:
    """Where the split has no validation part, take one from training: the test part chooses nothing."""
    share = float(recipe.protocol.options.get("validation_size", 0)) or _VALIDATION
    whole = with_validation(manifest, validation_size=share, seed=recipe.protocol.seed)
    if whole is not manifest:
        n_taken = sum(track.split == "validation" for track in whole.tracks)
        n_left = sum(track.split == "train" and not track.augmented for track in whole.tracks)
        tell(
            f"the split has no validation part: {n_taken} of {n_taken + n_left} training tracks choose the weights "
            f"(and thresholds) and do not train; the column {SPLIT_BEFORE} marks them"
        )
    return whole


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


def _with_copies(recipe: Recipe, manifest: Manifest, jobs: int, tell: Tell, progress: Progress | None) -> Manifest:
    wanted = recipe.augmentation.offline
    if not wanted.copies:
        return manifest
    chain = get_chain(wanted.chain).only(wanted.only)
    settings = [chain.name, wanted.copies, recipe.protocol.seed]
    folder = cache_folder() / "augmented" / _digest(manifest, settings)
    watch = _watching(progress, f"augmenting by {chain.name}")
    seed = recipe.protocol.seed
    made = augment(manifest, chain, folder, copies=wanted.copies, seed=seed, jobs=jobs, progress=watch)
    for skip in made.skipped:
        tell(f"no copy {skip.track_id}: {skip.reason}")
    return made.manifest


def _watching(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, what)


def _leaky_options(options: Mapping[str, Any]) -> dict[str, float]:
    unknown = sorted(set(options) - {"test_size"})
    if unknown:
        raise RecipeError(f"the protocol {LEAKY} takes no {unknown[0]!r}", valid="test_size")
    return {name: float(value) for name, value in options.items()}


def _digest(manifest: Manifest, settings: Sequence[Any]) -> str:
    """Name a folder by what it holds, so that trainings on the same tracks and features share it."""
    rows = [[track.track_id, str(track.path), track.label, track.split, track.fold] for track in manifest.tracks]
    content = json.dumps([list(settings), rows], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def find_weights_first(recipe: Recipe) -> None:
    """Find the file that the recipe's network will load, or fetch it; nothing is read of it yet.

    Raises
    ------
    BundleError
        If it is not there and cannot be fetched.
    """
    name, options = recipe.model.name, recipe.model.options
    if "net" in options:  # a network inside of another
        name, options = str(options["net"]), {**(options.get("net_options") or {}), **options}
    entry = model_entry(name)
    known: dict[str, Any] = {**entry.options, **options}
    if entry.find_weights is not None and str(known.get("weights") or "none") != "none":
        entry.find_weights(name, known)
