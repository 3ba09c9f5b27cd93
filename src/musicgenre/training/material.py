"""What a recipe trains on: labels chosen, split, augmented, prepared of a manifest; or shards that hold all that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import cache_folder
from musicgenre._json import json_sha256
from musicgenre.augment.offline import augment
from musicgenre.augment.waveform import get_chain
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.shards import open_shards
from musicgenre.data.splits import SPLIT_BEFORE, VALIDATION_SHARE, protocol_of, split, take_fold, with_validation
from musicgenre.data.store import Store
from musicgenre.data.targets import Targets, tag_targets
from musicgenre.errors import DataError, RecipeError, UsageError
from musicgenre.features.base import Representation
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation, representation_from_settings
from musicgenre.features.representations.columns import missing_columns
from musicgenre.models.registry import model_entry
from musicgenre.training.parts import LEAKY, Parts, leaking_parts, parts_of
from musicgenre.training.recipe_names import Report
from musicgenre.training.recipes import Recipe

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
            return self.manifest, leaking_parts(self.store, seed, **_leaky_options(options))

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
    manifest = split_tracks(recipe, data, folds=folds, report=report)
    manifest = _with_copies(recipe, manifest, jobs, report, progress)

    section = recipe.representation
    representation = representation_of(recipe, manifest)
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
            report(f"look at {len(done.warnings) - _SHOWN_WARNINGS} more tracks: musicgenre data validate names them")
        return done.open()

    features = prepared_store(representation, store, section.dtype)
    sound = None
    if waveform is not None:
        sound = prepared_store(waveform, None, "float32")
    return replace(_material(recipe, manifest, features, representation, sound), has_test=has_test)


def split_tracks(
    recipe: Recipe, data: Manifest | Path, *, folds: int = 0, report: Report = lambda text: None
) -> Manifest:
    """Choose the tracks of a manifest and split them as the recipe says; no sound is read.

    Parameters
    ----------
    recipe, data, folds, report
        As `gather_material` takes them.

    Returns
    -------
    Manifest
        With a training, a validation and, unless the manifest has none, a test part; or with folds.

    Raises
    ------
    DataError
        The manifest does not fit the recipe's task, or cannot be split as asked.
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
    if manifest is not whole:
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
        _check_training_labels(recipe, manifest)
    return manifest


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

    wanted = representation_of(recipe, shards.manifest)
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
            f"{len(tagged)} tracks of the manifest have tags and no label ({tagged[0]} is one)",
            valid="A recipe with task: multi_label, or a label on every row",
            next_step="'musicgenre recipes' lists recipes; --set task=multi_label makes one of most",
        )


def _check_training_labels(recipe: Recipe, manifest: Manifest) -> None:
    """Refuse a split whose training part lacks a label or tag, before hours of preparing; parts are checked again."""
    training = {track.track_id for track in manifest.tracks if track.split == "train"}
    if not training:  # which is told as such where the parts are made
        return

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


def representation_of(recipe: Recipe, manifest: Manifest) -> Representation:
    """Make the recipe's representation; a manifest of ready columns or of pictures is read as such."""
    name, options = recipe.representation.name, recipe.representation.options
    if name == "picture" and all(track.path.suffix.lower() in _PICTURES for track in manifest.tracks):
        return create_representation(name, **{**options, "source": "file"})

    representation = create_representation(name, **options)
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


def _with_split(recipe: Recipe, manifest: Manifest, folds: int) -> Manifest:
    """Split the manifest as the recipe says, or into folds; what it brings along is kept."""
    wanted = recipe.protocol
    if wanted.name == LEAKY:
        _leaky_options(wanted.options)  # wrong ones are refused now, not after hours of preparing
        return split(manifest, LEAKY, seed=wanted.seed)

    present = {track.fold for track in manifest.tracks if track.fold is not None}
    if folds:
        if present and len(present) != folds:
            raise DataError(
                f"the manifest has {len(present)} folds, not {folds}", next_step=f"Give --folds {len(present)}"
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


def _leaky_options(options: Mapping[str, Any]) -> dict[str, float]:
    """The options of the protocol that deals single segments, others refused."""
    unknown = sorted(set(options) - {"test_size"})
    if unknown:
        raise RecipeError(f"the protocol {LEAKY} takes no {unknown[0]!r}", valid="test_size")
    return {name: float(value) for name, value in options.items()}


def cache_place(kind: str, manifest: Manifest, settings: Sequence[Any]) -> Path:
    """Name a folder by what it holds, so that trainings on the same tracks and features share it."""
    rows = [[track.track_id, str(track.path), track.label, track.split, track.fold] for track in manifest.tracks]
    return cache_folder() / kind / json_sha256([list(settings), rows])[:_N_DIGITS]


def _progress_of(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """The callback of one thing that is done."""
    if progress is None:
        return None
    return partial(progress, what)
