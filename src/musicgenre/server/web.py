"""What a browser is given: the page, whose files lie in `page/`, and the API's document to read and try."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

_HERE = Path(__file__).parent
_PAGE = _HERE / "page"
_DOCS = _HERE / "docs"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """Give the page."""
    return FileResponse(_PAGE / "index.html", media_type="text/html")


@router.get("/docs")
async def docs() -> Response:
    """Give the page that shows the API's document."""
    return FileResponse(_DOCS / "index.html", media_type="text/html")


def folders() -> dict[str, StaticFiles]:
    """Folders of files that are given as they are, by where they are found."""
    found = importlib.util.find_spec("fastapi_offline")  # whose code is not run: it carries the files of Swagger UI
    assert found is not None and found.origin is not None
    return {
        "/page": StaticFiles(directory=_PAGE),
        "/docs/own": StaticFiles(directory=_DOCS),
        "/docs/swagger-ui": StaticFiles(directory=Path(found.origin).parent / "static"),
    }
