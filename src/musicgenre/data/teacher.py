"""Soft targets from a teacher: the answers of a tagger, as ``musicgenre classify`` writes them, into a manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from musicgenre._files import parsed_json
from musicgenre.data.manifest import Manifest
from musicgenre.data.targets import TARGET_PREFIX
from musicgenre.errors import DataError

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
