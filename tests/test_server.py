"""The HTTP API answers as the command does, and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.cli import classify_json
from tests.serving import client_of, make_app
from tests.sounds import music, write
from tests.toy import RATE_HZ, save_toy

WORDS = b"This is a shopping list: milk, eggs, bread.\n" * 50


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx", unsure_threshold=0.9)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("tagger") / "tagger.onnx", thresholds=(0.5, 0.5), labels=("soft", "harsh"))


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tracks") / "a song.wav", music(4.0, RATE_HZ, 1), RATE_HZ)


@pytest.fixture
def app(toy: Path, tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "uploads", toy)


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return client_of(app)


def left_over(app: FastAPI) -> list[Path]:
    """Files that a request left in the folder of uploads."""
    return list(app.state.uploads.folder.iterdir())


def problem_of(response: Any, status: int, kind: str) -> dict[str, Any]:
    """Check that a response is a whole problem; return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:musicgenre:problem:{kind}"
    assert problem["status"] == status
    assert problem["problem"] and problem["title"] and problem["detail"].startswith(problem["problem"])
    return problem


@pytest.mark.parametrize("options", [{}, {"top": 1}, {"timeline": "true"}, {"coverage": "2", "timeline": "true"}])
@pytest.mark.parametrize("model", ["toy", "tagger"])
def test_answers_are_those_of_the_command(
    model: str, options: dict[str, Any], toy: Path, tagger: Path, track: Path, tmp_path: Path
) -> None:
    """One contract: `classify --format json` and `POST /v1/classify` write the same."""
    path = {"toy": toy, "tagger": tagger}[model]
    words = tmp_path / "words.mp3"
    words.write_bytes(WORDS)
    arguments: list[str | Path] = [
        "--timeline=full" if name == "timeline" else f"--{name}={value}" for name, value in options.items()
    ]
    _, records, _ = classify_json(path, track, words, *arguments)

    app = make_app(tmp_path / "uploads", path)
    files = [("file", (file.name, file.read_bytes())) for file in (track, words)]
    response = client_of(app).post("/v1/classify", files=files, params=options)

    assert response.status_code == 200, response.text
    answers = response.json()["answers"]
    expected = [{**records[file.name], "path": file.name} for file in (track, words)]
    expected[1]["error"] = expected[1]["error"].replace(str(words), words.name)
    assert answers == expected
    assert left_over(app) == []


def test_a_raw_body_is_a_file(client: TestClient, track: Path) -> None:
    headers = {"Content-Type": "audio/wav"}
    plain = client.post("/v1/classify", content=track.read_bytes(), headers=headers).json()["answers"]
    named = client.post("/v1/classify?name=b.wav", content=track.read_bytes(), headers=headers).json()["answers"]
    assert [answer["path"] for answer in (*plain, *named)] == ["upload", "b.wav"]
    assert {**plain[0], "path": ""} == {**named[0], "path": ""}


def test_a_file_that_cannot_be_heard_is_a_problem_without_a_path(app: FastAPI, client: TestClient) -> None:
    response = client.post("/v1/classify", files={"file": ("words.mp3", WORDS)})
    problem = problem_of(response, 422, "cannot-be-heard")
    assert problem["problem"] == "words.mp3 is not audio that can be decoded"
    assert problem["valid"].startswith("WAV, FLAC") and problem["next_step"].startswith("Play it")
    assert [answer["path"] for answer in problem["answers"]] == ["words.mp3"]
    assert str(app.state.uploads.folder) not in response.text
    assert left_over(app) == []


def test_events_come_one_a_file(client: TestClient, track: Path) -> None:
    files = [("file", ("a.wav", track.read_bytes())), ("file", ("words.mp3", WORDS))]
    response = client.post("/v1/classify", files=files, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [dict(line.split(": ", 1) for line in part.splitlines()) for part in response.text.strip().split("\n\n")]
    assert [event["event"] for event in events] == ["answer", "answer", "done"]
    by_number = {event["id"]: json.loads(event["data"]) for event in events[:2]}
    assert [by_number[number]["path"] for number in ("0", "1")] == ["a.wav", "words.mp3"]
    assert json.loads(events[2]["data"]) == {"heard": 1, "failed": 1}
    whole = client.post("/v1/classify", files=files).json()["answers"]
    assert [by_number["0"], by_number["1"]] == whole


def test_what_is_not_there_is_a_problem(client: TestClient) -> None:
    problem_of(client.get("/nothing"), 404, "not-found")
    problem = problem_of(client.get("/v1/classify"), 405, "method-not-allowed")
    assert problem["valid"] == "POST"
    for path, methods in (("/v1/session", "DELETE, POST"), ("/v1/plan/decisions", "POST"), ("/healthz", "GET")):
        assert client.patch(path).headers["allow"] == methods


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("top=many", "top=many"),
        ("top=-1", "top=-1"),
        ("coverage=soon", "coverage 'soon'"),
        ("model=/etc/passwd", "no model named '/etc/passwd'"),
        ("model=toi", "no model named 'toi'"),
    ],
)
def test_wrong_options_are_told(client: TestClient, track: Path, query: str, told: str) -> None:
    response = client.post(f"/v1/classify?{query}", files={"file": track.read_bytes()})
    problem = problem_of(response, 400, "bad-request")
    assert told in problem["problem"] and problem["valid"]


def test_it_is_alive_and_ready(app: FastAPI, client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    app.state.workshop.close()
    problem_of(client.get("/readyz"), 503, "closing")
    assert client.get("/healthz").status_code == 200
