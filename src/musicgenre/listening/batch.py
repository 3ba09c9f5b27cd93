"""Classify many tracks: several at a time, one bad file never stops the rest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from musicgenre.errors import AudioError
from musicgenre.listening.answer import Answer

_AHEAD_PER_JOB = 2  # tracks handed to the pool before the oldest is awaited


@dataclass(frozen=True, slots=True)
class Failure:
    """A track that could not be heard, and why."""

    path: str
    error: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values with the same keys as an answer's."""
        return {
            "path": self.path,
            "duration_s": None,
            "heard_s": None,
            "genre": None,
            "confidence": None,
            "candidates": [],
            "style": None,
            "scores": {},
            "tags": {},
            "warnings": [],
            "model": None,
            "error": self.error,
        }


Result = Answer | Failure
Heard = TypeVar("Heard")


def plan_threads(jobs: int | None, threads: int | None, n_tracks: int) -> tuple[int, int]:
    """Choose how many tracks run at a time and how many threads each may use.

    By default their product never exceeds the cores: one track gets all cores, many tracks get one core each.

    Parameters
    ----------
    jobs, threads : int or None
        What the user asked for; None leaves it to us.
    n_tracks : int
        How many tracks there are.
    """
    cores = available_cores()
    chosen_jobs = jobs if jobs is not None else max(1, min(cores, n_tracks))
    chosen_threads = threads if threads is not None else max(1, cores // chosen_jobs)
    return chosen_jobs, chosen_threads


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def classify_many(paths: Iterable[str], classify: Callable[[str], Answer], *, jobs: int = 1) -> Iterator[Result]:
    """Classify tracks, in the given order, ``jobs`` at a time.

    Parameters
    ----------
    paths : iterable of str
        The tracks. Read lazily: no more than a few are in flight.
    classify : callable
        Usually ``Classifier().classify``; called from several threads.
    jobs : int
        Tracks at a time.

    Yields
    ------
    Answer or Failure
        One a path. Errors that concern one file become a Failure; anything else is raised.
    """
    yield from hear_many(paths, classify, jobs=jobs)


def hear_many(
    paths: Iterable[str], hear: Callable[[str], Heard], *, jobs: int = 1
) -> Generator[Heard | Failure, None, None]:
    """Do something with every track, in the given order, ``jobs`` at a time.

    Parameters
    ----------
    paths : iterable of str
        The tracks. Read lazily: no more than a few are in flight.
    hear : callable
        What is done with a track; called from several threads.
    jobs : int
        Tracks at a time.

    Yields
    ------
    Failure, or what ``hear`` returned
        One a path. Errors that concern one file become a Failure; anything else is raised.
    """
    if jobs == 1:
        for path in paths:
            yield _one(path, hear)
        return
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="hear")
    waiting: deque[Future[Heard | Failure]] = deque()
    try:
        for path in paths:
            waiting.append(pool.submit(_one, path, hear))
            if len(waiting) >= jobs * _AHEAD_PER_JOB:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one(path: str, hear: Callable[[str], Heard]) -> Heard | Failure:
    try:
        return hear(path)
    except AudioError as error:
        return Failure(path, str(error))
    except MemoryError:
        return Failure(path, f"{path}: not enough memory to hear this file.")
    except OSError as error:
        return Failure(path, f"{path}: the file could not be read ({error.strerror or error}).")
