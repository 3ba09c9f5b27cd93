"""Plumbing of downloads: bytes from a server into a file, with an end to what does not move or is not the file."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import IO, Any, Protocol

from musicgenre._telling import tell
from musicgenre.errors import BundleError

TIMEOUT_S = 30.0
"""For how long a server may say nothing."""

_BLOCK_BYTES = 1 << 18
_WINDOW_S = 60.0  # in which something has to come: all headers, or _LEAST_BYTES of the file
_LEAST_BYTES = 1 << 16  # in a window: a modem of forty years ago sends as much
_MB = 1_000_000

_file_that_asks: ContextVar[str] = ContextVar("file_that_asks", default="")


class Response(Protocol):
    """What is needed of an HTTP response."""

    status: int

    def read1(self, amount: int = ...) -> bytes: ...

    def getheader(self, name: str) -> str | None: ...


class TooMuchError(ConnectionError):
    """A server sends more than the file can have: what came is of no use."""


@contextmanager
def fetching_nothing(asking: str) -> Iterator[None]:
    """Refuse every download in the block: a file asks for it, and no person.

    Parameters
    ----------
    asking : str
        The file, for the message: `the bundle rock`.
    """
    token = _file_that_asks.set(asking)
    try:
        yield
    finally:
        _file_that_asks.reset(token)


def refuse_unasked(what: str, name: str) -> None:
    """Refuse to fetch something inside of `fetching_nothing`.

    Parameters
    ----------
    what : str
        What it is.
    name : str
        The name under which `musicgenre models NAME --get` fetches it.

    Raises
    ------
    BundleError
        Only a file asked for it.
    """
    if asking := _file_that_asks.get():
        raise BundleError(
            f"{asking} needs {what}, which is not on this machine, and nothing is fetched because a file says so",
            next_step=f"If you want it, get it with: musicgenre models {name} --get",
        )


def opened(address: str, headers: dict[str, str] | None = None) -> Any:
    """Ask a server for a file; the response is a context manager.

    Raises
    ------
    OSError or HTTPException
        There is no server, or it refuses, says nothing for half a minute, or has not said all headers in a minute.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "musicgenre", **(headers or {})})
    return urllib.request.build_opener(_PlainHandler, _SecureHandler).open(request, timeout=TIMEOUT_S)


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
    total = 0
    if length and length.isdigit():
        total = done + int(length)

    began, before = time.monotonic(), done
    while block := response.read1(_BLOCK_BYTES):
        sink.write(block)
        done += len(block)
        if most is not None and done > most:
            size = f"{most // _MB:,} MB" if most >= _MB else f"{most:,} bytes"
            raise TooMuchError(f"the server sent more than {size}, which the file cannot have")
        progress(done, total)

        if (now := time.monotonic()) - began >= _WINDOW_S:
            if done - before < _LEAST_BYTES:
                raise ConnectionError(f"the server sent only {done - before} bytes in a minute: try again later")
            began, before = now, done

    if total and done < total:  # the end of a stream looks the same, broken or not
        raise ConnectionError(f"the connection broke after {done} of {total} bytes")


def lines(name: str) -> Callable[[int, int], None]:
    """Progress of the file `name` as lines, one for every tenth, where somebody listens (`musicgenre._telling`)."""
    said = -1

    def progress(done: int, total: int) -> None:
        nonlocal said
        tenth, of_all = done // (10 * _MB), ""  # without a length, a line for every 10 MB
        if total:
            tenth, of_all = 10 * done // total, f"of {total // _MB:,} "

        if tenth > said:
            said = tenth
            tell(f"downloading {name}: {done // _MB:,} {of_all}MB")

    return progress


class _InTime(http.client.HTTPResponse):
    """A response whose headers come within a minute: a word every now and then is no answer."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._asked = sock
        self._late = False

    def begin(self) -> None:
        # the time limit of a socket begins anew with every word, so only hanging up ends a slow trickle
        timer = threading.Timer(_WINDOW_S, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            super().begin()
        except (OSError, http.client.HTTPException):
            if not self._late:
                raise
        finally:
            timer.cancel()
        if self._late:  # headers that break off may read as whole ones
            raise ConnectionError(f"the server gave no answer within {_WINDOW_S:g} s: try again later")

    def _hang_up(self) -> None:
        self._late = True
        with suppress(OSError):
            self._asked.shutdown(socket.SHUT_RDWR)


# urllib takes the class of its answers from the connection, and that from a handler: two of each.
class _Plain(http.client.HTTPConnection):
    response_class = _InTime


class _Secure(http.client.HTTPSConnection):
    response_class = _InTime


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, req)
