"""Protocol ``song``: clips at random, all clips of one song on one side (D1's 3/4 and 1/4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from musicgenre.data.manifest import Manifest
from musicgenre.data.splits._allocate import Unit, draw, make_units
from musicgenre.data.splits._sizes import count_of
from musicgenre.data.splits.random_parts import with_parts
from musicgenre.data.splits.registry import register
from musicgenre.errors import DataError


@register(
    "song",
    summary="Clips at random, 3/4 train and 1/4 test, all clips of one song on one side; labels are not balanced.",
    comparable="Reports that split clips of songs 3/4 to 1/4 at random, such as D1; theirs may have clips of one "
    "song on both sides, which flatters. Artists stand on both sides here. Not comparable with mtat-folders and "
    "mtat-clean.",
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
            next_step="musicgenre data index annotations_final.csv adds it; use the protocol track for whole tracks",
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
    parts = _fill(units, sizes, seed)
    if missing := [part for part, size in {"train": 1, **sizes}.items() if size and part not in parts.values()]:
        raise DataError(
            f"the songs are too few or too large for a {missing[0]} part", next_step="Add songs or ask for other sizes"
        )
    return with_parts(manifest, parts)


def _fill(units: Sequence[Unit], sizes: Mapping[str, int], seed: int) -> dict[str, str]:
    """Go through the songs in random order; each goes into the first part that has room for all of it."""
    room = dict(sizes)
    parts = {}
    for unit in sorted(units, key=lambda unit: (draw(seed, "song", unit.key), unit.key)):
        part = next((part for part, left in room.items() if left >= len(unit.track_ids)), "train")
        if part in room:
            room[part] -= len(unit.track_ids)
        parts.update(dict.fromkeys(unit.track_ids, part))
    return parts
