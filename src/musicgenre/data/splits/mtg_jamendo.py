"""The five published splits of MTG-Jamendo."""

from __future__ import annotations

from musicgenre.data.manifest import PARTS, Manifest
from musicgenre.data.sets.mtg_jamendo import NO_PART, PARTS_COLUMN, SPLITS
from musicgenre.data.splits.random_parts import with_parts
from musicgenre.data.splits.registry import register
from musicgenre.errors import DataError, UsageError


@register(
    "mtg-jamendo",
    summary="One of MTG-Jamendo's five published splits (--number 0 to 4), each with artists apart.",
    comparable="Published results on the same split and the same set of tags; most papers report split 0. Averages "
    "over the five splits compare with averages only.",
)
def split_mtg_jamendo(manifest: Manifest, *, seed: int, number: int = 0) -> Manifest:
    """Take the published parts; the seed changes nothing.

    Parameters
    ----------
    manifest : Manifest
        Tracks of MTG-Jamendo with the column published_parts.
    seed : int
        Not used.
    number : int, optional
        Which split.

    Returns
    -------
    Manifest
        With the split; tracks that are not in it have none.
    """
    if not 0 <= number < SPLITS:
        raise UsageError(f"MTG-Jamendo has no split {number}", valid=f"0 to {SPLITS - 1}")
    parts: dict[str, str] = {}
    for track in manifest.tracks:
        published = track.columns.get(PARTS_COLUMN, "").split()
        if len(published) != SPLITS or not {*published} <= {*PARTS, NO_PART}:
            raise DataError(
                f"the track {track.track_id} has {track.columns.get(PARTS_COLUMN, '')!r} as its {PARTS_COLUMN}",
                valid=f"Its part in each of the {SPLITS} splits",
                next_step="musicgenre data get mtg-jamendo --from FOLDER makes such a manifest",
            )
        if published[number] != NO_PART:
            parts[track.track_id] = published[number]
    if absent := [part for part in PARTS if part not in parts.values()]:
        raise DataError(
            f"split {number} finds no {' and no '.join(absent)} track here",
            valid="A manifest made when the lists of that split and its audio were at hand",
        )
    return with_parts(manifest, parts)
