"""The command ``musicgenre``, also as ``python -m musicgenre``: ready for Ctrl-C before the rest of it is loaded."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from musicgenre.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
