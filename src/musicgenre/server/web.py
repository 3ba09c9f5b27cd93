"""What a browser is given: the page, whose files lie in `page/`."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

_PAGE = Path(__file__).parent / "page"

router = APIRouter(include_in_schema=False)

page_files = StaticFiles(directory=_PAGE)
"""The files of the page, served below `/page/`."""


@router.get("/")
async def page() -> Response:
    """Give the page."""
    return FileResponse(_PAGE / "index.html", media_type="text/html")
