"""The application: models, workshop and uploads put together behind one door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route

from musicgenre._text import printable, shortened
from musicgenre._version import __version__
from musicgenre.server import api, web
from musicgenre.server.guard import Door, Guard, complete
from musicgenre.server.metrics import Counting, Metrics
from musicgenre.server.openapi import document
from musicgenre.server.problems import KINDS, ProblemError
from musicgenre.server.service import Service
from musicgenre.server.settings import Settings
from musicgenre.server.uploads import Uploads
from musicgenre.server.workshop import Workshop

_SILENT: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(settings: Settings, service: Service, folder: Path) -> FastAPI:
    """Put an application together.

    Parameters
    ----------
    settings : Settings
        What it was started with.
    service : Service
        The loaded models.
    folder : Path
        Where uploads lie while they are heard; nobody else writes there.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.is_idle = app.state.workshop.end()

    app = FastAPI(
        title="musicgenre",
        version=__version__,
        summary="Names the genre of music.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their functions
        telemetry=_SILENT,  # nothing that the environment says makes it tell another host
    )
    state = app.state
    state.settings = settings
    state.service = service
    state.workshop = Workshop(service.jobs, settings.queue, settings.timeout_s)
    state.uploads = Uploads(folder, settings.max_upload_bytes)
    state.metrics = Metrics(state.workshop, state.uploads)
    state.door = Door(settings)

    app.include_router(api.router)
    app.include_router(api.decisions_router)
    app.include_router(web.router)
    for place, files in web.folders().items():
        app.mount(place, files)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]

    # The last one that is added is the first to be asked.
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Guard, door=state.door)
    app.add_middleware(Counting, metrics=state.metrics)

    app.add_exception_handler(ProblemError, _tell_problem)
    app.add_exception_handler(RequestValidationError, _tell_bad_option)
    app.add_exception_handler(HTTPException, _tell_http_error)
    app.add_exception_handler(Exception, _tell_fault)
    return app


async def _tell_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _tell_bad_option(request: Request, error: Exception) -> Response:
    """Tell which options of the address are wrong, or which values of the body."""
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    wrong, valid = [], []
    for fault in faults:
        place, *steps = (str(step) for step in fault["loc"])
        name = ".".join(steps) if place == "body" else (steps or [place])[-1]
        given = printable(str(fault.get("input")))[:100]
        wrong.append(f"{name}={given}" if name else given)
        valid.append(f"{name or place}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    where = "body" if faults[0]["loc"][0] == "body" else "address"
    return ProblemError(
        "bad-request", f"the {where} says {shortened(wrong, 3)}", valid="; ".join(valid), next_step="See /docs"
    ).response()


async def _tell_http_error(request: Request, error: Exception) -> Response:
    """Tell of addresses and methods that do not exist."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {printable(request.url.path)[:200]}"
    by_status = {status: kind for kind, (status, _) in KINDS.items()}
    kind = by_status.get(error.status_code, "bad-request")
    headers = dict(error.headers or {})
    if kind == "method-not-allowed":  # the framework tells the methods of the first of the routes there
        methods: set[str] = set()
        for route in (*api.router.routes, *api.decisions_router.routes, *web.router.routes):
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
                methods |= route.methods or set()
        headers["Allow"] = ", ".join(sorted(methods)) or headers.get("Allow", "GET")
    return ProblemError(
        kind, f"{where} is not there", valid=headers.get("Allow", ""), next_step="See /docs", headers=headers
    ).response()


async def _tell_fault(request: Request, error: Exception) -> Response:
    """Tell that there is a fault of ours; what it is stands in the log of the server alone."""
    response = ProblemError(
        "internal",
        f"{request.method} {printable(request.url.path)[:200]} met a fault of musicgenre",
        next_step="Report it with what the server printed",
    ).response()
    complete(request.scope, response.headers)  # the guard is behind what tells of faults
    return response
