"""From the files of one request to its answer: all of them at the end, or each as an event as it is heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from musicgenre._text import printable
from musicgenre.audio import as_audio_error, naming
from musicgenre.errors import AudioError
from musicgenre.server.problems import ProblemError
from musicgenre.server.uploads import Upload, Uploads
from musicgenre.server.workshop import TookTooLongError, Workshop

EVENT_STREAM = "text/event-stream"

LEFT = 499
"""Status for a client that left, as nginx logs it; nobody reads it."""

_HEARTBEAT_S = 10.0

Record = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Hearing:
    """What is done with every file of a request.

    Attributes
    ----------
    hear : callable
        Gives the record of a file; `error` is in it. Called in a thread; what cannot be heard is an `AudioError`.
    failed : callable
        Gives the record of a file of this name that failed for this reason.
    """

    hear: Callable[[Upload], Record]
    failed: Callable[[str, str], Record]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file: its record, and what was wrong."""

    record: Record
    error: AudioError | None = None
    is_late: bool = False


class AnswerResponse(Response):
    """Takes in a request's files, hears them and answers; it ends with its client.

    Parameters
    ----------
    request : Request
        Its body is read here.
    uploads : Uploads
        Where the body goes.
    workshop : Workshop
        Where files are heard.
    hearing : Hearing
        What is done with each.
    """

    def __init__(self, request: Request, uploads: Uploads, workshop: Workshop, hearing: Hearing) -> None:
        super().__init__()
        self._request = request
        self._uploads = uploads
        self._workshop = workshop
        self._hearing = hearing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            with self._workshop.place():
                async with self._uploads.receiving(self._request) as files:
                    if wants_events(self._request):
                        await unless_left(self._request, self._send_events(files, send))
                        return
                    response = await unless_left(self._request, self._answer(files))
        except ClientDisconnect:
            response = Response(status_code=LEFT)
        await response(scope, receive, send)

    async def _answer(self, files: Sequence[Upload]) -> Response:
        """Hear all files; a problem where none of them can be heard."""
        outcomes = await asyncio.gather(*map(self._outcome, files))
        records = [outcome.record for outcome in outcomes]
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        if len(errors) < len(outcomes):
            return JSONResponse({"answers": records})

        others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ProblemError(
            "took-too-long" if any(outcome.is_late for outcome in outcomes) else "cannot-be-heard",
            f"{errors[0].problem}{others}",
            valid=errors[0].valid,
            next_step=errors[0].next_step,
            members={"answers": records},
        )

    async def _outcome(self, file: Upload) -> Outcome:
        """Hear one file, whatever is wrong with it."""
        is_late = False
        counts = self._workshop.outcomes
        try:
            record = await self._workshop.do(lambda: self._hear(file))
            counts["heard"] += 1
            return Outcome(record)
        except TookTooLongError:
            is_late = True
            error = AudioError(
                f"{file.name} was not heard within {self._workshop.timeout_s:g} s",
                next_step="Save it again, send a part of it, or leave it out",
            )
        except AudioError as raised:
            error = without_path(raised, file)
        counts["late" if is_late else "failed"] += 1
        return Outcome(self._hearing.failed(file.name, str(error)), error, is_late)

    def _hear(self, file: Upload) -> Record:
        """Hear one file; should native code die of it, the report calls it what its sender does."""
        with as_audio_error(file.path):
            return naming(file.name, lambda: self._hearing.hear(file))

    async def _send_events(self, files: Sequence[Upload], send: Send) -> None:
        """Send a record a file, in the order in which they are done, and a last event that counts them."""
        headers = [(b"content-type", f"{EVENT_STREAM}; charset=utf-8".encode()), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        n_failed = 0
        numbers = {asyncio.create_task(self._outcome(file)): number for number, file in enumerate(files)}
        waiting = set(numbers)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
                text = "" if done else ": still hearing\n\n"
                for task in done:
                    outcome = task.result()
                    n_failed += outcome.error is not None
                    text += event("answer", outcome.record, number=numbers[task])
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            text = event("done", {"heard": len(files) - n_failed, "failed": n_failed})
        except ProblemError as error:  # the server is ending
            text = event("problem", error.as_dict())
        finally:
            for task in waiting:
                task.cancel()
        await send({"type": "http.response.body", "body": text.encode(), "more_body": False})


def event(name: str, content: Record, *, number: int | None = None) -> str:
    """Write one event; its id is the number of the file in the request, from 0 on."""
    identity = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{identity}data: {json.dumps(content)}\n\n"


def without_path(error: AudioError, file: Upload) -> AudioError:
    """Call a file what its sender calls it: where it lies is nobody's business."""
    place = printable(file.path)
    problem, valid, next_step = (
        text.replace(place, file.name) for text in (error.problem, error.valid, error.next_step)
    )
    return AudioError(problem, valid=valid, next_step=next_step)


def wants_events(request: Request) -> bool:
    """Whether the client asks for events rather than for one answer."""
    return EVENT_STREAM in request.headers.get("accept", "").lower()


async def unless_left(request: Request, work: Awaitable[Result]) -> Result:
    """Wait for something that is done for a client, and give it up when the client leaves.

    Raises
    ------
    ClientDisconnect
        It left.
    """

    async def until_left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    doing = asyncio.ensure_future(work)
    leaving = asyncio.create_task(until_left())
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, ProblemError):
                await task
