"""The tracks to teach from (a folder a genre, or a manifest), and what is heard of them, kept in the cache."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre._files import cache_folder, sha256_of, write_bytes_atomic
from musicgenre.errors import AudioError, DataError
from musicgenre.listening.answer import UNSURE
from musicgenre.listening.classifier import Classifier

Float32 = NDArray[np.float32]


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


def gather_lessons(source: Path) -> tuple[tuple[Lesson, ...], tuple[str, ...]]:
    """List the tracks to teach from.

    Parameters
    ----------
    source : Path
        A folder with one folder a genre (searched recursively), or a manifest CSV with the columns ``path``, ``label``
        and optionally ``group``.

    Returns
    -------
    (lessons, warnings)

    Raises
    ------
    DataError
        When there is nothing to learn from, fewer than two genres, or one that cannot be a genre.
    """
    if source.is_dir():
        lessons, warnings = _from_folder(source)
    elif source.suffix.lower() == ".csv":
        lessons, warnings = _from_manifest(source)
    else:
        raise DataError(
            f"{source} is neither a folder nor a manifest",
            valid="a folder with one folder of tracks a genre, or a CSV with the columns path and label",
        )
    labels = sorted({lesson.label for lesson in lessons})
    if UNSURE in labels:
        raise DataError(f"a genre cannot be called {UNSURE!r}: that is the answer where none is likely enough")
    if len(labels) < 2:
        raise DataError(
            f"{source} holds {'only the genre ' + repr(labels[0]) if labels else 'no tracks'}",
            valid="tracks of two genres or more",
            next_step="Put the tracks into one folder a genre, or name their genre in the column label",
        )
    return lessons, warnings


def hear_lessons(
    lessons: Sequence[Lesson],
    classifier: Classifier,
    *,
    jobs: int = 1,
    cache_key: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[HeardLesson, ...], tuple[tuple[Path, str], ...]]:
    """Hear all lessons; what was heard before under the same key comes from the cache.

    Parameters
    ----------
    lessons : sequence of Lesson
    classifier : Classifier
        Hears the tracks.
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
    folder = cache_folder() / "heard" / cache_key if cache_key else None
    results: dict[int, HeardLesson | str] = {}
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="teach")
    try:
        waiting: dict[Future[HeardLesson | str], int] = {
            pool.submit(_hear, lesson, classifier, folder): number for number, lesson in enumerate(lessons)
        }
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                results[waiting.pop(future)] = future.result()
                progress(len(results), len(lessons))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    ordered = [results[number] for number in range(len(lessons))]
    heard = tuple(result for result in ordered if isinstance(result, HeardLesson))
    failures = (
        (lesson.path, result) for lesson, result in zip(lessons, ordered, strict=True) if isinstance(result, str)
    )
    return heard, tuple(failures)


def _from_folder(folder: Path) -> tuple[tuple[Lesson, ...], tuple[str, ...]]:
    genres = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    lessons, warnings = [], []
    for genre in genres:
        files = list(audio.find_audio_files(genre))
        lessons += [Lesson(file, audio.printable(genre.name)) for file in files]
        if not files:
            warnings.append(f"the folder {genre.name!r} holds no sound files: it is no genre of this model")
    loose = [p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in audio.AUDIO_SUFFIXES]
    if loose:
        warnings.append(f"{len(loose)} files beside the genre folders are left out: they have no genre")
    return tuple(lessons), tuple(warnings)


def _from_manifest(path: Path) -> tuple[tuple[Lesson, ...], tuple[str, ...]]:
    from musicgenre.data.manifest import read_manifest

    tracks = read_manifest(path).tracks
    originals = [track for track in tracks if not track.augmented]
    lessons = tuple(Lesson(track.path, track.label, track.group) for track in originals)
    copies = len(tracks) - len(originals)
    return lessons, (f"{copies} augmented rows are left out",) if copies else ()


def _hear(lesson: Lesson, classifier: Classifier, folder: Path | None) -> HeardLesson | str:
    """Hear one lesson, or say why it cannot be heard."""
    try:
        if not lesson.path.is_file():
            audio.probe(lesson.path)  # knows how to say what is wrong with it
        content = sha256_of(lesson.path)
        kept = folder / f"{content}.npz" if folder else None
        found = _read_kept(kept) if kept else None
        if found is None:
            outputs, warnings = classifier.hear(lesson.path)
            found = outputs["embedding"].astype(np.float32), warnings
            if kept:
                with suppress(OSError):  # a cache that is full or read-only costs time, not the lesson
                    _keep(kept, *found)
    except AudioError as error:
        return str(error)
    except OSError as error:
        return f"{audio.printable(lesson.path)}: the file could not be read ({error.strerror or error})."
    return HeardLesson(lesson, content, *found)


def _read_kept(path: Path) -> tuple[Float32, tuple[str, ...]] | None:
    """Read what was heard before; a file that is damaged counts as not there."""
    try:
        with np.load(path) as arrays:
            embedding, warnings = arrays["embedding"], arrays["warnings"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if embedding.ndim != 2 or not len(embedding) or not np.isfinite(embedding).all():
        return None
    return embedding.astype(np.float32), tuple(str(warning) for warning in warnings)


def _keep(path: Path, embedding: Float32, warnings: tuple[str, ...]) -> None:
    content = io.BytesIO()
    np.savez(content, embedding=embedding, warnings=np.array(warnings, dtype=np.str_))
    write_bytes_atomic(path, content.getvalue())


def key_of(*parts: object) -> str:
    """Short name for a combination of settings, the same on every machine."""
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8")).hexdigest()[:16]
