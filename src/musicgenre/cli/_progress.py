"""Plumbing of the commands: progress bars on a terminal, nothing in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_REDRAW_S = 0.1


@contextmanager
def counting(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of things done.

    Parameters
    ----------
    what : str
        Name of the bar.
    quiet : bool, optional
        No bar.

    Yields
    ------
    callable
        To be told (done, all).
    """
    with counting_several(quiet=quiet) as update:
        yield lambda done, total: update(what, done, total)


@contextmanager
def counting_several(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for every kind of thing that is done.

    Parameters
    ----------
    quiet : bool, optional
        No bars.

    Yields
    ------
    callable
        To be told (name of the bar, done, all).
    """
    with _bars(quiet, of_bytes=False) as update:
        yield update


@contextmanager
def transferring(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar of bytes for every file.

    Parameters
    ----------
    quiet : bool, optional
        No bars.

    Yields
    ------
    callable
        To be told (name, bytes done, bytes in all or 0 when that is not known).
    """
    with _bars(quiet, of_bytes=True) as update:
        yield update


@contextmanager
def _bars(quiet: bool, *, of_bytes: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for every name that is told of, on standard error where that is a terminal."""
    if quiet:  # and spare the command the import of rich
        yield lambda what, done, total: None
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
    if of_bytes:
        columns += [DownloadColumn(), TransferSpeedColumn()]
    else:
        columns += [MofNCompleteColumn(), TimeRemainingColumn()]

    # Drawn as things get done and not by a thread, beside which no process could be copied (_parallel.py).
    console = Console(stderr=True)
    shown = Progress(*columns, console=console, disable=not console.is_terminal, transient=True, auto_refresh=False)
    bars: dict[str, TaskID] = {}
    drawn_at = -_REDRAW_S

    def update(what: str, done: int, total: int) -> None:
        nonlocal drawn_at
        if what not in bars:
            bars[what] = shown.add_task(what, total=total or None)
        shown.update(bars[what], completed=done, total=total or None)

        now = time.monotonic()
        if now - drawn_at >= _REDRAW_S or done == total:
            drawn_at = now
            shown.refresh()

    with shown:
        yield update
