"""Where tracks are heard: so many at a time, so many requests waiting, each for so long, and none for nobody."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from musicgenre._running import Work
from musicgenre.server.problems import ProblemError

Result = TypeVar("Result")

_LONGEST_RETRY_S = 60
_FIRST_GUESS_S = 1.0
_NEW_SHARE = 0.1  # of the newest in the running mean of what one file takes


class TookTooLongError(Exception):
    """A file whose hearing was ended because its time was over."""


class Workshop:
    """Hears files in threads, in the order they came. All methods belong to one event loop.

    Parameters
    ----------
    jobs : int
        Files at a time.
    queue : int
        Requests that may wait beside as many as `jobs`.
    timeout_s : float
        Seconds that one file may take; the time it waits does not count.
    """

    def __init__(self, jobs: int, queue: int, timeout_s: float) -> None:
        self.jobs = jobs
        self.timeout_s = timeout_s
        self.n_inside = 0
        self.n_running = 0
        self.is_closing = False
        self.outcomes: Counter[str] = Counter()  # of files: heard, failed, late
        self._places = jobs + queue
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="musicgenre")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._works: set[Work] = set()
        self._mean_s = _FIRST_GUESS_S

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for one request, from before its upload to its answer.

        Raises
        ------
        ProblemError
            All places are taken (`busy`), or the server is ending (`closing`).
        """
        if self.is_closing:
            raise _closing()
        if self.n_inside >= self._places:
            # The place that is free next is free when the oldest of those inside is done.
            wait_s = min(_LONGEST_RETRY_S, max(1, round(self._mean_s * self.n_inside / self.jobs / 2)))
            raise ProblemError(
                "busy",
                f"{self.n_inside} requests are being worked on or waiting",
                valid=f"up to {self._places} at a time",
                next_step=f"Ask again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )

        self.n_inside += 1
        try:
            yield
        finally:
            self.n_inside -= 1

    async def do(self, function: Callable[[], Result]) -> Result:
        """Call a function in a thread when its turn has come. Cancelling ends it, waiting or running.

        Raises
        ------
        TookTooLongError
            It was ended after `timeout_s`.
        ProblemError
            The server is ending, and it had not begun.
        """
        await self._take_turn()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        work = Work()
        self._works.add(work)

        def do() -> Result:
            with work.running():
                return function()

        # The turn goes on to the next one when the thread is free, whenever this caller leaves.
        future = loop.run_in_executor(self._threads, do)

        def when_done(done: asyncio.Future[Result]) -> None:
            self._works.discard(work)
            self._give_turn()
            if not done.cancelled():
                done.exception()  # looked at, also where the caller left

        future.add_done_callback(when_done)
        try:
            done, _ = await asyncio.wait([future], timeout=self.timeout_s)
        except asyncio.CancelledError:
            work.end()
            raise
        if not done or work.is_over:
            work.end()
            raise TookTooLongError

        self._mean_s += _NEW_SHARE * (loop.time() - began_s - self._mean_s)
        return future.result()

    def close(self) -> None:
        """Begin nothing any more; what is running goes on."""
        self.is_closing = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(_closing())

    def end(self) -> bool:
        """End what is running; tell whether all threads are free."""
        self.close()
        for work in tuple(self._works):
            work.end()
        self._threads.shutdown(wait=False, cancel_futures=True)
        return not self._works

    async def _take_turn(self) -> None:
        """Wait until fewer than `jobs` are running, first come first served."""
        if self.is_closing:
            raise _closing()
        if self.n_running < self.jobs:
            self.n_running += 1
            return

        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_turn()  # it came in the same moment
            raise

    def _give_turn(self) -> None:
        """Let the next one begin."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.n_running -= 1


def _closing() -> ProblemError:
    return ProblemError(
        "closing",
        "the server is ending and begins nothing new",
        next_step="Ask again in a while",
        headers={"Retry-After": "10", "Connection": "close"},
    )
