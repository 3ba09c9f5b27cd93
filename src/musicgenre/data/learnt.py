"""What a model learnt from, so that it is never scored on that again: tracks, their content and their artists.

The names themselves stay with whoever trained: a model that travels carries a short hash of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from musicgenre._parallel import in_threads, reading_threads
from musicgenre.data.index import track_md5
from musicgenre.data.manifest import Track
from musicgenre.errors import DataError

Likeness = Literal["the same track", "the same content", "the same artist"]
"""How a track is among what a model learnt from, the gravest first."""

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
        MD5 of their files, in the same order; empty where not known.
    groups : tuple of str
        Artists.
    """

    tracks: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, tracks: Iterable[Track]) -> LearntFrom:
        """Note tracks; copies that augmentation made count as their originals."""
        originals = {track.source_id: track for track in tracks if not track.augmented}
        known = [originals[name] for name in sorted(originals)]
        return cls(
            tuple(_hash(track.track_id) for track in known),
            tuple(_hash(mark) if mark else "" for mark in contents_of(known)),
            tuple(sorted({_hash(_tidy(track.group)) for track in known if track.group})),
        )

    @classmethod
    def together(cls, several: Sequence[LearntFrom]) -> LearntFrom:
        """All that any of several models learnt from."""
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
        return cls(*columns)

    def as_values(self) -> dict[str, list[str]]:
        """Plain values, fit for JSON; nothing where there is nothing."""
        if not self.tracks:
            return {}
        return {"tracks": list(self.tracks), "contents": list(self.contents), "groups": list(self.groups)}

    def find(self, tracks: Sequence[Track]) -> dict[str, Likeness]:
        """Name the tracks that were learnt from, or whose content or artist was, and how they are alike.

        A name alone tells nothing where both contents are known and differ: every collection has a `01`.
        """
        content_of = dict(zip(self.tracks, self.contents, strict=True))
        contents, groups = set(self.contents) - {""}, set(self.groups)
        found: dict[str, Likeness] = {}
        for track, mark in zip(tracks, contents_of(tracks), strict=True):
            name, content = _hash(track.source_id), _hash(mark) if mark else ""
            if content and content in contents:
                found[track.track_id] = "the same content"
            elif name in content_of and not (content and content_of[name]):
                found[track.track_id] = "the same track"
            elif track.group and _hash(_tidy(track.group)) in groups:
                found[track.track_id] = "the same artist"
        return found


def contents_of(tracks: Sequence[Track]) -> list[str]:
    """MD5 of each track's file, from the manifest's column or the file; empty where neither is there."""
    marks = [track.columns.get("md5", "").lower() for track in tracks]
    unread = []
    for number, track in enumerate(tracks):
        if not marks[number] and track.path.suffix.lower() not in _TABLES:
            unread.append(number)
    digests = in_threads(track_md5, [tracks[number] for number in unread], reading_threads())
    for number, digest in zip(unread, digests, strict=True):
        marks[number] = digest if isinstance(digest, str) else ""  # a file that is gone has none
    return marks


def _tidy(name: str) -> str:
    """Spell an artist as all lists do: one case, single blanks."""
    return " ".join(name.casefold().split())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_N_DIGITS]
