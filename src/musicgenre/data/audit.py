"""Look for what makes a result untrue: copies, artists on both sides, contradicting labels, lopsided classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from musicgenre._parallel import in_threads, reading_threads
from musicgenre._text import how_many, shortened
from musicgenre.data.durations import SHORT_TRACK_S, duration_s_of
from musicgenre.data.index import Progress, track_md5
from musicgenre.data.labels import notes_on_labels
from musicgenre.data.manifest import PARTS, Manifest, Track
from musicgenre.data.sets.gtzan import known_duplicate

_FEW_TRACKS = 10  # a share of fewer moves by ten points and more with each
_SHOWN_SHORT = 10
_SAME_TAG = 0.9  # share of the tracks of either tag that have both
_LOPSIDED = 5.0  # the largest class against the smallest
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")  # rows of one table share its file, and are no copies


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
    songs_across : dict of str to tuple of str
        The same of songs or tracks that several rows were cut from (the column parent).
    n_test_with_known_group : int
        Test tracks whose group stands in training as well.
    n_test : int
        Test tracks.
    augmented_outside_train : tuple of str
        Augmented rows in another part than train, or whose original is.
    balance : dict of str to dict of str to int
        Tracks of each label by part (`""`: no part).
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
    songs_across: dict[str, tuple[str, ...]]
    n_test_with_known_group: int
    n_test: int
    augmented_outside_train: tuple[str, ...]
    balance: dict[str, dict[str, int]]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether something stands on both sides of the split."""
        return bool(self.copies_across or self.groups_across or self.songs_across or self.augmented_outside_train)

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
        Copies of a track are found by equal content, and rows of a table, which have none, by GTZAN's known list of
        identical tracks.
    """
    originals = [track for track in manifest.tracks if not track.augmented]
    copies = _copies(originals, progress)
    groups = _across(originals, lambda track: track.group)

    # A group on both sides is a leak; how many test tracks it touches says how grave.
    test = [track for track in originals if track.split == "test"]
    trained_groups = {track.group for track in originals if track.split == "train"} - {""}

    # An augmented row may train, and only where its original does; no part is no harm.
    part = {track.track_id: track.split for track in manifest.tracks}
    outside = []
    for track in manifest.tracks:
        if track.augmented and track.split and {track.split, part.get(track.source_id, "train")} != {"train"}:
            outside.append(track.track_id)

    counts = Counter((label, track.split) for track in originals for label in track.labels)
    parts = sorted({track.split for track in originals}, key=("train", "validation", "test", "").index)
    labels = sorted({label for label, _ in counts})

    return Audit(
        n_tracks=len(manifest),
        duplicates=tuple(_ids(tracks) for tracks in copies),
        conflicts=tuple(_ids(tracks) for tracks in copies if len({track.labels for track in tracks}) > 1),
        copies_across=tuple(_ids(tracks) for tracks in copies if len(_places(tracks)) > 1),
        groups_across=groups,
        songs_across=_across(originals, lambda track: track.columns.get("parent", "")),
        n_test_with_known_group=sum(track.group in trained_groups for track in test),
        n_test=len(test),
        augmented_outside_train=tuple(outside),
        balance={label: {part: counts[label, part] for part in parts} for label in labels},
        missing=tuple(track.track_id for track in manifest.missing_files()),
        warnings=(*_warnings(originals), *_notes_on_short(originals)),
    )


def _copies(tracks: Sequence[Track], progress: Progress | None) -> list[list[Track]]:
    """Find tracks of the same content: by the column md5, else by their files'."""
    marks = {track.track_id: track.columns.get("md5", "") for track in tracks}
    unread = [t for t in tracks if not marks[t.track_id] and t.path.suffix.lower() not in _TABLE_SUFFIXES]
    digests = in_threads(track_md5, unread, reading_threads())
    for done, (track, digest) in enumerate(zip(unread, digests, strict=True), 1):
        marks[track.track_id] = digest if isinstance(digest, str) else ""  # absent files are listed by themselves
        if progress:
            progress(done, len(unread))

    by_mark: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        # A name tells of rows of a table alone: other files may have it, and a copy may have lost it.
        if mark := marks[track.track_id] or known_duplicate(track.track_id, track.label):
            by_mark[mark].append(track)
    return [same for same in by_mark.values() if len(same) > 1]


def _places(tracks: Sequence[Track]) -> set[str]:
    """Parts and folds that tracks stand in; no part is no place."""
    parts = {track.split for track in tracks} - {""}
    return parts or {f"fold {track.fold}" for track in tracks if track.fold is not None}


def _across(tracks: Sequence[Track], key: Callable[[Track], str]) -> dict[str, tuple[str, ...]]:
    """Find what stands in several places; an empty key is nothing."""
    members: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        if name := key(track):
            members[name].append(track)

    places = {name: tuple(sorted(_places(own))) for name, own in sorted(members.items())}
    return {name: found for name, found in places.items() if len(found) > 1}


def _warnings(tracks: Sequence[Track]) -> Iterator[str]:
    """What makes scores say less than they seem to: few tracks, lopsided labels, unknown artists."""
    counts = Counter(label for track in tracks for label in track.labels)
    if len(counts) < 2:
        yield f"there is one label only: {', '.join(counts) or 'none'}"
    for label, count in sorted(counts.items()):
        if count < _FEW_TRACKS:
            yield f"{label!r} has {how_many(count, 'track')} only: its score will say little"

    yield from notes_on_labels(counts)
    if any(len(track.labels) != 1 for track in tracks):
        yield from _tag_warnings(tracks, counts)
    elif counts and max(counts.values()) > _LOPSIDED * min(counts.values()):
        yield (
            f"the largest label has {max(counts.values())} tracks, the smallest {min(counts.values())}: look at the "
            "macro F1, not at the accuracy, and consider class weights"
        )

    without = sum(not track.group for track in tracks)
    if without:
        yield f"{without} of {len(tracks)} tracks have no group (artist): whether theirs repeat is not known"


def _notes_on_short(tracks: Sequence[Track]) -> list[str]:
    """Name the tracks that are shorter than one segment, which silence would fill up."""
    lengths_s = in_threads(duration_s_of, tracks, reading_threads())
    short = []
    for track, length_s in zip(tracks, lengths_s, strict=True):
        if length_s is not None and length_s < SHORT_TRACK_S:
            short.append(f"{track.track_id} ({length_s:.2f} s)")
    if not short:
        return []

    are = "is" if len(short) == 1 else "are"
    return [
        f"{len(short)} of {len(tracks)} tracks {are} shorter than {SHORT_TRACK_S:g} s, a usual segment, and say "
        f"little of a genre: {shortened(short, _SHOWN_SHORT)}"
    ]


def _tag_warnings(tracks: Sequence[Track], counts: Mapping[str, int]) -> Iterator[str]:
    """What makes scores of several labels a track untrue: parts without a tag, pairs that are one tag or too rare."""
    if untagged := sum(not track.labels for track in tracks):
        yield f"{untagged} of {len(tracks)} tracks have no tag at all"

    for part in PARTS:
        own = [track for track in tracks if track.split == part]
        present = {label for track in own for label in track.labels}
        if own and (never := [label for label in sorted(counts) if label not in present]):
            found = "1 tag has" if len(never) == 1 else f"{len(never)} tags have"
            yield f"{found} no track in {part}, so no score there: {', '.join(never)}"

    pairs = Counter(pair for track in tracks for pair in combinations(sorted(track.labels), 2))
    rare = sum(count < _FEW_TRACKS for count in pairs.values())
    if rare:
        yield (
            f"{rare} of {len(pairs)} pairs of tags that occur together do so in fewer than {_FEW_TRACKS} tracks: a "
            "result on combinations of tags will say little"
        )
    for (one, other), both in sorted(pairs.items()):
        if both >= max(_FEW_TRACKS, _SAME_TAG * (counts[one] + counts[other] - both)):
            yield f"{one!r} and {other!r} nearly always occur together ({both} tracks): two scores, one tag"


def _ids(tracks: Sequence[Track]) -> tuple[str, ...]:
    return tuple(track.track_id for track in tracks)
