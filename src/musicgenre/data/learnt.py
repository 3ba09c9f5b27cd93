"""What a model learnt from, so that it is never scored on that again: tracks, their content and their artists.

The names themselves stay with whoever trained: a model that travels carries a short hash of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from musicgenre._files import md5_of, sha256_of
from musicgenre._parallel import in_threads, reading_threads
from musicgenre.data.manifest import Track
from musicgenre.errors import DataError

Likeness = Literal["the same track", "the same content", "the same artist"]
"""How a track is among what a model learnt from, the gravest first."""

Digest = Literal["md5", "sha256"]

_N_DIGITS = 12  # of a hash: of a million names two share one with a chance of 0.2 %
_TABLES = frozenset({".csv", ".tsv"})  # rows of a table have no sound of their own


@dataclass(frozen=True, slots=True)
class LearntFrom:
    """Hashes of what a model learnt from.

    Parameters
    ----------
    tracks : tuple of str
        Names of tracks.
    contents : tuple of str
        Checksums of their files, in the same order; empty where not known.
    groups : tuple of str
        Artists.
    digest : {"md5", "sha256"}
        What `contents` are hashes of.
    """

    tracks: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    digest: Digest = "md5"

    @classmethod
    def of(cls, tracks: Iterable[Track]) -> LearntFrom:
        """Note tracks; copies that augmentation made count as their originals."""
        originals = {track.source_id: track for track in tracks if not track.augmented}
        known = [originals[name] for name in sorted(originals)]
        names, groups = [track.track_id for track in known], [track.group for track in known]
        return cls.of_names(names, _contents_of(known, "md5"), groups)

    @classmethod
    def of_names(
        cls, tracks: Iterable[str], contents: Iterable[str], groups: Iterable[str], *, digest: Digest = "md5"
    ) -> LearntFrom:
        """Note tracks by name, checksum (empty where not known) and artist (empty for none)."""
        return cls(
            tuple(map(_hash, tracks)),
            tuple(_hash(content) if content else "" for content in contents),
            tuple(sorted({_hash(_tidy(group)) for group in groups if group})),
            digest,
        )

    @classmethod
    def together(cls, several: Sequence[LearntFrom]) -> LearntFrom:
        """All that any of several models learnt from; their checksums are of one kind."""
        contents: dict[str, str] = {}
        for one in several:
            for track, content in zip(one.tracks, one.contents, strict=True):
                contents[track] = content or contents.get(track, "")
        groups = {group for one in several for group in one.groups}
        return cls(tuple(contents), tuple(contents.values()), tuple(sorted(groups)))

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str) -> LearntFrom:
        """Take what `as_values` gave from a file that anybody may have written.

        Raises
        ------
        DataError
            It is something else.
        """
        columns = []
        for name in ("tracks", "contents", "groups"):
            texts = values.get(name, ())
            if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
                raise DataError(f"{where} is damaged: learnt_from.{name} is no list of hashes")
            columns.append(tuple(texts))
        if len(columns[0]) != len(columns[1]):
            raise DataError(
                f"{where} is damaged: learnt_from has {len(columns[0])} tracks, {len(columns[1])} contents"
            )
        digest = values.get("digest", "md5")
        if digest not in get_args(Digest):
            raise DataError(f"{where} is damaged: learnt_from has checksums of the kind {digest!r}")
        return cls(columns[0], columns[1], columns[2], digest)

    def as_values(self) -> dict[str, Any]:
        """Plain values, fit for JSON; nothing where there is nothing."""
        if not self.tracks:
            return {}
        columns = {"tracks": list(self.tracks), "contents": list(self.contents), "groups": list(self.groups)}
        return {**columns, "digest": self.digest}

    def find(self, tracks: Sequence[Track]) -> dict[str, Likeness]:
        """Name the tracks that were learnt from, or whose content or artist was, and how they are alike.

        A name alone tells nothing where both contents are known and differ: every collection has a `01`.
        """
        content_of = dict(zip(self.tracks, self.contents, strict=True))
        contents, groups = set(self.contents) - {""}, set(self.groups)
        found: dict[str, Likeness] = {}
        for track, mark in zip(tracks, _contents_of(tracks, self.digest), strict=True):
            name, content = _hash(track.source_id), _hash(mark) if mark else ""
            if content and content in contents:
                found[track.track_id] = "the same content"
            elif name in content_of and not (content and content_of[name]):
                found[track.track_id] = "the same track"
            elif track.group and _hash(_tidy(track.group)) in groups:
                found[track.track_id] = "the same artist"
        return found


def _contents_of(tracks: Sequence[Track], digest: Digest) -> list[str]:
    """Checksum of each track's file, MD5 from the manifest's column where it is there; empty without a file."""
    marks = [track.columns.get("md5", "").lower() if digest == "md5" else "" for track in tracks]
    unread = []
    for number, track in enumerate(tracks):
        if not marks[number] and track.path.suffix.lower() not in _TABLES and track.path.is_file():
            unread.append(number)

    checksum = md5_of if digest == "md5" else sha256_of
    sums = in_threads(checksum, [tracks[number].path for number in unread], reading_threads())
    for number, found in zip(unread, sums, strict=True):
        marks[number] = found
    return marks


def _tidy(name: str) -> str:
    """Spell an artist as all lists do: one case, single blanks."""
    return " ".join(name.casefold().split())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_N_DIGITS]
