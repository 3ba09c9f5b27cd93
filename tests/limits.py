"""How long a test may wait for anything: an end to what hangs, never a measure of how fast the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

GUARD_S = 600.0
"""For every time limit in the tests; pytest's own (`timeout` in pyproject.toml) is the same."""

_ASK_AGAIN_S = 0.01


def wait_until(happened: Callable[[], object]) -> None:
    """Ask until it has happened; fail where it never does."""
    give_up = time.monotonic() + GUARD_S
    while not happened():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(_ASK_AGAIN_S)


@contextmanager
def little_memory(megabytes: int = 1_000) -> Iterator[None]:
    """Let this process take no more than so much beyond what it has, where the system is Linux."""
    import resource

    n_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (n_pages * resource.getpagesize() + megabytes * 1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
