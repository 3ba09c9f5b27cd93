"""Hear many tracks: several at a time, one bad file never stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from musicgenre._parallel import in_threads, usable_cores
from musicgenre.audio import as_audio_error, naming
from musicgenre.errors import AudioError
from musicgenre.listening.answer import Answer


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
            "reason": None,
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

    Returns
    -------
    (jobs, threads) : tuple of int
    """
    cores = usable_cores()
    if jobs is None:
        jobs = max(1, min(cores, n_tracks))
    if threads is None:
        threads = max(1, cores // jobs)
    return jobs, threads


def hear_many(
    paths: Iterable[str], hear: Callable[[str], Heard], *, jobs: int = 1
) -> Generator[Heard | Failure, None, None]:
    """Do something with every track, in the given order, `jobs` at a time.

    Parameters
    ----------
    paths : iterable of str
        The tracks. Read lazily: no more than a few are in flight.
    hear : callable
        What is done with a track, such as `Classifier().classify`; called from several threads.
    jobs : int
        Tracks at a time.

    Yields
    ------
    Failure, or what `hear` returned
        One a path. Errors that concern one file become a Failure; anything else is raised.
    """

    def hear_one(path: str) -> Heard | Failure:
        try:
            with as_audio_error(path):
                return naming(path, lambda: hear(path))
        except AudioError as error:
            return Failure(path, str(error))

    yield from in_threads(hear_one, paths, jobs)
