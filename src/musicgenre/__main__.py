"""The command ``musicgenre``, also as ``python -m musicgenre``: ready for Ctrl-C before the rest of it is loaded.

Where memory is short, packages end in tracebacks, in lines of their own, or the process (OpenBLAS): so the room that
it may have is asked for first, and told in one line.
"""

from __future__ import annotations

import sys
from typing import NoReturn

_LEAST_BYTES = 230_000_000  # of address space, with which one track is heard on two cores; more cores take more
_TOLD_ANYWAY = {"--version", "--help", "-h"}


def main() -> None:
    """Load the command line and run it."""
    room = _address_space_bytes()
    if room is not None and room < _LEAST_BYTES and not _TOLD_ANYWAY & set(sys.argv):
        _end_for_want_of_memory(room, "")

    try:
        from musicgenre.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError as error:
        _end_for_want_of_memory(room, str(error))
    except (ImportError, SystemError) as error:  # what libraries make of it that cannot be loaded for want of memory
        if room is None or isinstance(error, ModuleNotFoundError):
            raise
        _end_for_want_of_memory(room, str(error))


def _address_space_bytes() -> int | None:
    """What this process may take (`ulimit -v`); None where nothing limits it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _end_for_want_of_memory(room: int | None, reason: str) -> NoReturn:
    """Say in one line that memory is short, and how much this process may have where that is limited."""
    lines = [line for line in reason.splitlines() if line.strip()]
    told = f" ({lines[0]})" if lines else ""
    if room is None:
        text = f"there is not enough memory{told}. Close other programs, or hear fewer tracks at a time"
    else:
        text = f"there is not enough memory: this process may have {room / 1e6:.0f} MB{told}. "
        if room < _LEAST_BYTES:
            text += f"Valid: {_LEAST_BYTES / 1e6:.0f} MB or more (measured on two cores; more cores take more). "
        text += "Raise the limit, for example: ulimit -v unlimited"
    if sys.stderr is not None:
        sys.stderr.write(f"error: {text}.\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
