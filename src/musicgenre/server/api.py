"""The addresses of the API: what they take, and what they answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from musicgenre.errors import UsageError
from musicgenre.listening.batch import Failure
from musicgenre.listening.results import record_of
from musicgenre.server.answers import AnswerResponse, Hearing
from musicgenre.server.problems import ProblemError, bad_request
from musicgenre.server.service import Service
from musicgenre.server.uploads import Upload

router = APIRouter()

Top = Annotated[int, Query(ge=0, le=1000, description="How many tags to name.")]
Timeline = Annotated[bool, Query(description="Whether to tell the heard segments and the sections too.")]
Model = Annotated[str | None, Query(max_length=200, description="A model that is served; by default the first.")]
Coverage = Annotated[
    str | None, Query(max_length=20, description="Seconds of each track to hear, evenly spread, or `full`.")
]
Name = Annotated[str | None, Query(max_length=255, description="What to call the file of a raw body.")]


@router.post("/v1/classify")
async def classify(
    request: Request,
    top: Top = 3,
    timeline: Timeline = False,
    model: Model = None,
    coverage: Coverage = None,
    name: Name = None,
) -> Response:
    """Name the genre of one file or several."""
    service: Service = request.app.state.service
    try:
        classifier = service.classifier(model, coverage)
    except UsageError as error:
        raise bad_request(error) from error

    def hear(upload: Upload) -> dict[str, Any]:
        answer = replace(classifier.classify(upload.path), path=upload.name)
        return record_of(answer, top=top, timeline=timeline, names_tags=classifier.names_tags)

    def failed(name: str, reason: str) -> dict[str, Any]:
        return record_of(Failure(name, reason), top=top, timeline=timeline, names_tags=classifier.names_tags)

    return AnswerResponse(request, request.app.state.uploads, request.app.state.workshop, Hearing(hear, failed))


@router.get("/healthz")
async def healthz() -> Response:
    """Tell that the process is alive."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Tell that the models are loaded and requests are taken."""
    if request.app.state.workshop.is_closing:
        raise ProblemError("closing", "the server is ending", headers={"Retry-After": "10"})
    return JSONResponse({"status": "ready"})
