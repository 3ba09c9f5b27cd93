"""Plumbing to work on many items in several processes, where one item may bring its process down."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from musicgenre.errors import DataError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Each worker computes on one thread: the processes share the cores among themselves.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_AHEAD = 3  # items handed out per process, so that none waits

_work: Callable[[Any], Any] | None = None


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item], n_jobs: int
) -> Iterator[tuple[int, Result | None]]:
    """Yield (index, ``function(shared, item)``) as results come in, in no fixed order.

    Parameters
    ----------
    function : callable
        A function of a module (it is sent to the workers by name).
    shared : object
        Sent to every worker once.
    items : sequence
        Each is worked on once.
    n_jobs : int
        Processes; 1 works here, without any.

    Yields
    ------
    index, result
        ``None`` for an item whose process died of it (a crash inside a decoder, memory). The others go on.
    """
    if n_jobs == 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield index, function(shared, item)
        return
    waiting = deque(range(len(items)))
    with _one_thread_each():
        while waiting:
            suspects = yield from _until_broken(function, shared, items, waiting, min(n_jobs, len(items)))
            for index in suspects:
                alone = deque([index])
                if (yield from _until_broken(function, shared, items, alone, 1)):
                    yield index, None


class OrderedPool:
    """Processes that live long and work on items as they come; results keep the items' order.

    Parameters
    ----------
    function, shared
        As in :func:`run_jobs`.
    n_jobs : int
        Processes.
    """

    def __init__(self, function: Callable[[Shared, Item], Result], shared: Shared, n_jobs: int) -> None:
        self._ahead = _AHEAD * n_jobs
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(n_jobs, mp_context=context, initializer=_start, initargs=(function, shared))

    def run(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield ``function(shared, item)`` of every item in turn.

        Raises
        ------
        DataError
            A process died (it was killed, or memory ran out). Errors of ``function`` are raised as they are.
        """
        pending: deque[Future[Any]] = deque()
        try:
            for item in items:
                with _one_thread_each():
                    pending.append(self._pool.submit(_call, item))
                if len(pending) == self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that reads the data died", next_step="Try fewer, if it was for want of memory"
            ) from error
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _until_broken(
    function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item], waiting: deque[int], n_jobs: int
) -> Generator[tuple[int, Result], None, list[int]]:
    """Work ``waiting`` off; when a process dies, return the items that were handed out then."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_jobs, mp_context=context, initializer=_start, initargs=(function, shared))
    running: dict[Future[Result], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _AHEAD * n_jobs:
                running[pool.submit(_call, items[waiting[0]])] = waiting[0]
                waiting.popleft()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                yield running.pop(future), result
    except BrokenProcessPool:
        return sorted(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _start(function: Callable[[Any, Any], Any], shared: Any) -> None:
    global _work  # noqa: PLW0603 - a worker process has one task for life
    _work = lambda item: function(shared, item)  # noqa: E731
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _call(item: Any) -> Any:
    assert _work is not None
    return _work(item)


def _die_with_parent() -> None:
    """End this worker when the process that started it is gone (killed, it could not say so)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started in the block compute on one thread each."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
