"""Uploads: files of a request's body, written to a folder of this process as they come, and gone with the request."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from musicgenre._files import FULL
from musicgenre._text import printable
from musicgenre.server.problems import ProblemError

MOST_FILES = 100
"""Files of one request."""

# A body may take this long, and a second more for every so many bytes that have come.
_PATIENCE_S = 20.0
_SLOWEST_BYTES_S = 1_000
_LONGEST_NAME = 255
_UNNAMED = "upload"
_OPTIONS = ("top", "timeline", "model", "coverage", "name")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a request.

    Attributes
    ----------
    name : str
        What its sender calls it, in printable form.
    path : Path
        Where it lies while the request lasts.
    """

    name: str
    path: Path


class Uploads:
    """Takes in the bodies of requests.

    Parameters
    ----------
    folder : Path
        Where they are written; nobody else writes there.
    max_bytes : int
        Most bytes of one body.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._numbers = itertools.count()
        self.n_bytes = 0  # that have come in all

    @asynccontextmanager
    async def receiving(self, request: Request) -> AsyncIterator[list[Upload]]:
        """Yield the files of a request's body, raw or multipart; they are deleted when the block ends.

        Raises
        ------
        ProblemError
            The body is too large or too slow, of another kind, not whole, or there is no room for it.
        ClientDisconnect
            Its sender left before it was whole.
        """
        kind, boundary = _kind_of(request)
        self._refuse_length(request)
        writer = _Writer(self.folder, self._numbers)
        try:
            if kind == "multipart/form-data":
                await self._receive_parts(request, writer, boundary)
            else:
                writer.begin(_raw_name(request))
                async for block in self._blocks(request):
                    writer.write(block)
                writer.end()
            yield writer.files
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise ProblemError(
                "disk-full", "the disk of the server takes no more", next_step="Ask again in a while, or send less"
            ) from error
        finally:
            writer.delete()

    async def _receive_parts(self, request: Request, writer: _Writer, boundary: bytes) -> None:
        """Write every part into a file of its own."""
        parts = _Parts(writer)
        try:
            parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
            async for block in self._blocks(request):
                parser.write(block)
            parser.finalize()
        except FormParserError as error:
            raise ProblemError(
                "bad-request",
                f"the multipart body cannot be read ({printable(str(error))[:200]})",
                valid="multipart/form-data as `curl -F file=@song.mp3` sends it",
                next_step="Send the file by itself as the body, if your program cannot do that",
            ) from error
        if not parts.is_whole or not writer.files:
            raise ProblemError(
                "bad-request",
                "the multipart body ends before its last part does" if not parts.is_whole else "no file was sent",
                valid="One file or several, and the boundary at the end",
                next_step="Send it again",
            )

    async def _blocks(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body as it comes, as long as it comes fast enough and is not too much."""
        loop = asyncio.get_running_loop()
        began_s, n_bytes, more = loop.time(), 0, True
        while more:
            left_s = began_s + _PATIENCE_S + n_bytes / _SLOWEST_BYTES_S - loop.time()
            try:
                message = await asyncio.wait_for(request.receive(), max(0.0, left_s))
            except TimeoutError:
                raise ProblemError(
                    "slow-upload",
                    f"only {n_bytes} bytes came in {loop.time() - began_s:.0f} s",
                    valid=f"{_SLOWEST_BYTES_S} bytes a second, after {_PATIENCE_S:g} s",
                    next_step="Send it again over a faster line",
                    headers={"Connection": "close"},
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect

            block = message.get("body", b"")
            more = message.get("more_body", False)
            n_bytes += len(block)
            self.n_bytes += len(block)
            if n_bytes > self._max_bytes:
                raise self._too_large(f"more than {self._max_bytes} bytes were sent")
            if block:
                yield block

    def _refuse_length(self, request: Request) -> None:
        """Refuse a body by the length that its header tells, before any of it is read."""
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > self._max_bytes:
            raise self._too_large(f"{told[:20]} bytes are to come")

    def _too_large(self, problem: str) -> ProblemError:
        return ProblemError(
            "too-large",
            problem,
            valid=f"up to {self._max_bytes // 1_000_000} MB for one request",
            next_step="Send fewer files at a time, or a part of a long one",
        )


class _Writer:
    """Writes files one after another, and deletes them all."""

    def __init__(self, folder: Path, numbers: itertools.count[int]) -> None:
        self.files: list[Upload] = []
        self._folder = folder
        self._numbers = numbers
        self._stream: IO[bytes] | None = None

    def begin(self, name: str) -> None:
        """Begin the next file."""
        if len(self.files) >= MOST_FILES:
            raise ProblemError(
                "too-large",
                f"more than {MOST_FILES} files came in one request",
                valid=f"up to {MOST_FILES}",
                next_step="Send several requests",
            )
        path = self._folder / f"{next(self._numbers)}"
        self.files.append(Upload(_shown_name(name), path))
        self._stream = path.open("xb")

    def write(self, block: bytes) -> None:
        """Add to the file that was begun."""
        assert self._stream is not None
        self._stream.write(block)

    def end(self) -> None:
        """End the file that was begun."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def delete(self) -> None:
        """Delete all files, finished or not."""
        with suppress(OSError):  # what a full disk did not take is not missed
            self.end()
        for file in self.files:
            file.path.unlink(missing_ok=True)


class _Parts:
    """Turns what the parser tells of a multipart body into files."""

    def __init__(self, writer: _Writer) -> None:
        self.is_whole = False
        self._writer = writer
        self._headers: list[tuple[bytes, bytes]] = []
        self._field = self._value = b""

    def callbacks(self) -> dict[str, object]:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_field,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self._writer.write(data[start:end]),
            "on_part_end": self._writer.end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers = []

    def _add_to_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers.append((self._field.lower(), self._value))
        self._field = self._value = b""

    def _end_headers(self) -> None:
        """Begin a file, whatever the part is called; options do not come as parts."""
        told = dict(self._headers).get(b"content-disposition", b"")
        names = _parameters(told.decode("latin-1"))
        if "filename" not in names and names.get("name") in _OPTIONS:
            raise ProblemError(
                "bad-request",
                f"the option {names['name']} came as a part of the body",
                valid="Parts are files",
                next_step=f"Put it into the address: ?{names['name']}=VALUE",
            )
        self._writer.begin(names.get("filename") or names.get("name") or _UNNAMED)

    def _end(self) -> None:
        self.is_whole = True


def _kind_of(request: Request) -> tuple[str, bytes]:
    """The media type of the body and, of a multipart body, its boundary."""
    told = request.headers.get("content-type", "")
    kind = told.partition(";")[0].strip().lower()
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise ProblemError(
            "unsupported-media-type",
            f"the body is packed ({printable(coding)[:50]})",
            valid="Bodies as they are",
            next_step="Send it without Content-Encoding",
        )
    is_other_form = kind.startswith("multipart/") and kind != "multipart/form-data"
    if kind == "application/x-www-form-urlencoded" or is_other_form or kind.endswith(("/json", "+json")):
        raise ProblemError(
            "unsupported-media-type",
            f"the body is {printable(kind)[:100]}",
            valid="multipart/form-data, or the bytes of one file as audio/mpeg, application/octet-stream or the like",
            next_step="With curl: -F file=@song.mp3, or --data-binary @song.mp3 -H 'Content-Type: audio/mpeg'",
        )
    if kind != "multipart/form-data":
        return kind, b""

    boundary = _parameters(told).get("boundary", "").encode("latin-1", "replace")
    if not 0 < len(boundary) <= 256:
        raise ProblemError(
            "bad-request",
            "the multipart body has no boundary, or one that is too long",
            valid="Content-Type: multipart/form-data; boundary=...",
            next_step="Leave the header to the program that makes the body",
        )
    return kind, boundary


def _parameters(header: str) -> dict[str, str]:
    """Read the parameters behind the first word of a header, whose bytes stand in it as Latin-1."""
    _, parameters = parse_options_header(header)
    return {name.decode("latin-1"): value.decode("utf-8", "replace") for name, value in parameters.items()}


def _raw_name(request: Request) -> str:
    """What the sender of a raw body calls it: `?name=`, or the header `Content-Disposition`."""
    told = request.query_params.get("name")
    return told or _parameters(request.headers.get("content-disposition", "")).get("filename") or _UNNAMED


def _shown_name(name: str) -> str:
    """The name of a file as answers have it; it is never used as a path."""
    return printable(name[:_LONGEST_NAME]) or _UNNAMED
