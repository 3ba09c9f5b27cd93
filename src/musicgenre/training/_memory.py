"""Let the C library keep what a training frees, so that every step finds its memory mapped already.

glibc hands out large blocks as mappings of their own and gives them back when they are freed. A training step of large
tensors then has the kernel map, clear and unmap hundreds of megabytes, step after step: a third of the time of a 2-D
network on spectrograms (`benchmarks/freed_memory.py`). Kept blocks are used again. The process then holds the most
that it ever held at once, until the training ends.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""The numbers of glibc's malloc.h."""

_AS_BUILT = ((_MMAP_MAX, 65_536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))
"""glibc's own limits, where its adjustment to what a program does ends."""


@contextmanager
def keeping_freed_memory() -> Iterator[bool]:
    """Keep freed memory for the next step while the block runs, and give it back after it.

    Yields
    ------
    bool
        Whether that is so: `False` where the C library is not glibc (macOS, Windows, musl), and nothing was done.
    """
    kept = keep_freed_memory()
    try:
        yield kept
    finally:
        library = _glibc()
        if library is not None:
            # a setting by hand switches glibc's own adjustment off, so its usual end is set
            for parameter, value in _AS_BUILT:
                library.mallopt(parameter, value)
            library.malloc_trim(0)


def keep_freed_memory() -> bool:
    """Keep freed memory from now on, in this process; tell whether that is so."""
    library = _glibc()
    if library is None:
        return False

    # no block is a mapping of its own, and the top of the heap is never given back
    return bool(library.mallopt(_MMAP_MAX, 0)) and bool(library.mallopt(_TRIM_THRESHOLD, -1))


@cache
def _glibc() -> Any:
    """The C library of this process if it is glibc, else `None`."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    is_glibc = all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim"))
    return library if is_glibc else None
