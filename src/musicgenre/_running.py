"""Computations in native code that can be ended: by Ctrl-C, which Python notices only between its own steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_lock = threading.RLock()  # a signal may come while this very thread holds it
_ends: set[Callable[[], None]] = set()
_is_over = False


@contextmanager
def can_be_ended(end: Callable[[], None]) -> Iterator[None]:
    """Let `end_all` end what runs in the block; where it was called before, it is ended at once.

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
