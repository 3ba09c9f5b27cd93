"""Protocols of cross-validation: ``kfold`` and ``artist-kfold``, and taking one fold for a run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from musicgenre.data.manifest import Manifest
from musicgenre.data.splits._allocate import allocate, make_units
from musicgenre.data.splits.held_out import train_or_validation
from musicgenre.data.splits.random_parts import require_groups, require_units
from musicgenre.data.splits.registry import protocol_of, register
from musicgenre.errors import DataError, UsageError


@register(
    "kfold",
    summary="Tracks dealt to folds with the labels in proportion; each fold is the test part once.",
    comparable="Reports of k-fold cross-validation over tracks, and track. Artists may stand on both sides.",
)
def split_into_folds(manifest: Manifest, *, seed: int, folds: int = 5) -> Manifest:
    """Deal tracks to folds.

    Parameters
    ----------
    manifest : Manifest
        Original tracks.
    seed : int
        The seed.
    folds : int, optional
        How many.

    Returns
    -------
    Manifest
        With the column fold, and no split: `take_fold` makes the parts of one fold.
    """
    return _deal_folds(manifest, seed, folds, by_group=False)


@register(
    "artist-kfold",
    summary="Groups (artists) dealt to folds, none in two; labels in proportion as far as whole groups allow.",
    comparable="Other cross-validation that keeps artists apart, and artist.",
)
def split_into_artist_folds(manifest: Manifest, *, seed: int, folds: int = 5) -> Manifest:
    """Deal groups to folds.

    Parameters
    ----------
    manifest : Manifest
        Original tracks with groups.
    seed : int
        The seed.
    folds : int, optional
        How many.

    Returns
    -------
    Manifest
        With the column fold, and no split: `take_fold` makes the parts of one fold.
    """
    require_groups(manifest)
    return _deal_folds(manifest, seed, folds, by_group=True)


def take_fold(manifest: Manifest, fold: int, *, validation_size: float = 0.1, seed: int = 0) -> Manifest:
    """Make the parts of one fold: it is the test part, the others are split into train and validation.

    Tracks that the protocol keeps together stay together here too; augmented rows are used in train only.

    Parameters
    ----------
    manifest : Manifest
        With the column fold.
    fold : int
        The fold to test.
    validation_size : float, optional
        A share of the tracks of the other folds, or a number of tracks; 0 for no validation part.
    seed : int, optional
        The seed of the validation part.

    Returns
    -------
    Manifest
        With the column split.
    """
    present = sorted({track.fold for track in manifest.tracks if track.fold is not None})
    if fold not in present:
        raise UsageError(
            f"the manifest has no fold {fold}",
            valid=f"Folds {', '.join(map(str, present))}" if present else "A manifest split by kfold",
            next_step="" if present else "musicgenre data split MANIFEST --protocol kfold",
        )
    record = protocol_of(manifest)
    by_group = record is not None and record.protocol == "artist-kfold"
    others = [t for t in manifest.tracks if t.fold is not None and t.fold != fold and not t.augmented]
    parts = train_or_validation(others, validation_size, seed, by_group=by_group)
    return manifest.with_tracks(
        dataclasses.replace(track, split=_part_in_fold(track.fold, fold, track.augmented, parts.get(track.source_id)))
        for track in manifest.tracks
    )


def _part_in_fold(own: int | None, fold: int, augmented: bool, part: str | None) -> str:
    if own is None or (augmented and part != "train"):
        return ""
    return "test" if own == fold else part or ""


def _deal_folds(manifest: Manifest, seed: int, folds: int, *, by_group: bool) -> Manifest:
    if folds < 2:
        raise UsageError(f"--folds {folds} is too few", valid="2 at least")
    units = make_units(manifest.tracks, by_group=by_group)
    require_units(units, folds, "folds")
    chosen = allocate(units, _fold_targets(Counter(t.label for t in manifest.tracks), folds), seed)
    if len(set(chosen.values())) < folds:
        raise DataError(f"the groups are too few or too large for {folds} folds", next_step="Ask for fewer --folds")
    return manifest.with_tracks(
        dataclasses.replace(track, split="", fold=int(chosen[track.track_id])) for track in manifest.tracks
    )


def _fold_targets(counts: Mapping[str, int], folds: int) -> dict[str, dict[str, int]]:
    """Share every label evenly; what is left over goes on from fold to fold, so that their sizes stay even."""
    targets: dict[str, dict[str, int]] = {str(fold): {} for fold in range(folds)}
    extra = 0
    for label, count in sorted(counts.items()):
        for fold in range(folds):
            targets[str(fold)][label] = count // folds
        for k in range(count % folds):
            targets[str((extra + k) % folds)][label] += 1
        extra += count % folds
    return targets
