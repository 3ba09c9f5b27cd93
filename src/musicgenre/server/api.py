"""The addresses of the API: what they take, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Message

from musicgenre._text import printable, unknown_name
from musicgenre.embedding.embed import Embedder
from musicgenre.errors import AudioError, UsageError
from musicgenre.listening.batch import Failure, Result
from musicgenre.listening.results import record_of
from musicgenre.server import guard, metrics, schemas
from musicgenre.server.answers import LEFT, AnswerResponse, Hearing
from musicgenre.server.openapi import FILES, answers_of, problems_of
from musicgenre.server.problems import ProblemError, bad_request
from musicgenre.server.service import Library, Service
from musicgenre.server.tracks import Decision, PlanTracks
from musicgenre.server.uploads import Upload

_MOST_BYTES = 8_000_000  # of a body that is read into memory
_LONGEST_BODY_S = 30.0
_LONGEST_OPTION = 100  # characters of its name that an answer repeats


class _SmallBodyRoute(APIRoute):
    """An address whose body is read into memory: one that is too long or too slow is refused as it comes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Read the body, then handle the request as usual."""
        handle = super().get_route_handler()

        async def small(request: Request) -> Response:
            body = bytearray()
            try:
                async with asyncio.timeout(_LONGEST_BODY_S):
                    async for part in request.stream():
                        body += part
                        if len(body) > _MOST_BYTES:
                            raise ProblemError(
                                "too-large",
                                f"{len(body)} bytes have come",
                                valid=f"up to {_MOST_BYTES} bytes",
                                next_step="Send fewer decisions at a time",
                            )
            except TimeoutError as error:
                raise ProblemError(
                    "slow-upload", f"the body did not come within {_LONGEST_BODY_S:g} s", next_step="Send it again"
                ) from error
            except ClientDisconnect:
                return Response(status_code=LEFT)

            async def receive() -> Message:
                return {"type": "http.request", "body": bytes(body), "more_body": False}

            return await handle(Request(request.scope, receive))

        return small


async def _refuse_unknown_options(request: Request) -> None:
    """Refuse an option that the address does not take: misspelt, it would change nothing and nobody would know."""
    route: APIRoute = request.scope["route"]
    known = [option.alias for option in route.dependant.query_params]
    for name in request.query_params:
        if name not in known and route.path.startswith("/v1/"):  # what asks for its state may add what it likes
            raise bad_request(unknown_name("option of this address", printable(name)[:_LONGEST_OPTION], known))


router = APIRouter(dependencies=[Depends(_refuse_unknown_options)])
decisions_router = APIRouter(route_class=_SmallBodyRoute, dependencies=[Depends(_refuse_unknown_options)])

Model = Annotated[str | None, Query(max_length=200, description="A model that is served; by default the first.")]
Coverage = Annotated[
    str | None, Query(max_length=20, description="Seconds of each track to hear, evenly spread, or `full`.")
]
Name = Annotated[str | None, Query(max_length=255, description="What to call the file of a raw body.")]
TopTags = Annotated[int, Query(ge=0, le=1000, description="How many tags to name.")]
TopTracks = Annotated[int, Query(ge=1, le=1000, description="How many tracks to find.")]
Timeline = Annotated[bool, Query(description="Whether to tell the heard segments and the sections too.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="The first row to tell of.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many rows to tell of.")]
Row = Annotated[int, Path(description="The row of the plan, from 0 on.")]

_Record = dict[str, Any]


@router.post("/v1/classify", responses=answers_of(schemas.ClassifyAnswers), openapi_extra=FILES, tags=["hear"])
async def classify(
    request: Request,
    top: TopTags = 3,
    timeline: Timeline = False,
    model: Model = None,
    coverage: Coverage = None,
    name: Name = None,
) -> Response:
    """Name the genre of one file or several: one answer a file, in their order.

    With `Accept: text/event-stream` each answer comes as it is heard, as an event `answer` whose id is the number of
    the file from 0 on; the last event, `done`, counts them.
    """
    try:
        classifier = _service(request).classifier(model, coverage)
    except UsageError as error:
        raise bad_request(error) from error

    def hear(upload: Upload) -> _Record:
        answer = replace(classifier.classify(upload.path), path=upload.name)
        return record(answer)

    def failed(name: str, reason: str) -> _Record:
        return record(Failure(name, reason))

    def record(result: Result) -> _Record:
        names = {"names_tags": classifier.names_tags, "names_wide": classifier.names_wide}
        return record_of(result, top=top, timeline=timeline, **names)

    return _answering(request, Hearing(hear, failed))


@router.post("/v1/embed", responses=answers_of(schemas.EmbedAnswers), openapi_extra=FILES, tags=["hear"])
async def embed(request: Request, name: Name = None) -> Response:
    """Make one vector of each file, as `musicgenre embed` does; events as for `classify`."""
    embedder = _embedder(request)
    settings = {key: value for key, value in embedder.settings.as_dict().items() if key != "location"}

    def hear(upload: Upload) -> _Record:
        made = embedder.embed(upload.path)
        vector = [round(float(value), 6) for value in made.vector]
        return {"path": upload.name, "vector": vector, **settings, "warnings": list(made.warnings), "error": None}

    def failed(name: str, reason: str) -> _Record:
        return {"path": name, "vector": None, **settings, "warnings": [], "error": reason}

    return _answering(request, Hearing(hear, failed))


@router.post("/v1/similar", responses=answers_of(schemas.SimilarAnswers), openapi_extra=FILES, tags=["hear"])
async def similar(request: Request, top: TopTracks = 10, name: Name = None) -> Response:
    """Find the tracks of the server's index that sound most like each file; events as for `classify`."""
    library: Library | None = _service(request).index
    if library is None:
        raise ProblemError(
            "not-found",
            "the server was given no index to look in",
            next_step="Make one with `musicgenre embed`, and start the server with --index FILE.npz",
        )
    embedder = _embedder(request)

    def hear(upload: Upload) -> _Record:
        try:
            found, warnings = library.nearest(upload, embedder, top)
        except UsageError as error:  # silence has no direction
            raise AudioError(error.problem, valid=error.valid, next_step=error.next_step) from error
        return _neighbours(upload.name, found, list(warnings), None)

    def failed(name: str, reason: str) -> _Record:
        return _neighbours(name, [], [], reason)

    def _neighbours(name: str, found: list[_Record], warnings: list[str], error: str | None) -> _Record:
        told = {"neighbours": found, "warnings": warnings, "error": error}
        return {"track": name, "model": embedder.settings.model, **told}

    return _answering(request, Hearing(hear, failed))


@router.get(
    "/v1/models", response_model=schemas.Models, responses=problems_of("bad-request", "no-token"), tags=["about"]
)
async def models(request: Request) -> Response:
    """List the models that are served: labels, licence, measured scores with their intervals, the whole card."""
    return JSONResponse({"models": _service(request).about()})


@router.post(
    "/v1/session",
    status_code=204,
    response_class=Response,
    responses=problems_of("bad-request", "no-token", "foreign-origin"),
    tags=["about"],
)
async def begin_session(request: Request) -> Response:
    """Give a page that shows the token a cookie in its place, which scripts cannot read."""
    state = request.app.state
    if not state.door.knows(request.headers):
        raise guard.no_token()

    response = Response(status_code=204)
    if token := state.settings.token:
        response.set_cookie(
            guard.COOKIE,
            guard.session_of(token),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
    return response


@router.delete(
    "/v1/session",
    status_code=204,
    response_class=Response,
    responses=problems_of("bad-request", "foreign-origin"),
    tags=["about"],
)
async def end_session() -> Response:
    """Take the cookie back."""
    response = Response(status_code=204)
    response.delete_cookie(guard.COOKIE, path="/", httponly=True, samesite="strict")
    return response


@router.get(
    "/v1/plan",
    response_model=schemas.PlanTracks,
    responses=problems_of("bad-request", "no-token", "not-found"),
    tags=["plan"],
)
async def plan_tracks(request: Request, offset: Offset = 0, limit: Limit = 100) -> Response:
    """Tell what the plan that the server was started with would change, row by row."""
    return JSONResponse(_plan(request).page(offset, limit))


@decisions_router.post(
    "/v1/plan/decisions",
    response_model=schemas.PlanTracks,
    responses=problems_of(
        *("bad-request", "no-token", "foreign-origin", "not-found", "slow-upload", "conflict", "too-large"),
        "disk-full",
    ),
    tags=["plan"],
)
async def decide(request: Request, decided: schemas.Decisions) -> Response:
    """Save decisions of a person into the plan; music is written by `musicgenre library apply` alone."""
    decisions = [Decision(one.row, one.write, tuple(one.genres)) for one in decided.decisions]
    return JSONResponse(await run_in_threadpool(_plan(request).decide, decisions))


@router.get(
    "/v1/plan/tracks/{row}/sound",
    response_class=Response,
    responses={
        200: {
            "description": "The whole file.",
            "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {"description": "The part that `Range` asks for.", "content": {"audio/*": {}}},
        **problems_of("bad-request", "no-token", "not-found", "bad-range"),
    },
    tags=["plan"],
)
async def sound(request: Request, row: Row) -> Response:
    """Play a track of the plan that the server was started with; `Range` asks for a part."""
    return _plan(request).sound(row)


@router.get("/healthz", response_model=schemas.State, tags=["state"])
async def healthz() -> Response:
    """Tell that the process is alive."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz", response_model=schemas.State, responses=problems_of("closing"), tags=["state"])
async def readyz(request: Request) -> Response:
    """Tell that the models are loaded and requests are taken."""
    if request.app.state.workshop.is_closing:
        raise ProblemError("closing", "the server is ending", headers={"Retry-After": "10"})
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Numbers for Prometheus.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems_of("no-token"),
    },
    tags=["state"],
)
async def numbers(request: Request) -> Response:
    """Tell how much was asked and heard, how long it took, and what waits."""
    return Response(request.app.state.metrics.text(), media_type=metrics.MEDIA_TYPE)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _plan(request: Request) -> PlanTracks:
    """The plan that the server was started with.

    Raises
    ------
    ProblemError
        It was given none.
    """
    plan = _service(request).plan
    if plan is None:
        raise ProblemError(
            "not-found", "the server was given no plan", next_step="Start it with --plan FILE to review one"
        )
    return plan


def _embedder(request: Request) -> Embedder:
    """What makes embeddings here.

    Raises
    ------
    ProblemError
        Nothing does.
    """
    embedder = _service(request).embedder
    if embedder is None:
        raise ProblemError(
            "not-found",
            "the server has no model that embeds",
            next_step="Start it with --embedder default, or another model that `musicgenre embed` takes",
        )
    return embedder


def _answering(request: Request, hearing: Hearing) -> Response:
    state = request.app.state
    return AnswerResponse(request, state.uploads, state.workshop, hearing)
