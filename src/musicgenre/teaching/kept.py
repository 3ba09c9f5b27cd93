"""What was heard for a taught head, kept beside it, so that tracks can be added without hearing the old ones again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import replacing
from musicgenre._json import parsed_json
from musicgenre._npz import read_whole_npz
from musicgenre.errors import DataError, UsageError
from musicgenre.listening.framing import Coverage
from musicgenre.models.head import GenreHead, heard_path
from musicgenre.teaching.lessons import HeardLesson, Lesson

CARD_KEY = "heard_sha256"
"""Where a head's card holds the checksum of what it was fitted on."""

_ARRAYS = {"settings", "paths", "labels", "groups", "contents", "counts", "embeddings"}


@dataclass(frozen=True, slots=True, eq=False)
class KeptLessons:
    """What a head was fitted on.

    Parameters
    ----------
    lessons : tuple of HeardLesson
        The tracks as they were heard; what was noticed on the way is not kept.
    coverage : Coverage
        How much of each was heard.
    ears_sha256 : str
        Checksum of the bundle that heard them.
    """

    lessons: tuple[HeardLesson, ...]
    coverage: Coverage
    ears_sha256: str

    def checksum(self) -> str:
        """SHA-256 of all that a fit depends on; names of files are no part of it."""
        digest = hashlib.sha256(self.settings().encode())
        for item in self.lessons:
            digest.update(json.dumps([item.content, item.lesson.label, item.lesson.group]).encode())
            digest.update(np.ascontiguousarray(item.embedding, dtype="<f4").tobytes())
        return digest.hexdigest()

    def settings(self) -> str:
        """How they were heard, as JSON; no limit is null."""
        limit_s = self.coverage.max_duration_s
        values = {
            "coverage_s": self.coverage.seconds,
            "max_duration_s": limit_s if math.isfinite(limit_s) else None,
            "ears_sha256": self.ears_sha256,
        }
        return json.dumps(values, sort_keys=True)

    def save(self, path: Path) -> None:
        """Write them to a file, atomically; some 8 kB a track of 30 s of MusiCNN."""
        lessons = [item.lesson for item in self.lessons]
        arrays: dict[str, Any] = {
            "settings": np.frombuffer(self.settings().encode(), dtype=np.uint8),
            "paths": np.array([str(lesson.path.absolute()) for lesson in lessons], dtype=np.str_),
            "labels": np.array([lesson.label for lesson in lessons], dtype=np.str_),
            "groups": np.array([lesson.group for lesson in lessons], dtype=np.str_),
            "contents": np.array([item.content for item in self.lessons], dtype=np.str_),
            "counts": np.array([len(item.embedding) for item in self.lessons], dtype=np.int64),
            "embeddings": np.concatenate([item.embedding for item in self.lessons], dtype=np.float32),
        }
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)


def read_kept(path: Path, head: GenreHead) -> KeptLessons:
    """Read what was heard for the taught head at `path`.

    Raises
    ------
    DataError
        When it is not there, damaged, or not what this head was fitted on.
    """
    place = heard_path(path)
    arrays = read_whole_npz(place)
    if arrays is None or not arrays.keys() >= _ARRAYS:
        state = "is damaged" if place.is_file() else "is not there: deleted, or the model is older than such files"
        raise _not_to_be_added_to(head, f"{place} {state}")

    try:
        kept = _kept_from(arrays)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise _not_to_be_added_to(head, f"{place} is damaged: {error}") from error
    if kept.checksum() != head.card.get(CARD_KEY):
        raise _not_to_be_added_to(head, f"{place} holds other tracks than the model was fitted on")
    return kept


def with_new(old: Sequence[HeardLesson], new: Sequence[HeardLesson]) -> tuple[tuple[HeardLesson, ...], list[str]]:
    """Put new tracks behind old ones; of a file that is in both, what is said of it now counts. With warnings."""
    said = {item.content: item.lesson.label for item in new}
    kept = [item for item in old if item.content not in said]

    moved = []
    for item in old:
        label = said.get(item.content, item.lesson.label)
        if label != item.lesson.label:
            moved.append(f"{item.lesson.path.name} was {item.lesson.label} and is {label} from now on")
    return (*kept, *new), moved


def _kept_from(arrays: dict[str, Any]) -> KeptLessons:
    """Put arrays together again; what does not fit is one of the errors that `read_kept` knows."""
    settings = parsed_json(arrays["settings"].tobytes())
    limit_s = settings["max_duration_s"]
    coverage = Coverage.parse(settings["coverage_s"], math.inf if limit_s is None else limit_s)

    counts, embeddings = arrays["counts"], arrays["embeddings"]
    columns = [arrays[name] for name in ("paths", "labels", "groups", "contents")]
    if embeddings.ndim != 2 or {column.shape for column in columns} != {counts.shape} or (counts < 1).any():
        raise ValueError(f"{len(counts)} tracks, and arrays of other lengths")
    if counts.sum() != len(embeddings) or not np.isfinite(embeddings).all():
        raise ValueError(f"{len(embeddings)} segments, and {counts.sum()} of the tracks")

    lessons = []
    parts = np.split(embeddings.astype(np.float32), np.cumsum(counts)[:-1])
    for path, label, group, content, part in zip(*columns, parts, strict=True):
        lessons.append(HeardLesson(Lesson(Path(path), str(label), str(group)), str(content), part, ()))
    return KeptLessons(tuple(lessons), coverage, str(settings["ears_sha256"]))


def _not_to_be_added_to(head: GenreHead, why: str) -> DataError:
    return DataError(
        f"nothing can be added to {head.name}: what was heard for it cannot be had ({why})",
        next_step=f"Teach it all of its tracks again: musicgenre teach FOLDER --name {head.name} --overwrite",
    )
