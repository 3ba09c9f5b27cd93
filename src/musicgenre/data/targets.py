"""Targets of tagging: what a manifest says about every tag of every track.

A tag is 1 where the column ``labels`` lists it, unknown (NaN) where the column ``unknown`` lists it, and 0 elsewhere.
Soft targets, as the answers of another model, stand in numeric columns named ``target:TAG`` instead: from 0 to 1,
empty or ``nan`` where unknown.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import parsed_json
from musicgenre.data.manifest import Manifest, Track, listed
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


_SEPARATOR = ";"
_HOW = "musicgenre classify FOLDER --model msd-musicnn --top 1000 --output answers.jsonl"


def with_teacher(manifest: Manifest, answers: Path) -> Manifest:
    """Give every track the columns ``target:TAG`` with what a tagger said of it.

    Parameters
    ----------
    manifest : Manifest
        The tracks.
    answers : Path
        JSON lines of ``musicgenre classify``; their paths are relative to the working folder.

    Raises
    ------
    DataError
        A damaged file, answers without tags or with different ones, or a track without an answer.
    """
    said = _read(answers)
    tags = sorted({tag for scores in said.values() for tag in scores})
    if short := [path for path, scores in said.items() if len(scores) < len(tags)]:
        raise DataError(
            f"{answers} names {len(said[short[0]])} of {len(tags)} tags for {short[0]}",
            valid="every tag for every track",
            next_step=f"Ask for all of them: {_HOW}",
        )
    missing = [track.track_id for track in manifest.tracks if _spelt(track.path) not in said]
    if missing:
        raise DataError(
            f"{answers} has no answer for {len(missing)} of {len(manifest)} tracks ({missing[0]} is one)",
            next_step="Classify the same files, from the folder in which this command is run",
        )
    return manifest.with_tracks(
        track.with_columns(**{TARGET_PREFIX + tag: f"{said[_spelt(track.path)][tag]:.6g}" for tag in tags})
        for track in manifest.tracks
    )


def _read(path: Path) -> Mapping[str, Mapping[str, float]]:
    """Tags by absolute path; failed tracks are left out."""
    try:
        records = [parsed_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        told = [(_spelt(record["path"]), dict(record["tags"])) for record in records if record["error"] is None]
        _check(told)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", next_step=f"Make it with: {_HOW}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} holds no answers of musicgenre classify ({error})", valid="JSON lines", next_step=_HOW
        ) from error
    if not any(scores for _, scores in told):
        raise DataError(f"{path} names no tags", next_step=f"Ask a tagger: {_HOW}")
    return dict(told)


def _check(told: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    """Raise ValueError where the answers cannot be targets."""
    twice = [path for path, count in Counter(path for path, _ in told).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is answered twice")
    for path, scores in told:
        for tag, score in scores.items():
            if not tag or _SEPARATOR in tag:
                raise ValueError(f"the tag {tag!r} of {path}")
            if not 0.0 <= float(score) <= 1.0:  # NaN is outside too
                raise ValueError(f"{tag} is {score} for {path}, which is not from 0 to 1")


def _spelt(path: str | Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
