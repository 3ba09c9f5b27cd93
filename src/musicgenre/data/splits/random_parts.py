"""Protocols that draw train, validation and test at random: `track`, `artist` and `song`."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from musicgenre.data.manifest import Manifest
from musicgenre.data.splits._allocate import Sizes, Unit, allocate, count_of, draw, make_units
from musicgenre.data.splits.registry import register
from musicgenre.errors import DataError

# What to know about numbers under several protocols.
AT_RANDOM = "tracks were split at random: the same artist may stand on both sides"
ARTISTS_APART = "no artist stands on both sides, as far as artists are known"

_LONGEST_LIST = 200  # characters of labels that a message repeats


@register(
    "track",
    summary="Tracks at random with the labels in proportion; identical files stay together.",
    comparable="Reports that split GTZAN by track at random. The same artist may stand on both sides, which flatters: "
    "not comparable with the artist and fault-filtered protocols.",
    caveat=AT_RANDOM,
)
def split_by_track(
    manifest: Manifest,
    *,
    seed: int,
    test_size: float = 0.2,
    validation_size: float = 0.1,
    train_size: float | None = None,
    test_per_class: int | None = None,
    validation_per_class: int | None = None,
    stratify_test: bool = True,
) -> Manifest:
    """Split by track.

    Parameters
    ----------
    manifest : Manifest
        Original tracks.
    seed : int
        The seed.
    test_size, validation_size, train_size : float
        A share of all tracks below 1, or a number of tracks; train takes what is left.
    test_per_class, validation_per_class : int, optional
        A number of tracks of every label instead.
    stratify_test : bool, optional
        False draws the test part from all tracks at random, so that labels are out of proportion (as in B).

    Returns
    -------
    Manifest
        With the split; tracks beyond the sizes have none.
    """
    sizes = Sizes(test_size, validation_size, train_size, test_per_class, validation_per_class, stratify_test)
    return with_parts(manifest, allocate(make_units(manifest.tracks), sizes.targets(manifest.tracks, seed), seed))


@register(
    "artist",
    summary="Groups (artists) at random, none in two parts; labels in proportion as far as whole groups allow.",
    comparable="Other results that keep artists apart. The fairest measure on music of your own; lower than track.",
    caveat=ARTISTS_APART,
)
def split_by_artist(
    manifest: Manifest, *, seed: int, test_size: float = 0.2, validation_size: float = 0.1
) -> Manifest:
    """Split by the column group; a track without one is a group of its own.

    Parameters
    ----------
    manifest : Manifest
        Original tracks with groups.
    seed : int
        The seed.
    test_size, validation_size : float
        A share of all tracks below 1, or a number of tracks, met as nearly as whole groups allow.

    Returns
    -------
    Manifest
        With the split.
    """
    require_groups(manifest)
    units = make_units(manifest.tracks, by_group=True)
    wanted = sum(1 for size in (1, test_size, validation_size) if size)
    require_units(units, wanted, "parts")
    targets = Sizes(test_size, validation_size).targets(manifest.tracks, seed)
    del targets[""]
    parts = allocate(units, targets, seed)

    # Whole groups may be too large for a small part: then a label can be absent from one, and its score undefined.
    found = {(parts[track.track_id], track.label) for track in manifest.tracks}
    labels = sorted({track.label for track in manifest.tracks})
    for part, counts in targets.items():
        absent = [label for label in labels if (part, label) not in found]
        if absent and sum(counts.values()):
            raise DataError(
                f"the groups of {absent[0]!r} are too large to put one into the {part} part",
                next_step="Try another --seed, a larger part, or the protocol kfold by track",
            )
    return with_parts(manifest, parts)


@register(
    "song",
    summary="Clips at random, 3/4 train and 1/4 test, all clips of one song on one side; labels are not balanced.",
    comparable="Reports that split clips of songs 3/4 to 1/4 at random, such as D1; theirs may have clips of one "
    "song on both sides, which flatters. Artists stand on both sides here. Not comparable with mtat-folders and "
    "mtat-clean.",
    caveat="clips of one song stand on one side, the same artist may stand on both",
)
def split_by_song(manifest: Manifest, *, seed: int, test_size: float = 0.25, validation_size: float = 0.0) -> Manifest:
    """Split by the column parent, the song that a clip was cut from.

    Parameters
    ----------
    manifest : Manifest
        Original tracks, some with a parent.
    seed : int
        The seed.
    test_size, validation_size : float
        A share of all clips below 1, or a number of clips, met as nearly as whole songs allow.

    Returns
    -------
    Manifest
        With the split.
    """
    if not any(track.columns.get("parent") for track in manifest.tracks):
        raise DataError(
            "the manifest names the song of no clip",
            valid="A column parent with the song that a clip was cut from",
            next_step="musicgenre data index annotations_final.csv adds it; to split whole tracks all the same: "
            "--protocol track, or --set protocol.name=track of a training",
        )

    units = make_units(manifest.tracks)
    sizes = {
        "test": count_of("test", test_size, len(manifest)),
        "validation": count_of("validation", validation_size, len(manifest)),
    }
    if sum(sizes.values()) >= len(manifest):
        raise DataError(
            f"test and validation of {sum(sizes.values())} clips leave none of {len(manifest)} for training",
            valid=f"At most {len(manifest) - 1}",
        )

    # Songs in random order; each goes into the first part that has room for all of it.
    room = dict(sizes)
    parts: dict[str, str] = {}
    for unit in sorted(units, key=lambda unit: (draw(seed, "song", unit.key), unit.key)):
        part = next((part for part, left in room.items() if left >= len(unit.track_ids)), "train")
        if part in room:
            room[part] -= len(unit.track_ids)
        parts.update(dict.fromkeys(unit.track_ids, part))

    needed = {"train": 1, **sizes}
    if missing := [part for part, size in needed.items() if size and part not in parts.values()]:
        raise DataError(
            f"the songs are too few or too large for a {missing[0]} part", next_step="Add songs or ask for other sizes"
        )
    return with_parts(manifest, parts)


def with_parts(manifest: Manifest, parts: Mapping[str, str]) -> Manifest:
    """Write the part of every track id into a manifest; tracks that are not named get none."""
    return manifest.with_tracks(
        dataclasses.replace(track, split=parts.get(track.track_id, ""), fold=None) for track in manifest.tracks
    )


def require_groups(manifest: Manifest) -> None:
    """Raise unless some track has a group."""
    if not any(track.group for track in manifest.tracks):
        raise DataError(
            "the manifest names no group (artist) of any track",
            valid="To keep artists apart, the column group names them (empty: a group of its own)",
            next_step="musicgenre data index FOLDER --artists FILE fills it from columns track_id and artist_group; "
            "to split by track all the same: --protocol track, or --set protocol.name=track of a training",
        )


def require_units(units: Sequence[Unit], wanted: int, what: str) -> None:
    """Raise unless every label has as many groups as there are parts or folds."""
    groups = Counter(label for unit in units for label in unit.counts)
    if small := {label: n for label, n in sorted(groups.items()) if n < wanted}:
        named = ", ".join(f"{label} ({n})" for label, n in list(small.items())[:5])
        others = ",".join(label for label in sorted(groups) if label not in small)
        leave_out = "leave the label out"
        if others and len(others) <= _LONGEST_LIST:
            leave_out = f"take the other labels alone: --set 'data.labels=[{others}]' of a training, or "
            leave_out += f"musicgenre data index --labels {shlex.quote(others)}"
        raise DataError(
            f"too few groups to put each label into {wanted} {what}: {named}",
            valid="Tracks with the same group or the same content count once",
            next_step=f"Add tracks, ask for fewer, or {leave_out}",
        )
