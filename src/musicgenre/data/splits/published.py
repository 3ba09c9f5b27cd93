"""Published splits: two of GTZAN, two of MagnaTagATune and the five of MTG-Jamendo."""

from __future__ import annotations

from collections.abc import Sequence

from musicgenre.data.manifest import PARTS, Manifest, Track
from musicgenre.data.sets.gtzan import published_split
from musicgenre.data.sets.magnatagatune import TOP50_COLUMN
from musicgenre.data.sets.mtg_jamendo import NO_PART, PARTS_COLUMN, SPLITS
from musicgenre.data.splits.random_parts import AT_RANDOM, with_parts
from musicgenre.data.splits.registry import register
from musicgenre.errors import DataError, UsageError

# MagnaTagATune: the part of each of its sixteen folders, and the length that only whole clips have.
_PARTS = {**dict.fromkeys("0123456789ab", "train"), "c": "validation", **dict.fromkeys("def", "test")}
_LONGER_THAN_S = 29.1
_INDEX = "musicgenre data index annotations_final.csv makes such a manifest"


@register(
    "fault-filtered",
    summary="GTZAN's published split without repeated, mislabelled and distorted tracks: 443 / 197 / 290.",
    comparable="Published results on the fault-filtered split. 13 of its 290 test tracks share their artist with "
    "training; the 95 % interval on 290 tracks is about 4.6 points each way. "
    "Some train on the 443, some on 443 + 197.",
    caveat="repeated and faulty tracks were left out; artists were kept apart by hand, yet not all of them",
)
def split_fault_filtered(manifest: Manifest, *, seed: int) -> Manifest:
    """Take the published parts; the seed changes nothing.

    Parameters
    ----------
    manifest : Manifest
        Tracks of GTZAN, with its ids (`blues.00000`).
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
    caveat=AT_RANDOM,
)
def split_stratified_500(manifest: Manifest, *, seed: int) -> Manifest:
    """Take the published parts; the seed changes nothing.

    Parameters
    ----------
    manifest : Manifest
        Tracks of GTZAN, with its ids (`blues.00000`).
    seed : int
        Not used.

    Returns
    -------
    Manifest
        With the split.
    """
    return _take(manifest, "stratified-500")


@register(
    "mtat-folders",
    summary="MagnaTagATune's 12:1:3 split: folders 0 to b train, c validation, d to f test, with untagged clips.",
    comparable="Results on the 12:1:3 split with all its clips (18,706 / 1,825 / 5,329), such as the published "
    "MusiCNN's. Clips of one file are on one side, artists are not: 62 % of the test clips have an artist that is in "
    "training. Not comparable with mtat-clean, which has no untagged clip, nor with random splits.",
    caveat="MagnaTagATune's 12:1:3 folders with all clips, untagged ones too: not comparable with mtat-clean",
)
def split_by_folder(manifest: Manifest, *, seed: int) -> Manifest:
    """Take the part of a clip from its folder; the seed changes nothing.

    Parameters
    ----------
    manifest : Manifest
        Clips of MagnaTagATune in their folders `0` to `f`.
    seed : int
        Not used.

    Returns
    -------
    Manifest
        With the split.
    """
    return _by_folder(manifest, manifest.tracks)


@register(
    "mtat-clean",
    summary="mtat-folders with only the clips that have one of the 50 usual tags and are longer than 29.1 s.",
    comparable="Results on the cleaned split of Lee et al. 2017, as in Won et al. 2020 (15,244 / 1,529 / 4,332 "
    "clips), with the 50 usual tags. Clips of one file are on one side, artists are not. Not comparable with "
    "mtat-folders.",
    caveat="MagnaTagATune's folders with clips of a usual tag alone: not comparable with mtat-folders",
)
def split_clean(manifest: Manifest, *, seed: int) -> Manifest:
    """Take the part from the folder, for clips with a usual tag and of full length; the seed changes nothing.

    Parameters
    ----------
    manifest : Manifest
        Clips of MagnaTagATune in their folders, with the columns top50_tags and duration_s.
    seed : int
        Not used.

    Returns
    -------
    Manifest
        With the split; clips that are not clean have none.
    """
    tagged = [track for track in manifest.tracks if _number(track, TOP50_COLUMN) > 0]
    lengths_s = [_number(track, "duration_s") for track in tagged]
    if tagged and max(lengths_s) <= _LONGER_THAN_S:
        raise DataError(
            f"no clip is longer than {_LONGER_THAN_S} s: the longest has {max(lengths_s):g} s",
            valid="The original MP3 files, whose 809 frames decode to 29.124 s",
            next_step="Index the original files: a conversion to another format may have trimmed them",
        )

    clean = [track for track, length_s in zip(tagged, lengths_s, strict=True) if length_s > _LONGER_THAN_S]
    return _by_folder(manifest, clean)


@register(
    "mtg-jamendo",
    summary="One of MTG-Jamendo's five published splits (--number 0 to 4), each with artists apart.",
    comparable="Published results on the same split and the same set of tags; most papers report split 0. Averages "
    "over the five splits compare with averages only.",
    caveat="a published split of MTG-Jamendo, with artists apart",
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


def _take(manifest: Manifest, name: str) -> Manifest:
    """Take the parts of a published split of GTZAN."""
    parts = published_split(name)
    chosen: dict[str, str] = {}
    for track in manifest.tracks:
        parent = track.columns.get("parent", "") or track.track_id
        if parent in parts:
            chosen[track.track_id] = parts[parent]

    absent = {"train", "test"} - set(chosen.values())
    if absent:
        example = manifest.tracks[0].track_id
        raise DataError(
            f"the split {name} finds no {' and no '.join(sorted(absent))} track here (ids like {example!r})",
            valid="Tracks of GTZAN with its ids, such as 'blues.00000'",
            next_step="Use the protocol track or artist for other music",
        )
    return with_parts(manifest, chosen)


def _by_folder(manifest: Manifest, tracks: Sequence[Track]) -> Manifest:
    """Take the part of these tracks of the manifest, all of which must be MagnaTagATune's, from their folder."""
    for track in manifest.tracks:
        if track.path.parent.name not in _PARTS or TOP50_COLUMN not in track.columns:
            raise DataError(
                f"the clip {track.track_id} ({track.path}) is not one of MagnaTagATune",
                valid=f"Clips in folders 0 to f, with the column {TOP50_COLUMN}",
                next_step=f"{_INDEX}; use another protocol for other music",
            )

    parts = {track.track_id: _PARTS[track.path.parent.name] for track in tracks}
    if absent := [part for part in ("train", "validation", "test") if part not in parts.values()]:
        raise DataError(
            f"the split finds no {' and no '.join(absent)} clip here", valid="Clips of all of folders 0 to f"
        )
    return with_parts(manifest, parts)


def _number(track: Track, column: str) -> float:
    """The number in a column of a track."""
    cell = track.columns.get(column, "")
    try:
        return float(cell)
    except ValueError as error:
        raise DataError(
            f"the clip {track.track_id} has no number in the column {column}: {cell!r}",
            valid="The number of its usual tags (top50_tags), its length in seconds (duration_s)",
            next_step=f"{_INDEX} when the files are at hand",
        ) from error
