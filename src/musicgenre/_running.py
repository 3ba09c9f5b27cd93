"""Computations in native code that can be ended: by Ctrl-C, which Python notices only between its own steps.

All of them together are ended by `end_all`. A process that does many things for many people ends one by its `Work`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_lock = threading.RLock()  # a signal may come while this very thread holds it
_ends: set[Callable[[], None]] = set()
_is_over = False
_current_work: ContextVar[Work | None] = ContextVar("work", default=None)


class Work:
    """One of many things that a process does, which another thread can end.

    Attributes
    ----------
    is_over : bool
        Whether it was ended.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._ends: set[Callable[[], None]] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Do it in the block, in this thread."""
        token = _current_work.set(self)
        try:
            yield
        finally:
            _current_work.reset(token)

    def end(self) -> None:
        """End what of it can be ended, and whatever of it begins later."""
        with _lock:
            self.is_over = True
            for end in tuple(self._ends):
                end()

    @contextmanager
    def ending_by(self, end: Callable[[], None]) -> Iterator[None]:
        """Let `end` be called when it is ended within the block."""
        with _lock:
            self._ends.add(end)
            if self.is_over:
                end()
        try:
            yield
        finally:
            with _lock:
                self._ends.discard(end)


@contextmanager
def ending_with_work(end: Callable[[], None]) -> Iterator[None]:
    """Let the `Work` that this thread does, if it does one, end what runs in the block; `end_all` leaves it alone."""
    work = _current_work.get()
    if work is None:
        yield
        return
    with work.ending_by(end):
        yield


@contextmanager
def can_be_ended(end: Callable[[], None]) -> Iterator[None]:
    """Let `end_all` and the thread's `Work` end what runs in the block; where that was before, it is ended at once.

    Parameters
    ----------
    end : callable
        Ends it soon; called from any thread, perhaps twice.
    """
    with _lock:
        _ends.add(end)
        if _is_over:
            end()
    try:
        with ending_with_work(end):
            yield
    finally:
        with _lock:
            _ends.discard(end)


def end_all() -> None:
    """End all that runs, in every thread, and whatever begins later: the command is on its way out."""
    global _is_over  # noqa: PLW0603 - one command runs in a process at a time
    with _lock:
        _is_over = True
        for end in tuple(_ends):
            end()


def begin_anew() -> None:
    """Let things run again, where a process runs another command after one that was ended."""
    global _is_over  # noqa: PLW0603 - as above
    with _lock:
        _is_over = False
