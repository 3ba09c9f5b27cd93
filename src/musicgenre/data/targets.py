"""Targets of tagging: what a manifest says about every tag of every track.

A tag is 1 where the column ``labels`` lists it, unknown (NaN) where the column ``unknown`` lists it, and 0 elsewhere.
Soft targets, as the answers of another model, stand in numeric columns named ``target:TAG`` instead: from 0 to 1,
empty or ``nan`` where unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from musicgenre.data._manifest_rows import listed
from musicgenre.data.manifest import Manifest, Track
from musicgenre.errors import DataError

TargetSource = Literal["labels", "columns"]
UNKNOWN_COLUMN = "unknown"
TARGET_PREFIX = "target:"

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class TagRows:
    """Targets of rows that share them track by track, so that many segments of a track cost nothing.

    Parameters
    ----------
    table : ndarray of float32, shape (n_tracks, n_tags)
        From 0 to 1; NaN where unknown.
    track_of : ndarray of int64, shape (n_rows,)
        Row of ``table`` that each row has.
    soft : bool
        Whether values between 0 and 1 are meant: degrees, not facts.
    """

    table: Float32
    track_of: NDArray[np.int64]
    soft: bool = False

    def __len__(self) -> int:
        return len(self.track_of)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Float32:
        """Targets of some rows, shape (n, n_tags)."""
        return self.table[self.track_of[rows]]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> TagRows:
        """Choose rows; the table is shared."""
        return TagRows(self.table, self.track_of[rows], self.soft)


@dataclass(frozen=True)
class Targets:
    """Targets of all tracks of a manifest.

    Parameters
    ----------
    tags : tuple of str
        Names of the columns of ``table``.
    track_ids : tuple of str
        Names of its rows.
    table : ndarray of float32, shape (n_tracks, n_tags)
        From 0 to 1; NaN where unknown.
    soft : bool
        Whether values between 0 and 1 are meant.
    """

    tags: tuple[str, ...]
    track_ids: tuple[str, ...]
    table: Float32
    soft: bool = False

    def of_rows(self, track_ids: NDArray[np.str_]) -> TagRows:
        """Find the targets of rows by the ids of their tracks, shape (n_rows,)."""
        position = {track_id: row for row, track_id in enumerate(self.track_ids)}
        return TagRows(self.table, np.array([position[str(name)] for name in track_ids], np.int64), self.soft)


def tag_targets(manifest: Manifest, source: TargetSource = "labels", tags: Sequence[str] = ()) -> Targets:
    """Read the targets of all tracks from a manifest.

    Parameters
    ----------
    manifest : Manifest
        The tracks.
    source : {"labels", "columns"}
        ``labels``: the columns ``labels`` and ``unknown``; ``columns``: the columns ``target:TAG``.
    tags : sequence of str
        The tags, in the order of the outputs; empty: all that occur, sorted.

    Raises
    ------
    DataError
        A tag that no track has, an unknown tag, a target that is no number from 0 to 1.
    """
    present = _target_tags(manifest) if source == "columns" else manifest.labels
    chosen = tuple(tags) or present
    if not present:
        what = f"no column {TARGET_PREFIX}TAG" if source == "columns" else "no tag on any track"
        raise DataError(f"the manifest has {what}", next_step="See docs/tagging.md for how a manifest lists tags")
    if missing := [tag for tag in chosen if tag not in present]:
        raise DataError(
            f"no track has the tag {', '.join(map(repr, missing))}", valid=f"Tags are {', '.join(present)}"
        )
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise DataError(f"the tags are {', '.join(chosen)}", valid="two different tags at least")
    read = _from_columns if source == "columns" else _from_labels
    table = np.array([read(track, chosen, present) for track in manifest.tracks], np.float32)
    return Targets(chosen, tuple(track.track_id for track in manifest.tracks), table, source == "columns")


def unknown_tags(track: Track) -> tuple[str, ...]:
    """Tags of a track whose value is not known."""
    return listed(track.columns.get(UNKNOWN_COLUMN, ""))


def _target_tags(manifest: Manifest) -> tuple[str, ...]:
    names = (name for name in manifest.extra_columns if name.startswith(TARGET_PREFIX))
    return tuple(sorted(name.removeprefix(TARGET_PREFIX) for name in names))


def _from_labels(track: Track, tags: Sequence[str], present: Sequence[str]) -> list[float]:
    own, unknown = set(track.labels), set(unknown_tags(track))
    for tag in sorted(unknown):
        if tag not in present and tag not in tags:
            raise DataError(
                f"the track {track.track_id} has the unknown value of {tag!r}, a tag that no track has",
                valid=f"Tags are {', '.join(present)}",
                next_step=f"Correct the column {UNKNOWN_COLUMN}",
            )
        if tag in own:
            raise DataError(
                f"the track {track.track_id} has the tag {tag!r} and names it as unknown",
                valid=f"A tag stands in labels or in {UNKNOWN_COLUMN}, not in both",
            )
    return [math.nan if tag in unknown else float(tag in own) for tag in tags]


def _from_columns(track: Track, tags: Sequence[str], present: Sequence[str]) -> list[float]:
    return [_share(track, TARGET_PREFIX + tag) for tag in tags]


def _share(track: Track, column: str) -> float:
    cell = track.columns.get(column, "").strip()
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        value = math.inf
    if value < 0 or value > 1:
        raise DataError(
            f"the track {track.track_id} has {cell!r} in the column {column}",
            valid="A number from 0 to 1, or empty where unknown",
        )
    return value
