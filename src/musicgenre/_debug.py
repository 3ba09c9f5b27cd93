"""What only somebody who looks for a fault wants to see: what native libraries write, and tracebacks.

Libraries in C write to file descriptor 2, past everything that Python can ask them. So the command line takes that
number away from them: messages of ours go to the terminal by another one.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from contextlib import suppress

VARIABLE = "MUSICGENRE_DEBUG"
_STANDARD_ERROR = 2

_terminal: int | None = None  # the descriptor that standard error was before


def is_wanted() -> bool:
    """Tell whether a person asked for it, by `--debug` or the environment."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def silence_native() -> None:
    """Let descriptor 2 lead nowhere, for this process and those it starts; `sys.stderr` stays where it is."""
    global _terminal  # noqa: PLW0603 - a process has one standard error
    with suppress(OSError, ValueError, AttributeError):  # a stream without a descriptor
        if not is_wanted() and sys.stderr.fileno() == _STANDARD_ERROR:
            sys.stderr.flush()
            _terminal = os.dup(_STANDARD_ERROR)
            sys.stderr = os.fdopen(  # to the end of the process
                _terminal, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors
            )
            lead_nowhere(_STANDARD_ERROR)

        # Should native code die at a single file (many are decoded in other processes), Python names the file.
        faulthandler.enable()


def show_native() -> None:
    """Show what native libraries write from now on, here and in the processes that are started."""
    os.environ[VARIABLE] = "1"
    if _terminal is not None:
        os.dup2(_terminal, _STANDARD_ERROR)


def lead_nowhere(descriptor: int) -> None:
    """Let what is written to a descriptor vanish, and nothing be read from it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
