"""Plumbing of preparation for representations that hear several tracks at once: networks, above all.

Threads decode ahead while the network works on a batch of tracks. One process holds the one network, which uses the
cores itself, so nothing is loaded twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, cast

from musicgenre.features._row_jobs import Heard, Job, Outcome, Shared, hear, keep
from musicgenre.features.base import Float32, Representation

_BATCH_TRACKS = 8
_BATCH_S = 300.0  # and no more sound than this, unless one track is longer


def hears_many(representation: Representation) -> bool:
    """Whether it offers ``compute_many(waveforms, threads=...)``, a list of arrays for a list of waveforms."""
    return hasattr(representation, "compute_many")


def run_batched(shared: Shared, jobs: Sequence[Job], n_threads: int) -> Iterator[tuple[int, Outcome]]:
    """Yield (index, outcome) of every job, as :func:`~musicgenre.data._pool.run_jobs` does for single ones.

    Parameters
    ----------
    shared : tuple
        Representation, cut and cache.
    jobs : sequence of Job
        The files.
    n_threads : int
        Threads that decode, and that the network may use.
    """
    with closing(_decoded(shared, jobs, n_threads)) as decoded:
        batch: list[tuple[int, Heard]] = []
        seconds = 0.0
        for index, heard in decoded:
            if isinstance(heard, Outcome):
                yield index, heard
                continue
            batch.append((index, heard))
            seconds += heard.segments.size / shared[0].sample_rate_hz
            if len(batch) == _BATCH_TRACKS or seconds >= _BATCH_S:
                yield from _computed(shared, batch, n_threads)
                batch, seconds = [], 0.0
        yield from _computed(shared, batch, n_threads)


def _decoded(
    shared: Shared, jobs: Sequence[Job], n_threads: int
) -> Generator[tuple[int, Heard | Outcome], None, None]:
    """Decode in threads, in order, a batch ahead of whoever takes the results."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode")
    try:
        waiting = enumerate(jobs)
        running = deque((index, pool.submit(hear, shared, job)) for index, job in _first(waiting, _BATCH_TRACKS))
        while running:
            index, future = running.popleft()
            running.extend((later, pool.submit(hear, shared, job)) for later, job in _first(waiting, 1))
            yield index, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: Iterator[tuple[int, Job]], count: int) -> list[tuple[int, Job]]:
    return [item for _, item in zip(range(count), waiting, strict=False)]


def _computed(shared: Shared, batch: list[tuple[int, Heard]], n_threads: int) -> Iterator[tuple[int, Outcome]]:
    segments = [segment for _, heard in batch for segment in heard.segments]
    rows: list[Float32] = cast("Any", shared[0]).compute_many(segments, threads=n_threads) if segments else []
    for index, heard in batch:
        own, rows = rows[: len(heard.segments)], rows[len(heard.segments) :]
        yield index, keep(shared, heard, lambda own=own: own)  # type: ignore[misc]
