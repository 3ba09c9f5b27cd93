"""Tracks of a library's plan, which a page may play: each by the number of its row, and no other file."""

from __future__ import annotations

import mimetypes
import re
import stat
from pathlib import Path

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from musicgenre.errors import LibraryError
from musicgenre.library.plan import read_plan
from musicgenre.server.problems import ProblemError

_RANGE = re.compile(rb"bytes=(\d{1,18})?-(\d{1,18})?")


class PlanTracks:
    """The tracks of a plan, in the order of its rows as they were at the start.

    Parameters
    ----------
    path : Path
        The plan.

    Raises
    ------
    LibraryError
        The file cannot be read, or is no plan.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [Path(row.path) for row in read_plan(path)]
        if not self._paths:
            raise LibraryError(f"the plan {path} holds no track", next_step="Make one with: musicgenre library plan")

    def __len__(self) -> int:
        return len(self._paths)

    def sound(self, row: int) -> SoundResponse:
        """Give the file of a row, from 0 on, or the part of it that the request asks for.

        Raises
        ------
        ProblemError
            There is no such row, or its file is gone.
        """
        if not 0 <= row < len(self._paths):
            raise ProblemError(
                "not-found", f"the plan has no row {row}", valid=f"0 to {len(self._paths) - 1}", next_step="See the plan"
            )
        path = self._paths[row]
        try:
            status = path.stat()
        except (OSError, ValueError):
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            raise ProblemError("not-found", f"the file of row {row} is gone", next_step="Make the plan again")

        kind = mimetypes.guess_type(path.name)[0] or ""
        is_sound = kind.startswith(("audio/", "video/"))
        return SoundResponse(path, media_type=kind if is_sound else "application/octet-stream", stat_result=status)


class SoundResponse(FileResponse):
    """A file, or a part of it. What is no range of bytes is not heeded; one beyond the file is a problem."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        assert self.stat_result is not None
        size = self.stat_result.st_size
        headers = []
        for name, value in scope["headers"]:
            if name == b"range":
                found = _RANGE.fullmatch(value)
                if found is None or found[1] is found[2] is None or (found[1] and found[2] and int(found[2]) < int(found[1])):
                    continue
                if (found[1] and int(found[1]) >= size) or (found[1] is None and not int(found[2])):
                    raise ProblemError(
                        "bad-range",
                        f"the range {value.decode('latin-1')} lies outside of the file",
                        valid=f"up to byte {size - 1}",
                        headers={"Content-Range": f"bytes */{size}"},
                    )
            headers.append((name, value))
        await super().__call__({**scope, "headers": headers}, receive, send)
