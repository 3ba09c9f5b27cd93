"""Look for what makes a result untrue: copies, artists on both sides, contradicting labels, lopsided classes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from musicgenre._files import md5_of
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.sets.gtzan import known_duplicate

_FEW_TRACKS = 10
_LOPSIDED = 5.0  # the largest class against the smallest
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
Progress = Callable[[int, int], None]  # (done, all)


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Parameters
    ----------
    n_tracks : int
        Rows looked at.
    duplicates : tuple of tuple of str
        Ids of tracks with the same content.
    conflicts : tuple of tuple of str
        Those of them whose labels differ.
    copies_across : tuple of tuple of str
        Those of them that stand in different parts (or folds).
    groups_across : dict of str to tuple of str
        Groups (artists) that stand in training and in another part (or in several folds), with the parts.
    n_test_with_known_group : int
        Test tracks whose group stands in training as well.
    n_test : int
        Test tracks.
    augmented_outside_train : tuple of str
        Augmented rows in another part than train, or whose original is.
    balance : dict of str to dict of str to int
        Tracks of each label by part (``""``: no part).
    missing : tuple of str
        Ids of tracks whose file is absent.
    warnings : tuple of str
        On class sizes and on what could not be checked.
    """

    n_tracks: int
    duplicates: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]
    copies_across: tuple[tuple[str, ...], ...]
    groups_across: dict[str, tuple[str, ...]]
    n_test_with_known_group: int
    n_test: int
    augmented_outside_train: tuple[str, ...]
    balance: dict[str, dict[str, int]]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether something stands on both sides of the split."""
        return bool(self.copies_across or self.groups_across or self.augmented_outside_train)

    @property
    def ok(self) -> bool:
        """Whether there is neither a leak nor a contradiction nor an absent file."""
        return not (self.leaks or self.conflicts or self.missing)


def audit(manifest: Manifest, *, progress: Progress | None = None) -> Audit:
    """Check a manifest and the files it names.

    Parameters
    ----------
    manifest : Manifest
        The tracks, split or not. Files without the column md5 are read to compare their content.
    progress : callable, optional
        Told (files read, all files).

    Returns
    -------
    Audit
        Copies of a track are found by equal content, and GTZAN's also by its known list of identical tracks.
    """
    originals = [track for track in manifest.tracks if not track.augmented]
    missing = tuple(track.track_id for track in manifest.missing_files())
    duplicates = _duplicates(originals, _marks(originals, progress))
    groups = _groups_across(originals)
    test = [track for track in originals if track.split == "test"]
    trained_groups = {track.group for track in originals if track.split == "train"} - {""}
    return Audit(
        n_tracks=len(manifest),
        duplicates=tuple(_ids(tracks) for tracks in duplicates),
        conflicts=tuple(_ids(tracks) for tracks in duplicates if len({t.labels for t in tracks}) > 1),
        copies_across=tuple(_ids(tracks) for tracks in duplicates if len(_places(tracks)) > 1),
        groups_across=groups,
        n_test_with_known_group=sum(track.group in trained_groups for track in test),
        n_test=len(test),
        augmented_outside_train=_augmented_outside_train(manifest),
        balance=_balance(originals),
        missing=missing,
        warnings=tuple(_warnings(originals)),
    )


def _marks(tracks: list[Track], progress: Progress | None) -> dict[str, str]:
    """Content hash of every track: its column md5, else its file's."""
    marks = {track.track_id: track.columns.get("md5", "") for track in tracks}
    todo = [t for t in tracks if not marks[t.track_id] and t.path.suffix.lower() not in _TABLE_SUFFIXES]
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for done, (track, digest) in enumerate(zip(todo, pool.map(_md5, todo), strict=True), 1):
            marks[track.track_id] = digest
            if progress:
                progress(done, len(todo))
    return marks


def _md5(track: Track) -> str:
    try:
        return md5_of(track.path)
    except OSError:  # absent files are listed by themselves
        return ""


def _duplicates(tracks: list[Track], marks: dict[str, str]) -> list[list[Track]]:
    by_mark: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        if mark := known_duplicate(track.track_id, track.label) or marks[track.track_id]:
            by_mark[mark].append(track)
    return [same for same in by_mark.values() if len(same) > 1]


def _places(tracks: Iterable[Track]) -> set[str]:
    """Parts and folds that tracks stand in; no part is no place."""
    tracks = list(tracks)
    parts = {track.split for track in tracks} - {""}
    return parts or {f"fold {track.fold}" for track in tracks if track.fold is not None}


def _groups_across(tracks: list[Track]) -> dict[str, tuple[str, ...]]:
    members: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        if track.group:
            members[track.group].append(track)
    return {group: tuple(sorted(_places(own))) for group, own in sorted(members.items()) if len(_places(own)) > 1}


def _augmented_outside_train(manifest: Manifest) -> tuple[str, ...]:
    part = {track.track_id: track.split for track in manifest.tracks}
    return tuple(
        track.track_id
        for track in manifest.tracks
        if track.augmented
        and track.split
        and (track.split != "train" or part.get(track.source_id, "train") != "train")
    )


def _balance(tracks: list[Track]) -> dict[str, dict[str, int]]:
    counts = Counter((label, track.split) for track in tracks for label in _named(track))
    parts = sorted({track.split for track in tracks}, key=("train", "validation", "test", "").index)
    return {label: {part: counts[label, part] for part in parts} for label in sorted({name for name, _ in counts})}


def _named(track: Track) -> tuple[str, ...]:
    """The label of a track, or the tags of one that has no label."""
    return (track.label,) if track.label else track.labels


def _warnings(tracks: list[Track]) -> Iterable[str]:
    of_tags = not any(track.label for track in tracks)
    counts = Counter(label for track in tracks for label in _named(track))
    if len(counts) < 2:
        yield f"there is one label only: {', '.join(counts) or 'none'}"
    for label, count in sorted(counts.items()):
        if count < _FEW_TRACKS:
            yield f"{label!r} has {count} tracks only: its score will say little"
    if of_tags and (empty := sum(not track.labels for track in tracks)):
        yield f"{empty} of {len(tracks)} tracks have no tag"
    if counts and not of_tags and max(counts.values()) > _LOPSIDED * min(counts.values()):
        yield (
            f"the largest label has {max(counts.values())} tracks, the smallest {min(counts.values())}: look at the "
            "macro F1, not at the accuracy, and consider class weights"
        )
    without = sum(not track.group for track in tracks)
    if without:
        yield f"{without} of {len(tracks)} tracks have no group (artist): whether theirs repeat is not known"


def _ids(tracks: Iterable[Track]) -> tuple[str, ...]:
    return tuple(track.track_id for track in tracks)
