"""The tracks to teach from (a folder per genre, or a manifest), and what is heard of them, kept in the cache."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre._files import cache_folder, is_file, remove_stale, replacing, sha256_of
from musicgenre._npz import read_whole_npz
from musicgenre._parallel import in_threads
from musicgenre._text import how_many, printable
from musicgenre.data.labels import notes_on_labels, tidy_label
from musicgenre.errors import AudioError, DataError
from musicgenre.listening.answer import UNSURE

Float32 = NDArray[np.float32]

_KEY_DIGITS = 16
_TEMPORARY = (".*.npz.*.tmp",)
_STALE_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """A track whose genre is known.

    Parameters
    ----------
    path : Path
        The file.
    label : str
        Its genre.
    group : str
        What must not stand on both sides of a test, usually the artist; empty for a track of its own.
    """

    path: Path
    label: str
    group: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class HeardLesson:
    """A lesson with what the network heard.

    Parameters
    ----------
    lesson : Lesson
    content : str
        SHA-256 of the file.
    embedding : ndarray, shape (n_segments, width)
        Penultimate embedding of the heard segments.
    warnings : tuple of str
        What was noticed on the way.
    """

    lesson: Lesson
    content: str
    embedding: Float32
    warnings: tuple[str, ...]


class LessonHearer(Protocol):
    """What hears lessons: a `musicgenre.Classifier`, or a network's ear without one."""

    def hear(self, path: Path, /) -> tuple[dict[str, Float32], tuple[str, ...]]:
        """Give the network's outputs, one row a heard segment, by name, and what was noticed.

        Raises
        ------
        AudioError
            When the file cannot be heard.
        """
        ...


def gather_lessons(source: Path, *, fewest_labels: int = 2) -> tuple[tuple[Lesson, ...], tuple[str, ...]]:
    """List the tracks to teach from.

    Parameters
    ----------
    source : Path
        A folder with one folder per genre (searched recursively), or a manifest CSV with the columns `path`, `label`
        and optionally `group`.
    fewest_labels : int
        Genres below which there is nothing to learn; tracks that are added to others may be of one.

    Returns
    -------
    (lessons, warnings)

    Raises
    ------
    DataError
        When there is nothing to learn from, too few genres, or one that cannot be a genre.
    """
    lessons: list[Lesson] = []
    warnings: list[str] = []
    if source.is_dir():
        # Folders and files of which the genre cannot be known, or that teach nothing, are named.
        n_loose = 0
        for path in sorted(source.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                files = list(audio.find_audio_files(path))
                # A blank that does not break is a blank to a person; other characters of that kind are to be seen.
                label = tidy_label(printable(path.name.replace("\u00a0", " ")))
                if label:
                    lessons += [Lesson(file, label) for file in files]
                else:
                    warnings.append(f"the folder {path.name!r} is left out: its name cannot be a genre")
                if not files:
                    warnings.append(f"the folder {path.name!r} holds no sound files: it is no genre of this model")
            elif is_file(path) and path.suffix.lower() in audio.AUDIO_SUFFIXES:
                n_loose += 1
        if n_loose:
            are = "is left out: it has" if n_loose == 1 else "are left out: they have"
            warnings.append(f"{how_many(n_loose, 'file')} beside the genre folders {are} no genre")

    elif source.suffix.lower() == ".csv":
        from musicgenre.data.manifest import read_manifest

        # Changed copies sound like their originals: a test on one after learning from the other would flatter.
        tracks = read_manifest(source).tracks
        originals = [track for track in tracks if not track.augmented]
        lessons = [Lesson(track.path, tidy_label(track.label), track.group) for track in originals]
        if len(originals) < len(tracks):
            warnings.append(f"{len(tracks) - len(originals)} augmented rows are left out")

    else:
        raise DataError(
            f"{source} is neither a folder nor a manifest",
            valid="a folder with one folder of tracks a genre, or a CSV with the columns path and label",
        )

    labels = sorted({lesson.label for lesson in lessons})
    if UNSURE in labels:
        raise DataError(f"a genre cannot be called {UNSURE!r}: that is the answer where none is likely enough")
    if len(labels) < fewest_labels:
        only = f"only the genre {labels[0]!r}" if labels else "no tracks"
        raise DataError(
            f"{source} holds {only}",
            valid="tracks of two genres or more",
            next_step="Put the tracks into one folder per genre, or name their genre in the column label",
        )
    warnings += notes_on_labels(Counter(lesson.label for lesson in lessons))
    return tuple(lessons), tuple(warnings)


def hear_lessons(
    lessons: Sequence[Lesson],
    hearer: LessonHearer,
    *,
    jobs: int = 1,
    cache_key: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[HeardLesson, ...], tuple[tuple[Path, str], ...]]:
    """Hear all lessons; what was heard before under the same key comes from the cache.

    Parameters
    ----------
    lessons : sequence of Lesson
    hearer : LessonHearer
        Hears the tracks; called from several threads.
    jobs : int
        Tracks at a time.
    cache_key : str
        Names what the embeddings depend on besides the file: network and coverage. Empty: no cache.
    progress : callable
        Told (tracks done, tracks in all).

    Returns
    -------
    (heard, failures)
        In the order of the lessons; a failure is a path with its reason.
    """
    folder = None
    if cache_key:
        folder = cache_folder() / "heard" / cache_key
        remove_stale(folder, _TEMPORARY, older_than_s=_STALE_S)
    heard: list[HeardLesson] = []
    failures: list[tuple[Path, str]] = []
    with closing(in_threads(lambda lesson: _hear(lesson, hearer, folder), lessons, jobs)) as results:
        for done, (lesson, result) in enumerate(zip(lessons, results, strict=True), start=1):
            if isinstance(result, HeardLesson):
                heard.append(result)
            else:
                failures.append((lesson.path, result))
            progress(done, len(lessons))
    return tuple(heard), tuple(failures)


def key_of(*parts: object) -> str:
    """Short name for a combination of settings, the same on every machine."""
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8")).hexdigest()[:_KEY_DIGITS]


def _hear(lesson: Lesson, hearer: LessonHearer, folder: Path | None) -> HeardLesson | str:
    """Hear one lesson, or say why it cannot be heard."""
    try:
        with audio.as_audio_error(lesson.path):
            if not is_file(lesson.path):
                audio.probe(lesson.path)  # knows how to say what is wrong with it
            content = sha256_of(lesson.path)

            # The content is the key, whatever the file is called now.
            kept = folder / f"{content}.npz" if folder else None
            found = _read_kept(kept) if kept else None
            if found is not None:
                return HeardLesson(lesson, content, *found)
            outputs, warnings = hearer.hear(lesson.path)
    except AudioError as error:
        return str(error)

    embedding = outputs["embedding"].astype(np.float32)
    if kept:
        stream = io.BytesIO()
        np.savez(stream, embedding=embedding, warnings=np.array(warnings, dtype=np.str_))
        # A cache that is full or read-only costs time, not the lesson.
        with suppress(OSError), replacing(kept, tidy=False, durable=False) as temporary:
            temporary.write_bytes(stream.getvalue())
    return HeardLesson(lesson, content, embedding, warnings)


def _read_kept(path: Path) -> tuple[Float32, tuple[str, ...]] | None:
    """Read what was heard before, embeddings (n_segments, width) and warnings; None where damaged or not there."""
    arrays = read_whole_npz(path)
    if arrays is None or not {"embedding", "warnings"} <= arrays.keys():
        return None
    embedding, warnings = arrays["embedding"], arrays["warnings"]
    if embedding.ndim != 2 or not len(embedding) or not np.isfinite(embedding).all():
        return None
    return embedding.astype(np.float32), tuple(str(warning) for warning in warnings)
