"""Targets of tagging: what a manifest says about every tag of every track.

A tag is 1 where the column `labels` lists it, unknown (NaN) where the column `unknown` lists it, and 0 elsewhere.
Soft targets, as the answers of another model, stand in numeric columns named `target:TAG` instead: from 0 to 1,
empty or `nan` where unknown.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from musicgenre._json import parsed_json
from musicgenre.data.manifest import Manifest, Track, split_names
from musicgenre.errors import DataError

TargetSource = Literal["labels", "columns"]
UNKNOWN_COLUMN = "unknown"
TARGET_PREFIX = "target:"
_TAG_SEPARATOR = ";"
_CLASSIFY = "musicgenre classify FOLDER --model msd-musicnn --top 1000 --output answers.jsonl"

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class TagRows:
    """Targets of rows that share them track by track, so that many segments of a track cost nothing.

    Parameters
    ----------
    table : ndarray of float32, shape (n_tracks, n_tags)
        From 0 to 1; NaN where unknown.
    track_of : ndarray of int64, shape (n_rows,)
        Row of `table` that each row has.
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
        Names of the columns of `table`.
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
        `labels`: the columns `labels` and `unknown`; `columns`: the columns `target:TAG`.
    tags : sequence of str
        The tags, in the order of the outputs; empty: all that occur, sorted.

    Raises
    ------
    DataError
        A tag that no track has, an unknown tag, a target that is no number from 0 to 1.
    """
    present, absence = manifest.labels, "no tag on any track"
    if source == "columns":
        columns = [name for name in manifest.extra_columns if name.startswith(TARGET_PREFIX)]
        present = tuple(sorted(name.removeprefix(TARGET_PREFIX) for name in columns))
        absence = f"no column {TARGET_PREFIX}TAG"
    if not present:
        raise DataError(f"the manifest has {absence}", next_step="See docs/tagging.md for how a manifest lists tags")

    chosen = tuple(tags) or present
    missing = [repr(tag) for tag in chosen if tag not in present]
    if missing:
        raise DataError(f"no track has the tag {', '.join(missing)}", valid=f"Tags are {', '.join(present)}")
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise DataError(f"the tags are {', '.join(chosen)}", valid="two different tags at least")

    # an unknown tag is never taken for 0: NaN keeps it out of losses and scores
    table = []
    for track in manifest.tracks:
        if source == "columns":
            table.append([_degree(track, TARGET_PREFIX + tag) for tag in chosen])
        else:
            table.append(_facts(track, chosen, present))
    track_ids = tuple(track.track_id for track in manifest.tracks)
    return Targets(chosen, track_ids, np.array(table, np.float32), source == "columns")


def unknown_tags(track: Track) -> tuple[str, ...]:
    """Tags of a track whose value is not known."""
    return split_names(track.columns.get(UNKNOWN_COLUMN, ""))


def with_teacher(manifest: Manifest, answers: Path) -> Manifest:
    """Give every track the columns `target:TAG` with what a tagger said of it.

    Parameters
    ----------
    manifest : Manifest
        The tracks.
    answers : Path
        JSON lines of `musicgenre classify`; their paths are relative to the working folder.

    Raises
    ------
    DataError
        A damaged file, answers without tags or with different ones, or a track without an answer.
    """
    scores_of = _read_answers(answers)
    tags = sorted(set().union(*scores_of.values()))
    for path, scores in scores_of.items():
        if len(scores) < len(tags):
            raise DataError(
                f"{answers} names {len(scores)} of {len(tags)} tags for {path}",
                valid="every tag for every track",
                next_step=f"Ask for all of them: {_CLASSIFY}",
            )

    missing = [track.track_id for track in manifest.tracks if _absolute(track.path) not in scores_of]
    if missing:
        raise DataError(
            f"{answers} has no answer for {len(missing)} of {len(manifest)} tracks ({missing[0]} is one)",
            next_step="Classify the same files, from the folder in which this command is run",
        )

    tracks = []
    for track in manifest.tracks:
        scores = scores_of[_absolute(track.path)]
        tracks.append(track.with_columns(**{TARGET_PREFIX + tag: f"{scores[tag]:.6g}" for tag in tags}))
    return manifest.with_tracks(tracks)


def _facts(track: Track, tags: Sequence[str], present: Sequence[str]) -> list[float]:
    """Targets of a track from its labels: 1, 0, or NaN where it is unknown."""
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


def _degree(track: Track, column: str) -> float:
    """Soft target of a track from one column: from 0 to 1, or NaN where it is unknown."""
    cell = track.columns.get(column, "").strip()
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        value = math.inf  # what is no number is as wrong as one out of range

    if value < 0 or value > 1:
        raise DataError(
            f"the track {track.track_id} has {cell!r} in the column {column}",
            valid="A number from 0 to 1, or empty where unknown",
        )
    return value


def _read_answers(path: Path) -> Mapping[str, Mapping[str, float]]:
    """Read the scores of tags by absolute path; tracks that could not be heard are left out."""
    scores_of: dict[str, dict[str, float]] = {}
    try:
        for line in path.read_text(encoding="utf-8").split("\n"):
            if not line.strip():
                continue
            record = parsed_json(line)
            if record["error"] is not None:
                continue

            track_path = _absolute(record["path"])
            if track_path in scores_of:
                raise ValueError(f"{track_path} is answered twice")
            scores_of[track_path] = {}
            for tag, score in dict(record["tags"]).items():
                if not tag or _TAG_SEPARATOR in tag:  # it could not stand in a manifest
                    raise ValueError(f"the tag {tag!r} of {track_path}")
                if not 0.0 <= float(score) <= 1.0:  # NaN is outside too
                    raise ValueError(f"{tag} is {score} for {track_path}, which is not from 0 to 1")
                scores_of[track_path][tag] = float(score)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", next_step=f"Make it with: {_CLASSIFY}") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(
            f"{path} holds no answers of musicgenre classify ({error})", valid="JSON lines", next_step=_CLASSIFY
        ) from error

    if not any(scores_of.values()):
        raise DataError(f"{path} names no tags", next_step=f"Ask a tagger: {_CLASSIFY}")
    return scores_of


def _absolute(path: str | Path) -> str:
    """Return the one spelling under which a file is found again."""
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
