"""Plumbing of downloads: bytes from a server into a file, with an end to what does not move or is not the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Protocol

TIMEOUT_S = 30.0
"""For how long a server may say nothing."""

_BLOCK_BYTES = 1 << 18
_WINDOW_S = 60.0
_LEAST_BYTES = 1 << 16  # in a window: a modem of forty years ago sends as much
_MB = 1_000_000

_tell: ContextVar[Callable[[str], None] | None] = ContextVar("tell", default=None)


class Response(Protocol):
    """What is needed of an HTTP response."""

    status: int

    def read1(self, amount: int = ...) -> bytes: ...

    def getheader(self, name: str) -> str | None: ...


def receive(
    response: Response,
    sink: IO[bytes],
    *,
    done: int = 0,
    most: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Copy what a server sends, as it comes.

    Parameters
    ----------
    response : Response
        Just opened.
    sink : binary file object
        Where to.
    done : int
        Bytes that are there from an earlier try.
    most : int, optional
        Bytes that the file cannot have more of.
    progress : callable
        Told (bytes done, bytes in all or 0).

    Raises
    ------
    ConnectionError
        The server sends a web page, next to nothing for a minute, less than it said, or more than there can be.
    """
    if (response.getheader("Content-Type") or "").lower().startswith("text/html"):
        raise ConnectionError("the server sent a web page in the place of the file: open the address in a browser")
    length = response.getheader("Content-Length")
    total = done + int(length) if length and length.isdigit() else 0
    began, before = time.monotonic(), done
    while block := response.read1(_BLOCK_BYTES):
        sink.write(block)
        done += len(block)
        if most is not None and done > most:
            raise ConnectionError(f"the server sent more than {most // _MB:,} MB, which the file cannot have")
        progress(done, total)
        if (now := time.monotonic()) - began >= _WINDOW_S:
            if done - before < _LEAST_BYTES:
                raise ConnectionError(f"the server sent only {done - before} bytes in a minute: try again later")
            began, before = now, done
    if total and done < total:
        raise ConnectionError(f"the connection broke after {done} of {total} bytes")


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Let downloads that happen on the way in the block say how far they are, a line for every tenth."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


def lines(name: str) -> Callable[[int, int], None]:
    """Progress of the file ``name`` as lines, where somebody listens (`telling`)."""
    said = -1

    def progress(done: int, total: int) -> None:
        nonlocal said
        tell, tenth = _tell.get(), 10 * done // total if total else done // (10 * _MB)
        if tell is not None and tenth > said:
            said = tenth
            tell(f"downloading {name}: {done // _MB:,} {f'of {total // _MB:,} ' if total else ''}MB")

    return progress
