"""Published splits of GTZAN: ``fault-filtered`` (443/197/290) and ``stratified-500`` (500/250/250)."""

from __future__ import annotations

from musicgenre.data.manifest import Manifest
from musicgenre.data.sets.gtzan import published_split
from musicgenre.data.splits.random_parts import with_parts
from musicgenre.data.splits.registry import register
from musicgenre.errors import DataError


@register(
    "fault-filtered",
    summary="GTZAN's published split without repeated, mislabelled and distorted tracks: 443 / 197 / 290.",
    comparable="Published results on the fault-filtered split. 13 of its 290 test tracks share their artist with "
    "training; the 95 % interval on 290 tracks is about 4.6 points each way. "
    "Some train on the 443, some on 443 + 197.",
)
def split_fault_filtered(manifest: Manifest, *, seed: int) -> Manifest:
    """Take the published parts; the seed changes nothing.

    Parameters
    ----------
    manifest : Manifest
        Tracks of GTZAN, with its ids (``blues.00000``).
    seed : int
        Not used.

    Returns
    -------
    Manifest
        With the split; tracks in none of the lists have none.
    """
    return _take(manifest, "fault-filtered")


@register(
    "stratified-500",
    summary="GTZAN's published random split with equal labels: 500 / 250 / 250.",
    comparable="Published results on that split, and track. Faults and artists are on both sides.",
)
def split_stratified_500(manifest: Manifest, *, seed: int) -> Manifest:
    """Take the published parts; the seed changes nothing.

    Parameters
    ----------
    manifest : Manifest
        Tracks of GTZAN, with its ids (``blues.00000``).
    seed : int
        Not used.

    Returns
    -------
    Manifest
        With the split.
    """
    return _take(manifest, "stratified-500")


def _take(manifest: Manifest, name: str) -> Manifest:
    parts = published_split(name)
    chosen = {
        track.track_id: parts[parent]
        for track in manifest.tracks
        if (parent := track.columns.get("parent", "") or track.track_id) in parts
    }
    absent = {"train", "test"} - set(chosen.values())
    if absent:
        example = manifest.tracks[0].track_id
        raise DataError(
            f"the split {name} finds no {' and no '.join(sorted(absent))} track here (ids like {example!r})",
            valid="Tracks of GTZAN with its ids, such as 'blues.00000'",
            next_step="Use the protocol track or artist for other music",
        )
    return with_parts(manifest, chosen)
