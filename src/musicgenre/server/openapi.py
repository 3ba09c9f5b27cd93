"""The OpenAPI document: what FastAPI tells of the addresses, made whole with bodies, examples and every problem."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from musicgenre.server.problems import KINDS, MEDIA_TYPE, ProblemError
from musicgenre.server.schemas import Problem

_BINARY = {"type": "string", "format": "binary"}

FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One file as the body, of any audio type, or one file or several as a form.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": _BINARY, "minItems": 1}},
                    "required": ["file"],
                }
            },
            "application/octet-stream": {"schema": _BINARY},
        },
    }
}
"""The body of what takes files."""

_OF_FILES = (
    *("bad-request", "no-token", "foreign-origin", "not-found", "slow-upload", "too-large", "unsupported-media-type"),
    *("cannot-be-heard", "busy", "closing", "took-too-long", "disk-full"),
)
_ANYWHERE = ("foreign-host", "internal")
_EXAMPLES: dict[str, ProblemError] = {
    "bad-request": ProblemError("bad-request", "no model named 'jaz' is served", valid="Served: default"),
    "too-large": ProblemError(
        "too-large", "412000000 bytes are to come", valid="up to 300 MB for one request", next_step="Send fewer files"
    ),
    "cannot-be-heard": ProblemError(
        "cannot-be-heard",
        "list.txt is not audio that can be decoded",
        valid="WAV, FLAC, MP3, Ogg, Opus, AIFF, AU, M4A, WMA, WavPack, or a video with sound",
        next_step="Play it to see whether it is whole",
    ),
    "busy": ProblemError(
        "busy",
        "34 requests are being worked on or waiting",
        valid="up to 34 at a time",
        next_step="Ask again in 8 s",
    ),
}
_EXAMPLE_ANSWER: dict[str, Any] = {
    "path": "song.mp3",
    "duration_s": 214.3,
    "heard_s": 17.95,
    "genre": "jazz",
    "confidence": 0.93,
    "candidates": ["jazz"],
    "style": None,
    "scores": {"jazz": 0.93, "blues": 0.05, "classical": 0.02},
    "tags": {"jazz": 0.71, "instrumental": 0.22, "piano": 0.2},
    "warnings": [],
    "model": "default",
    "error": None,
    "reason": None,
}

_EXAMPLE_TRACK: dict[str, Any] = {
    **{"row": 0, "name": "song.mp3", "folder": "Album", "artist": "Somebody", "album": "Album", "title": "Song"},
    **{"now": ["Other"], "after": ["Jazz"], "write": True, "can_write": True, "confidence": 0.93, "why": "heard"},
    "note": "",
}
_EXAMPLES_OF_ANSWERS: dict[str, Any] = {
    "/v1/classify": {"answers": [_EXAMPLE_ANSWER]},
    "/v1/embed": {
        "answers": [
            {
                **{"path": "song.mp3", "vector": [0.12, -0.4, 0.03], "model": "default", "model_sha256": "5f1c..."},
                **{"what": "embedding", "pool": "mean", "coverage": "18", "warnings": [], "error": None},
            }
        ]
    },
    "/v1/similar": {
        "answers": [
            {
                **{"track": "song.mp3", "model": "default", "warnings": [], "error": None},
                "neighbours": [{"row": 41, "path": "Album/other.mp3", "cosine": 0.91}],
            }
        ]
    },
    "/v1/plan": {"n_rows": 1, "rows": [_EXAMPLE_TRACK]},
    "/v1/plan/decisions": {"n_rows": 1, "rows": [_EXAMPLE_TRACK]},
    "/healthz": {"status": "alive"},
    "/readyz": {"status": "ready"},
}
_EXAMPLE_DECISIONS = {"decisions": [{"row": 0, "write": True, "genres": ["Swing"]}, {"row": 1, "write": False}]}


def problems_of(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that an address may answer with."""
    described: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, title = KINDS[kind]
        content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
        content["example"] = _EXAMPLES.get(kind, ProblemError(kind, title[:1].lower() + title[1:])).as_dict()
        described[status] = {"description": f"{title}.", "content": {MEDIA_TYPE: content}}
        if kind == "busy":
            described[status]["headers"] = {
                "Retry-After": {"description": "Seconds until a place is likely free.", "schema": {"type": "integer"}}
            }
    return described


def answers_of(shape: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Describe the answers of an address that takes files."""
    return {200: {"model": shape, "description": "One answer a file."}, **problems_of(*_OF_FILES)}


def document(app: FastAPI) -> dict[str, Any]:
    """Write the document, once."""
    if app.openapi_schema is not None:
        return app.openapi_schema

    whole = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    whole["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    schemas = whole["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own words for what is a problem here
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    whole["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}

    for path, operations in whole["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    for path, example in _EXAMPLES_OF_ANSWERS.items():
        for operation in whole["paths"][path].values():
            operation["responses"]["200"]["content"]["application/json"]["example"] = example
    asked = whole["paths"]["/v1/plan/decisions"]["post"]["requestBody"]["content"]
    asked["application/json"]["example"] = _EXAMPLE_DECISIONS
    app.openapi_schema = whole
    return whole


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Tell of one operation what holds for all, and nothing that does not hold."""
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
        responses.setdefault("400", problems_of("bad-request")[400])
    for status, response in problems_of(*_ANYWHERE).items():
        responses.setdefault(str(status), response)
    if "401" in responses:
        operation["security"] = [{"token": []}, {}]  # the server may have been started without one
    if "multipart/form-data" in operation.get("requestBody", {}).get("content", {}):
        responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
