"""What goes wrong, as RFC 9457 problems: the bad value, what is valid, the next step, and no path of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from musicgenre.errors import MusicgenreError

MEDIA_TYPE = "application/problem+json"

KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request is not understood"),
    "no-token": (401, "The token is missing or wrong"),
    "foreign-origin": (403, "The request comes from the page of another site"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This address takes other methods"),
    "conflict": (409, "Something else has changed it"),
    "slow-upload": (408, "The upload is too slow"),
    "too-large": (413, "The upload is too large"),
    "unsupported-media-type": (415, "The body is of a kind that is not taken"),
    "bad-range": (416, "The range lies outside of the file"),
    "foreign-host": (421, "This server does not answer to that name"),
    "cannot-be-heard": (422, "Nothing that was sent can be heard"),
    "busy": (429, "All places are taken"),
    "internal": (500, "A fault of the server"),
    "closing": (503, "The server is ending"),
    "took-too-long": (504, "Hearing took too long"),
    "disk-full": (507, "There is no room for the upload"),
}
"""Every kind of problem: the status it has and its title."""


class ProblemError(Exception):
    """A request that ends in a problem.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    problem : str
        What is wrong, with the bad value in it. One sentence, without the full stop.
    valid, next_step : str
        As `MusicgenreError` takes them.
    headers : mapping of str to str
        Headers of the answer.
    members : mapping
        Further members of the document, plain values.
    """

    def __init__(
        self,
        kind: str,
        problem: str,
        *,
        valid: str = "",
        next_step: str = "",
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.status, self.title = KINDS[kind]
        self.error = MusicgenreError(problem, valid=valid, next_step=next_step)
        self.headers = dict(headers or {})
        self.members = dict(members or {})
        super().__init__(str(self.error))

    def as_dict(self) -> dict[str, Any]:
        """The problem's document."""
        return {
            "type": f"urn:musicgenre:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": str(self.error),
            "problem": self.error.problem,
            "valid": self.error.valid,
            "next_step": self.error.next_step,
            **self.members,
        }

    def response(self) -> JSONResponse:
        """The answer to the request."""
        return JSONResponse(self.as_dict(), self.status, self.headers, media_type=MEDIA_TYPE)


def bad_request(error: MusicgenreError) -> ProblemError:
    """Make a problem of an error that a value of the request caused."""
    return ProblemError("bad-request", error.problem, valid=error.valid, next_step=error.next_step)
