"""Many items at a time: in processes, where one item may bring its process down, and in threads."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from musicgenre.errors import DataError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Each worker computes on one thread: the processes share the cores among themselves.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_AHEAD = 3  # items handed out per process, so that none waits
_AHEAD_PER_THREAD = 2
_MOST_READING_THREADS = 4

_work: Callable[[Any], Any] | None = None


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_cores() -> int:
    """Cores that other work leaves to this process, by the load of the last minute; one at least.

    Where the system tells no load (Windows), all that it may run on.
    """
    busy = int(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1, usable_cores() - busy)


def reading_threads() -> int:
    """Files to read at a time where the disk sets the pace: as many as there are cores, four at most."""
    return min(_MOST_READING_THREADS, usable_cores())


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, *, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` of every item in the items' order, ``threads`` at a time.

    Parameters
    ----------
    function : callable
        Called from several threads; it helps where it waits for the disk or lets go of Python's lock.
    items : iterable
        Read lazily: no more than ``ahead`` are in flight.
    threads : int
        Threads; 1 works here, without any, unless ``ahead`` is given.
    ahead : int, optional
        Items handed out before the oldest result is awaited; by default two a thread.

    Yields
    ------
    object
        One result an item. An error of ``function`` is raised where its result would have come. Closing the generator
        gives up the items that were not begun and waits for the others.
    """
    if threads == 1 and ahead is None:
        yield from map(function, items)
        return

    most = _AHEAD_PER_THREAD * threads if ahead is None else ahead
    pool = ThreadPoolExecutor(threads, thread_name_prefix="musicgenre")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()

        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def beside(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Do some work in a thread beside the block; it is given what is set when the block ends, and waited for."""
    has_ended = threading.Event()
    thread = threading.Thread(target=work, args=(has_ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


def run_jobs(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    n_jobs: int,
    warm_up: Callable[[], object] | None = None,
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
    warm_up : callable, optional
        Loads here what every worker needs (packages, compiled code), where workers start as copies of this process;
        without it they start anew, as they must where native threads are about (torch's).

    Yields
    ------
    index, result
        ``None`` for an item whose process died of it (a crash inside a decoder, memory). The others go on.
    """
    if n_jobs == 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield index, function(shared, item)
        return

    method = "spawn" if warm_up is None else start_method()
    if warm_up is not None and method == "fork":
        warm_up()

    waiting = deque(range(len(items)))
    with one_thread_each():
        while waiting:
            suspects = yield from _until_broken(method, function, shared, items, waiting, min(n_jobs, len(items)))

            # one of them brought its process down: each is tried alone, so that only the culprit is given up
            for index in suspects:
                alone = deque([index])
                if (yield from _until_broken(method, function, shared, items, alone, 1)):
                    yield index, None


class OrderedPool:
    """Processes that live long and work on items as they come; results keep the items' order.

    Parameters
    ----------
    function, shared
        As in `run_jobs`.
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
                with one_thread_each():
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


def start_method() -> str:
    """How workers start here: as copies of this process where that is safe, which saves them all imports.

    A copy holds only the thread that made it, so a lock that another thread held would stay closed in it: with other
    threads about, workers start anew. So they do on macOS, whose system libraries do not bear being copied.
    """
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


def _until_broken(
    method: str,
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    waiting: deque[int],
    n_jobs: int,
) -> Generator[tuple[int, Result], None, list[int]]:
    """Work ``waiting`` off; when a process dies, return the items that were handed out then."""
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(n_jobs, mp_context=context, initializer=_start, initargs=(function, shared))
    running: dict[Future[Result], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _AHEAD * n_jobs:
                running[pool.submit(_call, items[waiting[0]])] = waiting[0]  # it may break: then it still waits
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
    """Make this process a worker on one task, with one thread to compute, that ends with its parent."""
    global _work  # noqa: PLW0603 - a worker process has one task for life
    with suppress(ImportError):  # a copied process has its matrix library loaded, past reading the environment
        import threadpoolctl  # type: ignore[import-untyped]

        threadpoolctl.threadpool_limits(1)

    _work = lambda item: function(shared, item)  # noqa: E731
    threading.Thread(target=die_with_parent, daemon=True).start()


def _call(item: Any) -> Any:
    """Do this worker's task on an item."""
    assert _work is not None
    return _work(item)


def die_with_parent() -> None:
    """End this worker when the process that started it is gone (killed, it could not say so)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
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
