"""A library's plan, which a page may play and review: tracks by the number of their row, and no other file.

Decisions are saved into the plan, the one file that is written: `musicgenre library apply` alone writes music.
"""

from __future__ import annotations

import mimetypes
import os
import re
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from musicgenre._text import printable
from musicgenre.errors import LibraryError, UsageError
from musicgenre.filetags.base import GENRE
from musicgenre.library.plan import PlanRow, read_plan, write_plan
from musicgenre.server.problems import ProblemError

_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about one track.

    Attributes
    ----------
    row : int
        Its row in the plan, from 0 on.
    write : bool
        Whether it is to be written.
    genres : tuple of str
        Genres in place of what is proposed; empty: what is proposed.
    """

    row: int
    write: bool
    genres: tuple[str, ...] = ()


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
        self._plan = path
        self._rows = list(read_plan(path))
        if not self._rows:
            raise LibraryError(f"the plan {path} holds no track", next_step="Make one with: musicgenre library plan")
        self._seen = _state_of(path)
        self._saving = threading.Lock()
        folders = [os.path.dirname(row.path) for row in self._rows]  # noqa: PTH120 - as text, whatever it holds
        try:
            common = os.path.commonpath(folders)
        except ValueError:  # on several drives
            common = ""
        self._n_hidden = len(common) + 1 if common else 0

    def __len__(self) -> int:
        return len(self._rows)

    def page(self, offset: int, limit: int) -> dict[str, Any]:
        """Tell of rows from `offset` on, `limit` at most, without the folder that all tracks lie in."""
        shown = range(offset, min(offset + limit, len(self)))
        return {"n_rows": len(self), "rows": [self._record(row) for row in shown]}

    def decide(self, decisions: Sequence[Decision]) -> dict[str, Any]:
        """Save what a person decided into the plan, whole or not at all; tell of the rows as they are now.

        Raises
        ------
        ProblemError
            There is no such row, its tags cannot be written, nothing is proposed for it, or the plan has changed
            on the disk or cannot be written.
        """
        with self._saving:
            changed = dict(enumerate(self._rows))
            for decision in decisions:
                self._check_row(decision.row)
                changed[decision.row] = _decided(changed[decision.row], decision)

            if _state_of(self._plan) != self._seen:
                raise ProblemError(
                    "conflict",
                    "the plan was changed by another program since it was read",
                    next_step="Start the server again",
                )
            rows = list(changed.values())
            try:
                write_plan(rows, self._plan)
            except UsageError as error:
                raise ProblemError(
                    "disk-full", "the plan cannot be written", next_step="Look for room and permissions"
                ) from error
            self._rows, self._seen = rows, _state_of(self._plan)
        return {"n_rows": len(self), "rows": [self._record(decision.row) for decision in decisions]}

    def _record(self, number: int) -> dict[str, Any]:
        row = self._rows[number]
        folder, name = os.path.split(row.path[self._n_hidden :])
        return {
            "row": number,
            "name": printable(name),
            "folder": printable(folder),
            "artist": row.artist,
            "album": row.album,
            "title": row.title,
            "now": list(row.now),
            "after": list(row.set.get(GENRE, ())),
            "write": row.write,
            "can_write": bool(row.container),
            "confidence": row.confidence,
            "why": row.why,
            "note": row.note,
        }

    def _check_row(self, row: int) -> None:
        if not 0 <= row < len(self):
            raise ProblemError(
                "not-found",
                f"the plan has no row {row}",
                valid=f"0 to {len(self) - 1}",
                next_step="See the plan",
            )

    def sound(self, row: int) -> SoundResponse:
        """Give the file of a row, from 0 on, or the part of it that the request asks for.

        Raises
        ------
        ProblemError
            There is no such row, or its file is gone.
        """
        self._check_row(row)
        path = Path(self._rows[row].path)
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


def _decided(row: PlanRow, decision: Decision) -> PlanRow:
    """Change a row as a person would who edits the plan.

    Raises
    ------
    ProblemError
        The row cannot be written.
    """
    if not decision.write:
        return replace(row, write=False)
    if not row.container:
        raise ProblemError(
            "bad-request", f"the tags of row {decision.row} cannot be written", next_step="Leave it out, or reject it"
        )
    changed = dict(row.set)
    if decision.genres:
        changed[GENRE] = decision.genres
    if not changed:
        raise ProblemError(
            "bad-request", f"nothing is proposed for row {decision.row}", next_step="Give it `genres`, or reject it"
        )
    return replace(row, write=True, set=changed)


def _state_of(path: Path) -> tuple[int, int, int]:
    """What changes when a file does; zeros for one that is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino
