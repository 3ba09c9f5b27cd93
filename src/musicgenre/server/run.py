"""Run a server until it is asked to end: what is running is finished, the rest refused, all within the grace time."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from musicgenre._files import temporary_folder
from musicgenre._text import printable
from musicgenre.audio import decoding_apart
from musicgenre.errors import UsageError
from musicgenre.server.app import create_app
from musicgenre.server.connections import Protocol
from musicgenre.server.service import Service
from musicgenre.server.settings import Settings

_KEEP_ALIVE_S = 60
_BACKLOG = 2048
_DECODER_MB = 500
_INTERRUPTED = 130  # what shells report for a process that Ctrl-C ended
_UPLOADS = "musicgenre-uploads"


def serve(settings: Settings, report: Callable[[str], None]) -> int:
    """Load the models and serve them.

    Parameters
    ----------
    settings : Settings
        What to serve, and where.
    report : callable
        Told where it listens.

    Returns
    -------
    int
        The exit code: 0 after SIGTERM, 130 after Ctrl-C.

    Raises
    ------
    BundleError, UsageError
        A model cannot be loaded, or the address is taken.
    """
    place = Path(tempfile.gettempdir()) / _UPLOADS
    with ExitStack() as stack:
        # Decoders begin as copies of this process, which has nothing open yet that they would keep open.
        stack.enter_context(decoding_apart(silence_s=settings.timeout_s, most_mb=_DECODER_MB))
        listener = stack.enter_context(_listener(settings))
        folder = stack.enter_context(temporary_folder(place))
        app = create_app(settings, Service(settings), folder)
        server = Server(app, settings)
        host, port = listener.getsockname()[:2]
        report(f"listening at http://{f'[{host}]' if ':' in host else host}:{port}")
        server.run(sockets=[listener])

    if not app.state.is_idle:  # what native code does not let go of is not waited for
        os._exit(server.code)
    return server.code


def check(settings: Settings) -> list[str]:
    """Load what would be served; say what it is, a line each.

    Raises
    ------
    BundleError, UsageError
        A model cannot be loaded.
    """
    service = Service(settings)
    return [f"{name}: {', '.join(map(printable, found.vocabulary))}" for name, found in service.classifiers.items()]


class Server(uvicorn.Server):
    """A server that refuses what has not begun when it is asked to end.

    Parameters
    ----------
    app : FastAPI
        What it serves.
    settings : Settings
        How long it waits at its end.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=round(settings.grace_s),
            )
        )
        self.code = 0
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGTERM or Ctrl-C for the wish that it ends; a second Ctrl-C waits for nothing."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self.code = _INTERRUPTED if sig == signal.SIGINT else 0
        self._app.state.workshop.close()


def _listener(settings: Settings) -> socket.socket:
    """Listen at the address, before anything is loaded that takes its time."""
    try:
        try:  # an address by number is not looked up
            is_new = ipaddress.ip_address(settings.host).version == 6
            family = socket.AF_INET6 if is_new else socket.AF_INET
        except ValueError:
            family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"cannot listen at {printable(settings.host)}, port {settings.port} "
            f"({getattr(error, 'strerror', None) or error})",
            next_step="Choose another --port, or --host, or end what listens there",
        ) from error

    # Told that it speaks TCP, asyncio sends at once what is written: a head and a body in two packets would else wait
    # for each other's receipt, some 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())
