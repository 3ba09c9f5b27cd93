"""Protocols of cross-validation: `kfold` and `artist-kfold`, taking one fold for a run, and a part that validates."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.splits._allocate import Sizes, allocate, make_units
from musicgenre.data.splits.random_parts import ARTISTS_APART, AT_RANDOM, require_groups, require_units
from musicgenre.data.splits.registry import protocol_of, register
from musicgenre.errors import DataError, UsageError

SPLIT_BEFORE = "split_before"  # column with the part that a track was in before it was taken from there

VALIDATION_SHARE = 0.125
"""Share of the tracks outside the test part that validates, in a fold or where a split has none: a tenth of all
where a fifth tests."""


@register(
    "kfold",
    summary="Tracks dealt to folds with the labels in proportion; each fold is the test part once.",
    comparable="Reports of k-fold cross-validation over tracks, and track. Artists may stand on both sides.",
    caveat=AT_RANDOM,
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
    caveat=ARTISTS_APART,
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
    parts = _train_or_validation(others, validation_size, seed, by_group=by_group)

    # A copy of a tested track may not train, and one of a validation track neither.
    def in_fold(track: Track) -> Track:
        part = parts.get(track.source_id, "")
        if track.fold is None or (track.augmented and part != "train"):
            return dataclasses.replace(track, split="")
        return dataclasses.replace(track, split="test" if track.fold == fold else part)

    return manifest.with_tracks(in_fold(track) for track in manifest.tracks)


def with_validation(manifest: Manifest, *, validation_size: float = VALIDATION_SHARE, seed: int = 0) -> Manifest:
    """Give a split of two parts a validation part, drawn from the training part at random.

    Tracks with one parent or the same content stay together, and groups too where the split kept them apart. Augmented
    rows of what is taken are no longer used.

    Parameters
    ----------
    manifest : Manifest
        With a training and a test part. One that has a validation part, or no test part, is returned as it is.
    validation_size : float, optional
        A share of the training tracks, or a number of tracks.
    seed : int, optional
        The seed.

    Returns
    -------
    Manifest
        With the column `split_before`: `train` for every track that was taken.

    Raises
    ------
    DataError
        The training part is too small.
    """
    parts = {track.split for track in manifest.tracks}
    if "validation" in parts or not {"train", "test"} <= parts:
        return manifest

    # Where the split kept groups apart, the validation part keeps them apart too.
    groups = {part: {t.group for t in manifest.tracks if t.split == part and t.group} for part in ("train", "test")}
    are_apart = bool(groups["train"] and groups["test"]) and not groups["train"] & groups["test"]
    training = [track for track in manifest.tracks if track.split == "train" and not track.augmented]
    try:
        drawn = _train_or_validation(training, validation_size, seed, by_group=are_apart)
    except DataError as error:
        raise DataError(
            f"there is no validation part, and the training part is too small to take one from ({error.problem})",
            next_step="Add tracks, or split again with a validation part: musicgenre data split",
        ) from error
    taken = {track_id for track_id, part in drawn.items() if part == "validation"}

    def moved(track: Track) -> Track:
        if track.split != "train" or track.source_id not in taken:
            return track.with_columns(**{SPLIT_BEFORE: ""})
        part = "" if track.augmented else "validation"
        return dataclasses.replace(track, split=part).with_columns(**{SPLIT_BEFORE: "train"})

    return manifest.with_tracks(moved(track) for track in manifest.tracks)


def _deal_folds(manifest: Manifest, seed: int, folds: int, *, by_group: bool) -> Manifest:
    """Deal tracks, or whole groups, to folds."""
    if folds < 2:
        raise UsageError(f"--folds {folds} is too few", valid="2 at least")

    units = make_units(manifest.tracks, by_group=by_group)
    require_units(units, folds, "folds")

    # Every label is shared evenly; what is left over goes on from fold to fold, so that their sizes stay even.
    counts = Counter(track.label for track in manifest.tracks)
    targets: dict[str, dict[str, int]] = {str(fold): {} for fold in range(folds)}
    n_left_over = 0
    for label, count in sorted(counts.items()):
        for fold in range(folds):
            targets[str(fold)][label] = count // folds
        for extra in range(n_left_over, n_left_over + count % folds):
            targets[str(extra % folds)][label] += 1
        n_left_over += count % folds

    chosen = allocate(units, targets, seed)
    if len(set(chosen.values())) < folds:
        raise DataError(f"the groups are too few or too large for {folds} folds", next_step="Ask for fewer --folds")
    return manifest.with_tracks(
        dataclasses.replace(track, split="", fold=int(chosen[track.track_id])) for track in manifest.tracks
    )


def _train_or_validation(
    tracks: Sequence[Track], validation_size: float, seed: int, *, by_group: bool
) -> dict[str, str]:
    """Deal tracks to `train` and `validation`, labels in proportion; the part of every track id."""
    targets = Sizes(test=0, validation=validation_size).targets(tracks, seed)
    wanted = {part: labels for part, labels in targets.items() if sum(labels.values())}
    return allocate(make_units(tracks, by_group=by_group), wanted, seed)
