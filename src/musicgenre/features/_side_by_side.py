"""Plumbing of networks that hear many waveforms at once: pieces of work side by side, one core each.

One core a piece, not all cores on one: operators of these networks are small, and threads inside them gain little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Give ``function(item)`` of every item in order, ``threads`` at a time; it must let go of Python's lock."""
    if threads == 1 or len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads, thread_name_prefix="network") as pool:
        return list(pool.map(function, items))


def in_torch_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """As :func:`in_threads`, for a function of torch's, whose own threads are off meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # for the threads to come too
    try:
        return in_threads(function, items, threads)
    finally:
        torch.set_num_threads(before)
