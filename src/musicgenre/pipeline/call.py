"""The smoke call: a server is asked for one track, and must answer as the bundle does."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musicgenre._json import parsed_json
from musicgenre._text import printable
from musicgenre.bundle.versions import Version
from musicgenre.errors import UsageError
from musicgenre.listening.classifier import Classifier
from musicgenre.listening.results import record_of
from musicgenre.pipeline.judge import RefusedError

TOLERANCE = 1e-3
"""Largest difference in probability between the answer of a server and of its bundle."""

_ASK_AGAIN_S = 0.2
_ANSWER_S = 180.0  # more than a server takes for one track before it gives up
_END_S = 40.0
_SHOWN_CHARACTERS = 500  # of what a server said before it ended
_LISTENING = re.compile(r"listening at (http://\S+)")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: what is asked holds the token."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def check_answer(version: Version, track: Path, address: str, *, token: str = "", wait_s: float) -> dict[str, Any]:
    """Ask a server for one track, once it serves the version.

    Parameters
    ----------
    version : Version
        What it must serve.
    track : Path
        The track.
    address : str
        Where it listens.
    token : str
        What it wants to be shown; empty: nothing.
    wait_s : float
        Seconds in which it must be ready and serve the version.

    Returns
    -------
    dict
        The answer, in few words.

    Raises
    ------
    RefusedError
        It does not serve the version in time, does not answer, or answers otherwise than the bundle.
    AudioError
        The bundle itself cannot hear the track.
    """
    classifier = Classifier(str(version.bundle))
    wanted = record_of(
        classifier.classify(track), top=3, timeline=False, names_tags=classifier.names_tags, names_wide=False
    )
    model = _wait_for(version, address, token, wait_s)

    query = urllib.parse.urlencode({"model": model, "name": f"track{track.suffix}"})
    told = _asked(f"{address}/v1/classify?{query}", token, body=track.read_bytes())
    answers = told.get("answers")
    if not isinstance(answers, list) or len(answers) != 1 or not isinstance(answers[0], dict):
        raise RefusedError(f"{address} answers one track with {str(told)[:_SHOWN_CHARACTERS]}")
    if different := differences(answers[0], wanted):
        raise RefusedError(
            f"{address} answers {track.name} otherwise than the bundle: {'; '.join(different)}",
            valid=f"the same words, and probabilities within {TOLERANCE:g}",
        )
    return {"track": track.name, "genre": wanted["genre"], "confidence": wanted["confidence"]}


def differences(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name in what two records of one track differ, but for its name and for less than the tolerance."""
    found = []
    for key in (*wanted, *(key for key in given if key not in wanted)):
        if key == "path" or _is_near(given.get(key), wanted.get(key)):
            continue
        found.append(f"{key} is {given.get(key)!r} and not {wanted.get(key)!r}"[:_SHOWN_CHARACTERS])
    return found


@contextmanager
def own_server(models: Path, log: Path, *, wait_s: float) -> Iterator[str]:
    """Run `musicgenre serve` with a folder of versions at a free port; yield its address.

    Parameters
    ----------
    models : Path
        The folder of versions.
    log : Path
        What it says goes there.
    wait_s : float
        Seconds in which it must listen.

    Raises
    ------
    RefusedError
        It ends at once, or does not listen in time.
    """
    # the settings of the server that people use are none of this one's, in the environment or the config file
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MUSICGENRE_SERVE_")}
    environment["MUSICGENRE_CONFIG"] = os.fspath(log.parent / "no-config")
    command = [sys.executable, "-m", "musicgenre", "serve", "--port", "0", "--model", f"{models}{os.sep}"]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment)
        try:
            yield _address_of(server, log, wait_s)
        finally:
            server.terminate()
            try:
                server.wait(_END_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address_of(server: subprocess.Popen[bytes], log: Path, wait_s: float) -> str:
    """Wait until a server says where it listens."""
    ends_s = time.monotonic() + wait_s
    while True:
        has_ended = server.poll() is not None
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := _LISTENING.search(said):
            return found[1]
        if has_ended or time.monotonic() >= ends_s:
            why = "ended" if has_ended else f"did not listen within {wait_s:g} s"
            words = printable(" ".join(said.split()))[-_SHOWN_CHARACTERS:]
            raise RefusedError(f"the server {why}: {words or 'it said nothing'}")
        time.sleep(_ASK_AGAIN_S)


def _wait_for(version: Version, address: str, token: str, wait_s: float) -> str:
    """Wait until a server is ready and serves the version; return the name that it has there."""
    ends_s = time.monotonic() + wait_s
    while True:
        served = ""
        try:
            _asked(f"{address}/readyz", token)
            told = _asked(f"{address}/v1/models", token)
            models = [model for model in told.get("models", ()) if isinstance(model, dict)]
            for model in models:
                if model.get("sha256") == version.model_sha256:
                    return str(model["name"])
            served = f"it serves {', '.join(str(model.get('sha256'))[:12] for model in models)}"
        except RefusedError as error:
            served = error.problem
        if time.monotonic() >= ends_s:
            raise RefusedError(
                f"{address} does not serve {version.name} ({version.model_sha256[:12]}) within {wait_s:g} s: {served}",
                next_step="A server takes up a new version when it starts: see docs/deploy.md",
            )
        time.sleep(_ASK_AGAIN_S)


def _asked(address: str, token: str, *, body: bytes | None = None) -> Mapping[str, Any]:
    """Ask, and read the JSON object of the answer."""
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = "application/octet-stream"
    request = urllib.request.Request(address, data=body, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        with opener.open(request, timeout=_ANSWER_S) as response:
            told = parsed_json(response.read())
    except urllib.error.HTTPError as error:
        words = printable(error.read(_SHOWN_CHARACTERS).decode("utf-8", "replace"))
        raise RefusedError(f"{address.partition('?')[0]} answers {error.code}: {words}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RefusedError(f"{address.partition('?')[0]} does not answer ({error})") from error
    if not isinstance(told, dict):
        raise RefusedError(f"{address.partition('?')[0]} answers with no JSON object")
    return told


def _is_near(one: object, other: object) -> bool:
    """Whether two plain values are the same, numbers but for the tolerance."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= TOLERANCE
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_near(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_near, one, other))
    return one == other


def read_token_of(path: Path) -> str:
    """Read the token of a server from its file.

    Raises
    ------
    UsageError
        The file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"deploy.token_file {printable(path)} cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        ) from error
