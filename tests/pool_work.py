"""Work for the processes of a pool, in a file of its own: a process that starts anew loads it and little else."""

from __future__ import annotations

import os

from musicgenre.errors import DataError


def double(shared: int, item: int) -> int:
    """Multiply by what is shared; a negative item kills its process."""
    if item < 0:
        os._exit(9)
    return shared * item


def fail(shared: str, item: int) -> int:
    """Fail as reading an item may."""
    raise DataError(f"{shared} {item}")


def end_process(shared: int, item: int) -> int:
    """Die of one item, as a process does that the system kills."""
    if item == shared:
        os._exit(9)
    return item
