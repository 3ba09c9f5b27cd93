"""Run the command in a pseudo-terminal and see what a person would see on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.cli import run_on

_LINES = 300  # so that nothing scrolls out of sight
_BEFORE_ERASURE = re.compile(rb"(?=\r\x1b\[2K)")
_VARIABLES = {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
_NO_VARIABLES = ("COLUMNS", "LINES", "NO_COLOR")
_END = b"\0\0\0"  # which shows nothing


@dataclass
class Seen:
    """What was to be seen on the screen at the end, and at any moment."""

    returncode: int
    lines: list[str]
    moments: list[list[str]]
    written: bytes


def run_in_terminal(
    *arguments: str | Path, width: int, env: dict[str, str] | None = None, stdout: IO[bytes] | None = None
) -> Seen:
    """Run ``musicgenre`` in this process, on a terminal of this width.

    ``stdout`` is where standard output goes in the terminal's place.
    """
    here, there = _open_terminal(width)
    screen = _Screen(width, here)
    looking = threading.Thread(target=screen.look)
    looking.start()
    with os.fdopen(there, "r+b", buffering=0) as terminal:
        try:
            streams = (terminal, stdout or terminal, terminal)
            environment = {**_VARIABLES, **(env or {})}
            gone = [name for name in _NO_VARIABLES if name not in environment]
            code = run_on(streams, [*map(str, arguments)], env=environment, without=gone)
        finally:
            terminal.write(_END)
            looking.join()
            os.close(here)
    return screen.seen(code)


def run_process_in_terminal(
    *arguments: str | Path, width: int, command: Sequence[str | Path], press_ctrl_c: Callable[[list[str]], bool]
) -> Seen:
    """Run a command in a process of its own, on a terminal of this width.

    Ctrl-C is pressed once the lines on the screen are as ``press_ctrl_c`` asks for.
    """

    def start() -> None:  # as a shell does: its own session, this terminal, and a Ctrl-C that is heard
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    here, there = _open_terminal(width)
    environment = {name: value for name, value in os.environ.items() if name not in _NO_VARIABLES} | _VARIABLES
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=there,
        stdout=there,
        stderr=there,
        env=environment,
        preexec_fn=start,  # noqa: PLW1509
    )
    os.close(there)
    screen = _Screen(width, here)
    try:
        screen.look(press_ctrl_c)
    finally:
        os.close(here)
    return screen.seen(process.wait())


def _open_terminal(width: int) -> tuple[int, int]:
    """Its two ends: the one that a person sits at, and the one that a command writes to."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, width, 0, 0))
    return here, there


class _Screen:
    """What a person sees who sits at a terminal."""

    def __init__(self, width: int, here: int) -> None:
        import pyte

        self._screen = pyte.Screen(width, _LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._here = here
        self._moments: list[list[str]] = []
        self._written = b""

    def look(self, press_ctrl_c: Callable[[list[str]], bool] | None = None) -> None:
        """Look until the command has ended."""
        while not self._written.endswith(_END):
            try:
                block = os.read(self._here, 1 << 16)
            except OSError:  # what Linux says when nobody is at the other end
                break
            if not block:
                break
            self._written += block

            # A picture is whole when it is about to be taken away.
            for part in re.split(_BEFORE_ERASURE, block.removesuffix(_END)):
                if part.startswith(b"\r"):
                    self._moments.append(self._lines())
                self._stream.feed(part)
            if press_ctrl_c is not None and press_ctrl_c(self._lines()):
                press_ctrl_c = None
                os.write(self._here, b"\x03")

    def seen(self, returncode: int) -> Seen:
        """All of it."""
        return Seen(returncode, self._lines(), self._moments, self._written.removesuffix(_END))

    def _lines(self) -> list[str]:
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines
