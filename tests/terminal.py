"""Run the command in a pseudo-terminal and see what a person would see on its screen."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cli import COMMAND

_LINES = 300  # so that nothing scrolls out of sight
_BEFORE_ERASURE = re.compile(rb"(?=\r\x1b\[2K)")


@dataclass
class Seen:
    """What was to be seen on the screen at the end, and at any moment."""

    returncode: int
    lines: list[str]
    moments: list[list[str]]
    written: bytes


def run_in_terminal(
    *arguments: str | Path,
    width: int,
    env: dict[str, str] | None = None,
    stdout: int | None = None,
    press_ctrl_c: Callable[[list[str]], bool] | None = None,
    command: Sequence[str | Path] = (COMMAND,),
) -> Seen:
    """Run ``musicgenre`` on a terminal of this width.

    ``stdout`` is where standard output goes in the terminal's place; Ctrl-C is pressed once the lines on the screen
    are as ``press_ctrl_c`` asks for.
    """
    import fcntl
    import pty
    import termios

    import pyte

    def start() -> None:  # as a shell does: its own session, this terminal, and a Ctrl-C that is heard
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "PYTHONUTF8": "1", **(env or {})}
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, width, 0, 0))
    process = subprocess.Popen(
        [*command, *arguments],
        stdin=there,
        stdout=there if stdout is None else stdout,
        stderr=there,
        env=environment,
        preexec_fn=start,  # noqa: PLW1509
    )
    os.close(there)

    screen = pyte.Screen(width, _LINES)
    stream = pyte.ByteStream(screen)
    moments: list[list[str]] = []
    written = b""
    try:
        while True:
            try:
                block = os.read(here, 1 << 16)
            except OSError:  # what Linux says when nobody is at the other end
                break
            if not block:
                break
            written += block
            # A picture is whole when it is about to be taken away.
            for part in re.split(_BEFORE_ERASURE, block):
                if part.startswith(b"\r"):
                    moments.append(_lines(screen.display))
                stream.feed(part)
            if press_ctrl_c is not None and press_ctrl_c(_lines(screen.display)):
                press_ctrl_c = None
                os.write(here, b"\x03")
    finally:
        os.close(here)
    return Seen(process.wait(), _lines(screen.display), moments, written)


def _lines(display: list[str]) -> list[str]:
    lines = [line.rstrip() for line in display]
    while lines and not lines[-1]:
        lines.pop()
    return lines
