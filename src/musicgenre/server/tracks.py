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

_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


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
                "not-found",
                f"the plan has no row {row}",
                valid=f"0 to {len(self._paths) - 1}",
                next_step="See the plan",
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
            if name == b"range" and not self._can_be_given(value.decode("latin-1"), size):
                continue
            headers.append((name, value))
        await super().__call__({**scope, "headers": headers}, receive, send)

    def _can_be_given(self, asked: str, size: int) -> bool:
        """Whether a range is one range of bytes of the file.

        Raises
        ------
        ProblemError
            It is one that lies beyond the file.
        """
        found = _RANGE.fullmatch(asked)
        if found is None or not (found[1] or found[2]):
            return False
        first, last = found[1], found[2]
        if first and last and int(last) < int(first):
            return False
        if (first and int(first) >= size) or (not first and int(last) == 0):
            raise ProblemError(
                "bad-range",
                f"the range {asked} lies outside of the file",
                valid=f"up to byte {size - 1}",
                next_step="Ask for less, or for all of it",
                headers={"Content-Range": f"bytes */{size}"},
            )
        return True
