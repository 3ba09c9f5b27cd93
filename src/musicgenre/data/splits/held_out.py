"""Take a validation part out of a training part, where a split has none: D1's 3/4 and 1/4, lists of two parts.

The test part stays as it is: it may choose nothing, so what chooses weights and thresholds must come from training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.splits._allocate import allocate, make_units
from musicgenre.data.splits._sizes import Sizes
from musicgenre.errors import DataError

SPLIT_BEFORE = "split_before"
"""Column with the part that a track was in before it was taken from there."""


def with_validation(manifest: Manifest, *, validation_size: float = 0.125, seed: int = 0) -> Manifest:
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
        With the column ``split_before``: ``train`` for every track that was taken.

    Raises
    ------
    DataError
        The training part is too small.
    """
    parts = {track.split for track in manifest.tracks}
    if "validation" in parts or not {"train", "test"} <= parts:
        return manifest
    training = [track for track in manifest.tracks if track.split == "train" and not track.augmented]
    try:
        drawn = train_or_validation(training, validation_size, seed, by_group=_groups_are_apart(manifest))
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


def train_or_validation(
    tracks: Sequence[Track], validation_size: float, seed: int, *, by_group: bool
) -> dict[str, str]:
    """Deal tracks to ``train`` and ``validation``, labels in proportion; the part of every track id."""
    targets = Sizes(test=0, validation=validation_size).targets(tracks, seed)
    wanted = {part: labels for part, labels in targets.items() if sum(labels.values())}
    return allocate(make_units(tracks, by_group=by_group), wanted, seed)


def _groups_are_apart(manifest: Manifest) -> bool:
    train, test = ({t.group for t in manifest.tracks if t.split == part and t.group} for part in ("train", "test"))
    return bool(train and test) and not train & test
