"""What a recipe trains on: labels chosen, split, augmented, prepared of a manifest; or shards that hold all that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from musicgenre._files import cache_folder
from musicgenre._json import json_sha256
from musicgenre._text import how_many
from musicgenre.augment.offline import augment
from musicgenre.augment.waveform import get_chain
from musicgenre.data.manifest import Manifest
from musicgenre.data.shards import open_shards
from musicgenre.data.splits import VALIDATION_SHARE, protocol_of, take_fold
from musicgenre.data.store import Store
from musicgenre.data.targets import Targets, tag_targets
from musicgenre.errors import RecipeError, UsageError
from musicgenre.features.base import Representation
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation, representation_from_settings
from musicgenre.features.representations.columns import missing_columns
from musicgenre.models.registry import model_entry
from musicgenre.training.parts import Parts, leaking_parts, parts_of
from musicgenre.training.recipe_names import Report
from musicgenre.training.recipes import Recipe
from musicgenre.training.tracks import LEAKY, check_task, leaky_options, split_tracks

MANIFEST_SPLIT = "manifest"
"""Name of the protocol where a manifest brought a split that no protocol of ours made."""

_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
_SHOWN_WARNINGS = 20
_N_DIGITS = 20
"""Of the hash that names a folder in the cache."""

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
    has_test : bool
        Whether there is a test part.
    """

    manifest: Manifest
    store: Store
    protocol: str
    representation: Representation
    recipe: Recipe
    sound: Store | None = None
    targets: Targets | None = None
    has_test: bool = True

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds of the manifest, sorted."""
        return tuple(sorted({track.fold for track in self.manifest.tracks if track.fold is not None}))

    def round(self, fold: int | None) -> tuple[Manifest, Parts]:
        """Return the manifest and the parts of one training; `fold` is tested, if given."""
        options, seed = self.recipe.protocol.options, self.recipe.protocol.seed
        if self.protocol == LEAKY:
            if self.recipe.training.examples == "stored":
                raise RecipeError(
                    f"training.examples=stored does not go with the protocol {LEAKY}, which deals single segments",
                    valid="all or fresh",
                )
            return self.manifest, leaking_parts(self.store, seed, **leaky_options(options))

        manifest = self.manifest
        if fold is not None:
            share = float(options.get("validation_size", VALIDATION_SHARE))
            manifest = take_fold(manifest, fold, validation_size=share, seed=seed)
        return manifest, self.parts(self.store, manifest)

    def parts(self, store: Store, manifest: Manifest) -> Parts:
        """Take the parts of `store` or of `sound`; one segment a training track if the recipe wants that."""
        seed = None
        if self.recipe.training.examples == "stored":
            seed = self.recipe.protocol.seed
        return parts_of(store, manifest, self.targets, one_example_seed=seed, has_test=self.has_test)


def gather_material(
    recipe: Recipe,
    data: Manifest | Path,
    *,
    folds: int = 0,
    store: Path | None = None,
    jobs: int = 1,
    has_test: bool = True,
    report: Report = lambda text: None,
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
    has_test : bool
        Whether there must be a test part.
    report : callable
        Takes a line for the person who waits.
    progress : callable, optional
        See `Progress`.

    Raises
    ------
    DataError
        The manifest does not fit the recipe's task, or cannot be split as asked.
    RecipeError
        The representation does not go with online augmentation.
    """
    # copies come after the split, since only tracks that train are copied
    manifest = split_tracks(recipe, data, folds=folds, has_test=has_test, report=report)
    manifest = _with_copies(recipe, manifest, jobs, report, progress)

    section = recipe.representation
    representation = representation_of(recipe, manifest)
    if section.options.get("crop") == "auto" and representation.reads == "file":
        report(f"the pictures are cropped to {representation.settings()['crop']}, where their border ends")
    waveform = None
    if recipe.augmentation.online.waveform is not None:
        waveform = _waveform_under(representation)  # before anything is prepared: it may be refused

    # with folds every track tests once, and then all its segments score: one is drawn when the parts are made
    one_example_seed = None
    if recipe.training.examples == "stored" and not folds:
        one_example_seed = recipe.protocol.seed

    def prepared_store(read: Representation, folder: Path | None, dtype: str) -> Store:
        """Compute what `read` makes of every track, or find it where it was computed before."""
        settings = [read.settings(), section.hop_s, dtype]
        if one_example_seed is not None:
            settings.append(one_example_seed)
        done = prepare(
            manifest,
            read,
            folder or cache_place("stores", manifest, settings),
            wait_s=0.0 if folder else math.inf,  # the cache is shared: what another training prepares is ours too
            hop_s=section.hop_s,
            dtype=dtype,
            jobs=jobs,
            progress=_progress_of(progress, f"preparing {read.name}"),
            one_example_seed=one_example_seed,
        )
        for skip in done.skipped:
            report(f"skipped {skip.track_id}: {skip.reason}")
        for warning in done.warnings[:_SHOWN_WARNINGS]:
            report(f"look at {warning.track_id}: {warning.reason}")
        if len(done.warnings) > _SHOWN_WARNINGS:
            n_more = how_many(len(done.warnings) - _SHOWN_WARNINGS, "more track")
            report(f"look at {n_more}: musicgenre data validate names them")
        return done.open()

    features = prepared_store(representation, store, section.dtype)
    sound = None
    if waveform is not None:
        sound = prepared_store(waveform, None, "float32")
    return replace(_material(recipe, manifest, features, representation, sound), has_test=has_test)


def material_of_shards(recipe: Recipe, where: Path | str, *, folds: int = 0) -> Material:
    """Open shards for a recipe; tracks, split, copies and features are what was written into them.

    Parameters
    ----------
    recipe : Recipe
        Must ask for what the shards hold.
    where : Path or str
        See `musicgenre.data.shards.open_shards`.
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
        unfit = "--folds" if folds else f"the protocol {LEAKY}"
        raise UsageError(
            f"{unfit} cannot be had from shards: they have one split", next_step="Train from the manifest"
        )

    shards = open_shards(where)
    check_task(recipe, shards.manifest)

    # the recipe asks for what the shards hold, or they are refused
    section = recipe.representation
    write_again = "Write shards of this recipe: musicgenre shard MANIFEST --recipe NAME"

    reading = recipe
    if section.options.get("crop") == "auto":  # was found when they were written; the pictures need not be here
        found = {key: shards.representation.get(key) for key in ("crop", "picture_size")}
        reading = recipe.with_settings({f"representation.options.{key}": value for key, value in found.items()})
    wanted = representation_of(reading, shards.manifest)
    hop_s = wanted.segment_s if section.hop_s is None else section.hop_s
    asked = {**wanted.settings(), "hop_s": hop_s, "dtype": section.dtype}
    held = {**shards.representation, "hop_s": shards.hop_s, "dtype": str(shards.dtype)}
    for key in {**asked, **held}:
        if asked.get(key) != held.get(key):
            raise RecipeError(
                f"the recipe {recipe.name} reads {key}={asked.get(key)!r}, but the shards {shards.place.base} hold "
                f"{key}={held.get(key)!r}",
                next_step=write_again,
            )

    # labels of a single-label recipe are its classes; in tagging any of the tags may be chosen
    if recipe.data.labels and not recipe.is_tagging and set(recipe.data.labels) != set(shards.labels):
        raise RecipeError(
            f"the recipe {recipe.name} names other labels than the shards", valid=f"data.labels={list(shards.labels)}"
        )

    track_ids = set(shards.everything.track_ids.tolist())
    for name in recipe.data.exclude:
        if name in track_ids:
            raise RecipeError(f"the recipe {recipe.name} leaves out {name}, which the shards hold")

    if recipe.augmentation.online.waveform is not None:
        raise RecipeError("augmentation.online.waveform needs the sound, and shards hold features", valid="none")
    if bool(recipe.augmentation.offline.copies) != bool(shards.everything.augmented.any()):
        raise RecipeError(
            f"the recipe {recipe.name} has augmentation.offline.copies={recipe.augmentation.offline.copies}, "
            "and the shards were written otherwise",
            next_step=write_again,
        )

    return _material(recipe, shards.manifest, shards, representation_from_settings(shards.representation))


def representation_of(recipe: Recipe, manifest: Manifest) -> Representation:
    """Make the recipe's representation; a manifest of ready columns or of pictures is read as such.

    Raises
    ------
    DataError
        `crop: auto`, and the manifest's pictures have no border in common.
    """
    name, options = recipe.representation.name, recipe.representation.options
    if name == "picture" and all(track.path.suffix.lower() in _PICTURES for track in manifest.tracks):
        pictures = create_representation(name, **{**options, "source": "file"})
        return pictures.settled([track.path for track in manifest.tracks])

    representation = create_representation(name, **options)
    if representation.reads == "file":
        return representation.settled([track.path for track in manifest.tracks])
    columns = representation.columns
    if columns and representation.segment_s is None and not missing_columns(columns, manifest.extra_columns):
        return create_representation("columns", names=list(columns))
    return representation


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


def _material(
    recipe: Recipe, manifest: Manifest, store: Store, representation: Representation, sound: Store | None = None
) -> Material:
    """Put together what was found, with the name of the split and, in tagging, the targets."""
    protocol, targets = MANIFEST_SPLIT, None
    record = protocol_of(manifest)
    if record:
        protocol = record.protocol
    if recipe.is_tagging:
        targets = tag_targets(manifest, recipe.data.targets, recipe.data.labels)
    return Material(manifest, store, protocol, representation, recipe, sound, targets)


def _with_copies(recipe: Recipe, manifest: Manifest, jobs: int, report: Report, progress: Progress | None) -> Manifest:
    """Add the augmented copies of the training tracks that the recipe asks for."""
    wanted, seed = recipe.augmentation.offline, recipe.protocol.seed
    if not wanted.copies:
        return manifest

    chain = get_chain(wanted.chain).only(wanted.only)
    done = augment(
        manifest,
        chain,
        cache_place("augmented", manifest, [chain.name, wanted.copies, seed]),
        copies=wanted.copies,
        wait_s=math.inf,
        seed=seed,
        jobs=jobs,
        progress=_progress_of(progress, f"augmenting by {chain.name}"),
    )
    for skip in done.skipped:
        report(f"no copy {skip.track_id}: {skip.reason}")
    return done.manifest


def _waveform_under(representation: Representation) -> Representation:
    """Make the representation of the waveform that `representation` reads."""
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


def cache_place(kind: str, manifest: Manifest, settings: Sequence[Any]) -> Path:
    """Name a folder by what it holds, so that trainings on the same tracks and features share it."""
    rows = [[track.track_id, str(track.path), track.label, track.split, track.fold] for track in manifest.tracks]
    return cache_folder() / kind / json_sha256([list(settings), rows])[:_N_DIGITS]


def _progress_of(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """The callback of one thing that is done."""
    if progress is None:
        return None
    return partial(progress, what)
