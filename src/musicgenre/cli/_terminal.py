"""The terminal: results on standard output, all else on standard error, and bars that make room for both.

Whatever a command writes while a bar may be drawn goes through here: `print_out` and `say` take the bar away, write,
and draw it again below.
"""

from __future__ import annotations

import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

INTERRUPTED = 130  # exit code: what shells report for a process that Ctrl-C ended

_REDRAW_S = 0.1
_NOTE_EVERY_S = 30.0
_COLUMNS = 100  # where nobody tells
# At the right of a bar: with less, what the terminal writes for Ctrl-C (`^C`) would push the bar into the next line.
_MARGIN_COLUMNS = 3
_NARROWEST_BAR_COLUMNS = 20

_room = threading.RLock()
_drawn: _Bars | None = None


def print_out(text: str, *, newline: bool = True) -> None:
    """Write results on standard output; a bar on the same terminal makes room."""
    with _making_room(sys.stdout):
        typer.echo(text, nl=newline)


def say(text: str) -> None:
    """Tell a person something, on standard error; a bar there makes room, and a terminal's lines break at blanks."""
    if _is_terminal(sys.stderr):
        width = columns(sys.stderr) - 1
        lines: list[str] = []
        for line in text.split("\n"):
            lines += textwrap.wrap(
                line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            ) or [""]
        text = "\n".join(lines)
    typer.echo(text, err=True)


def say_interrupted(text: str) -> None:
    """Tell that Ctrl-C was heard, in the place of the `^C` that a terminal writes for it."""
    over = "\r\x1b[K" if _is_terminal(sys.stderr) else ""
    typer.echo(f"{over}{text}", err=True)


def is_screen() -> bool:
    """Tell whether standard output is a terminal, where a person reads and lines have a width."""
    return sys.stdout.isatty()


def columns(stream: IO[str] | None = None) -> int:
    """Width of the terminal that a stream is (standard output, if none is given), or of the usual one."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or _COLUMNS
    except (OSError, ValueError):  # no terminal, or no file at all
        return _COLUMNS


def is_unicode() -> bool:
    """Tell whether standard output can hold every character, which older Windows code pages cannot."""
    return "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()


def paint(text: str, colour: str | None = None, *, bold: bool = False) -> str:
    """Colour a text on a terminal, unless its owner wants none (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or not _is_terminal(sys.stdout):
        return text
    return typer.style(text, fg=colour, bold=bold or None)


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
def watching_training(
    *, quiet: bool = False
) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[str], None]]]:
    """Show a bar for every kind of thing that is done, and under them a line that changes: how the training goes.

    Where no bars can be drawn, as in a log, the line is written every half minute.

    Yields
    ------
    (callable, callable)
        To be told (name of the bar, done, all), and the line.
    """
    with counting_several(quiet=quiet) as update:
        written = time.monotonic()

        def note(text: str) -> None:
            nonlocal written
            if _drawn is not None:
                _drawn.note(text)
            elif not quiet and time.monotonic() - written >= _NOTE_EVERY_S:
                written = time.monotonic()
                say(text)

        yield update, note


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
    global _drawn  # noqa: PLW0603 - there is one terminal
    if quiet:  # and spare the command the import of rich
        yield lambda what, done, total: None
        return

    from rich.console import Console

    console = Console(file=sys.stderr)
    if not console.is_terminal or console.is_dumb_terminal or _drawn is not None:
        yield lambda what, done, total: None
        return

    stream = sys.stderr
    _drawn = _Bars(console, stream, of_bytes=of_bytes)
    sys.stderr = cast("TextIO", _MakesRoom(_drawn, stream))
    try:
        yield _drawn.update
    finally:
        sys.stderr = stream
        bars, _drawn = _drawn, None
        bars.erase()


class _Bars:
    """Bars on the last lines of a terminal, one below the other; the cursor stays behind the last one.

    Drawn as things get done and not by a thread, beside which no process could be copied (_parallel.py). Every step is
    one write, so that Ctrl-C at any moment leaves nothing behind that `erase` does not take away.
    """

    def __init__(self, console: Console, stream: TextIO, *, of_bytes: bool) -> None:
        from rich import progress

        parts: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
        if of_bytes:
            parts += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
        else:
            parts += [progress.MofNCompleteColumn(), progress.TimeRemainingColumn()]

        self._console = console
        self._stream = stream
        self._progress = progress.Progress(
            *parts, console=console, auto_refresh=False
        )  # of which only the picture is used
        self._tasks: dict[str, TaskID] = {}
        self._note = ""
        self._n_lines = 0
        self._drawn_at = -_REDRAW_S
        self.in_a_line = False  # somebody's text has not come to its end yet

    def update(self, what: str, done: int, total: int) -> None:
        """Take note of what is done, and draw it unless something was drawn just now."""
        with _room:
            if what not in self._tasks:
                self._tasks[what] = self._progress.add_task(what, total=total or None)
            self._progress.update(self._tasks[what], completed=done, total=total or None)

            now = time.monotonic()
            if now - self._drawn_at >= _REDRAW_S or done == total:
                self._drawn_at = now
                self.draw()

    def note(self, text: str) -> None:
        """Show a line below the bars from the next drawing on."""
        with _room:
            self._note = text

    def draw(self) -> None:
        """Draw all bars in the place of those that are drawn."""
        if self.in_a_line or not self._tasks:
            return

        self._console.width = max(_NARROWEST_BAR_COLUMNS, columns(self._stream) - _MARGIN_COLUMNS)
        with self._console.capture() as capture:
            self._console.print(self._progress.get_renderable())
            if self._note:
                self._console.print(self._note, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")
        text = capture.get().rstrip("\n")

        erased, self._n_lines = self._erasure(), text.count("\n") + 1
        self._write(erased + text)

    def erase(self) -> None:
        """Take all bars away; the cursor is then at the beginning of an empty line."""
        if not self.in_a_line:
            erased, self._n_lines = self._erasure(), 0
            self._write(erased)

    def _erasure(self) -> str:
        return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (self._n_lines - 1)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class _MakesRoom:
    """Standard error while bars are drawn, for those who write there without asking: packages, warnings."""

    def __init__(self, bars: _Bars, stream: TextIO) -> None:
        self._bars = bars
        self._stream = stream

    def write(self, text: str) -> int:
        """Take the bars away, write, and draw them again once the line is whole."""
        if not text:  # some ask so whether this is a stream of text or of bytes
            return self._stream.write(text)

        with _room:
            self._bars.erase()
            n_written = self._stream.write(text)
            self._stream.flush()
            self._bars.in_a_line = not text.endswith("\n")
            self._bars.draw()
        return n_written

    def __getattr__(self, name: str) -> Any:
        """Be the stream in all else."""
        return getattr(self._stream, name)


@contextmanager
def _making_room(stream: IO[str]) -> Iterator[None]:
    """Take the bars away while something is written, and draw them again below."""
    with _room:
        if _drawn is None or not stream.isatty():  # what goes into a pipe or a file disturbs no bar
            yield
            return

        _drawn.erase()
        yield
        sys.stdout.flush()
        _drawn.draw()


def _is_terminal(stream: IO[str]) -> bool:
    """Tell whether a stream is a terminal that understands colours and moves of the cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
