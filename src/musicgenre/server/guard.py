"""The door: who may ask, under which name, from which page; and what every answer tells a browser.

A server that listens at this machine alone can still be reached by the pages of strangers in its owner's browser.
Names that are not the server's own are refused (a stranger's name may lead here), and so are requests that change or
cost something from pages of other sites. Answers carry a policy under which a page loads nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musicgenre._text import printable
from musicgenre.server.problems import ProblemError
from musicgenre.server.settings import Settings, is_loopback

COOKIE = "musicgenre_session"
"""The cookie by which a page that was given the token is known again."""

# What holds no answer, or tells a page how to come by one.
_OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v1/session"})
_OPEN_FOLDERS = ("/page/", "/docs/")
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_DRAIN_S = 10.0
_DRAIN_BYTES = 64_000_000

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# Swagger UI sets styles of its own.
_POLICY_OF_DOCS = _POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Door:
    """Knows who may ask.

    Parameters
    ----------
    settings : Settings
        The token, the names it answers to, and the sites whose pages may ask.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token
        self._origins = frozenset(origin.lower() for origin in settings.origins)
        self._is_shared = not is_loopback(settings.host)
        self._names = {"localhost", settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}
        if self._is_shared:
            self._names.add(socket.gethostname().lower())

    def refuse(self, scope: Scope) -> None:
        """Refuse a request that may not come in.

        Raises
        ------
        ProblemError
            It asks for another name, comes from the page of another site, or shows no token.
        """
        headers = Headers(scope=scope)
        self._refuse_name(headers)
        self._refuse_origin(scope, headers)
        is_open = scope["path"] in _OPEN or scope["path"].startswith(_OPEN_FOLDERS)
        if not is_open and scope["method"] != "OPTIONS" and not self.knows(headers):
            raise no_token()

    def knows(self, headers: Headers) -> bool:
        """Whether a request shows the token, or the cookie that came of it; always where there is no token."""
        if not self._token:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return is_same(given.strip(), self._token)

        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and is_same(cookies[COOKIE].value, session_of(self._token))

    def _refuse_name(self, headers: Headers) -> None:
        """Refuse names that are not ours: what a stranger's name leads to is not asked for by its own."""
        told = headers.get("host", "")
        try:
            name = (urlsplit(f"//{told}").hostname or "").rstrip(".")
        except ValueError:
            name = ""
        if name in self._names or (_is_address(name) and (self._is_shared or is_loopback(name))):
            return
        raise ProblemError(
            "foreign-host",
            f"the server is not called {printable(told)[:100]!r}",
            valid=", ".join(sorted(self._names)),
            next_step="Ask it by one of its names, or start it with --allowed-host NAME",
        )

    def _refuse_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what a page of another site sends, unless the site is listed."""
        origin = headers.get("origin", "").lower()
        if scope["method"] in _SAFE_METHODS or origin in self._origins:
            return
        is_own = not origin or urlsplit(origin).netloc == headers.get("host", "").lower()
        if is_own and headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        raise ProblemError(
            "foreign-origin",
            f"a page of {printable(origin)[:100] or 'another site'} sent the request",
            valid="Pages of this server, and programs",
            next_step="Start the server with --cors-origin for a site that you trust",
        )


class Guard:
    """Stands before an application; refuses by problems, and completes what is answered.

    Parameters
    ----------
    app : ASGI application
        What is behind it.
    door : Door
        Who may ask.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        body = _Body(scope, receive)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                if not await body.drain():
                    headers["Connection"] = "close"
                complete(scope, headers)
            await send(message)

        try:
            self._door.refuse(scope)
        except ProblemError as error:
            await error.response()(scope, body.receive, send_guarded)
            return
        await self._app(scope, body.receive, send_guarded)


def complete(scope: Scope, headers: MutableHeaders) -> None:
    """Add to the headers of an answer what a browser is to be told."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    is_docs = scope["path"].startswith("/docs")
    headers.setdefault("Content-Security-Policy", _POLICY_OF_DOCS if is_docs else _POLICY)


class _Body:
    """The body of a request, of which what nobody reads is read away: a client that still sends hears no answer."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        headers = Headers(scope=scope)
        self._is_whole = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._waits = headers.get("expect", "").lower() == "100-continue"  # to be told that it may send

    async def receive(self) -> Message:
        """Give the next part."""
        message = await self._receive()
        self._waits = False
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_whole = True
        return message

    async def drain(self) -> bool:
        """Read what is left, for a moment; tell whether that was all."""
        if self._waits:
            return False

        n_bytes = 0
        try:
            async with asyncio.timeout(_DRAIN_S):
                while not self._is_whole and n_bytes < _DRAIN_BYTES:
                    n_bytes += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return False
        return self._is_whole


def no_token() -> ProblemError:
    """Make the problem of a request without the token."""
    return ProblemError(
        "no-token",
        "the request does not show the token of this server",
        valid="Authorization: Bearer TOKEN",
        next_step="Take the token from the file that the server was started with (--token-file)",
        headers={"WWW-Authenticate": "Bearer"},
    )


def session_of(token: str) -> str:
    """What the cookie holds: it comes of the token, which cannot be had from it."""
    return hmac.new(token.encode(), b"musicgenre page", hashlib.sha256).hexdigest()


def is_same(given: str, wanted: str) -> bool:
    """Compare secrets in a time that tells nothing of them."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _is_address(name: str) -> bool:
    """Whether a host is an address by number, which no stranger's name leads to."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
