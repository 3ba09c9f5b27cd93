"""How long a test may wait for anything: an end to what hangs, never a measure of how fast the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

GUARD_S = 600.0
"""For every time limit in the tests; pytest's own (`timeout` in pyproject.toml) is the same."""

_ASK_AGAIN_S = 0.01


def wait_until(happened: Callable[[], object]) -> None:
    """Ask until it has happened; fail where it never does."""
    give_up = time.monotonic() + GUARD_S
    while not happened():
        assert time.monotonic() < give_up, "it never happened"
        time.sleep(_ASK_AGAIN_S)
