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

from musicgenre._text import printable, shortened
from musicgenre._version import __version__
from musicgenre.server import api, web
from musicgenre.server.problems import KINDS, ProblemError
from musicgenre.server.service import Service
from musicgenre.server.uploads import Uploads
from musicgenre.server.workshop import Workshop

_SILENT: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(service: Service, folder: Path) -> FastAPI:
    """Put an application together.

    Parameters
    ----------
    service : Service
        The loaded models.
    folder : Path
        Where uploads lie while they are heard; nobody else writes there.
    """
    settings = service.settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.is_idle = app.state.workshop.end()

    app = FastAPI(
        title="musicgenre",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=_SILENT,  # nothing that the environment says makes it tell another host
    )
    app.state.service = service
    app.state.workshop = Workshop(service.jobs, settings.queue, settings.timeout_s)
    app.state.uploads = Uploads(folder, settings.max_upload_bytes)
    app.include_router(api.router)
    app.include_router(web.router)
    app.mount("/page", web.page_files)

    app.add_exception_handler(ProblemError, _tell_problem)
    app.add_exception_handler(RequestValidationError, _tell_bad_option)
    app.add_exception_handler(HTTPException, _tell_http_error)
    return app


async def _tell_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _tell_bad_option(request: Request, error: Exception) -> Response:
    """Tell which options of the address are wrong."""
    assert isinstance(error, RequestValidationError)
    wrong, valid = [], []
    for fault in error.errors():
        name = str(fault["loc"][-1])
        wrong.append(f"{name}={printable(str(fault.get('input')))[:100]}")
        valid.append(f"{name}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    return ProblemError(
        "bad-request", f"the address says {shortened(wrong, 3)}", valid="; ".join(valid), next_step="See /docs"
    ).response()


async def _tell_http_error(request: Request, error: Exception) -> Response:
    """Tell of addresses and methods that do not exist."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {printable(request.url.path)[:200]}"
    by_status = {status: kind for kind, (status, _) in KINDS.items()}
    kind = by_status.get(error.status_code, "bad-request")
    valid = ""
    if kind == "method-not-allowed":
        valid = (error.headers or {}).get("Allow", "")
    return ProblemError(
        kind, f"{where} is not there", valid=valid, next_step="See /docs", headers=error.headers
    ).response()
