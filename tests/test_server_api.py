"""Embeddings, similar tracks, models, numbers, sounds of a plan, and a document that says all of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from musicgenre.embedding.embed import Embedder, embed_tracks
from musicgenre.errors import LibraryError, UsageError
from musicgenre.library.plan import PlanRow, read_plan, write_plan
from musicgenre.server import schemas
from musicgenre.server.problems import KINDS
from tests.cli import run
from tests.serving import client_of, make_app
from tests.sounds import music, write
from tests.test_server import left_over, problem_of
from tests.toy import RATE_HZ, save_toy, save_toy_ears


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks, an index of them, a plan, and models."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "music" / "b").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "b/c.wav", "b/d.wav")):
        write(folder / "music" / name, music(3.0, RATE_HZ, 1, seed=number) * (number + 1) / 3, RATE_HZ)
    save_toy(folder / "toy.onnx", scores=(SCORE,), citation="A. Nobody, 2020")
    save_toy_ears(folder / "ears.onnx")
    paths = [str(path) for path in sorted((folder / "music").rglob("*.wav"))]
    embed_tracks(paths, Embedder(str(folder / "ears.onnx")), folder / "index.npz")
    gone = folder / "music" / "gone.wav"
    write_plan([PlanRow(path, True) for path in (*paths, str(gone))], folder / "plan.jsonl")
    return folder


SCORE = {
    "metric": "accuracy",
    "value": 0.8,
    "low": 0.7,
    "high": 0.88,
    "interval": "Wilson 95 %",
    "protocol": "track",
    "n_tracks": 90,
    "leaky": False,
    "seed": 0,
}


@pytest.fixture(scope="module")
def app(place: Path, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return make_app(
        tmp_path_factory.mktemp("uploads"),
        place / "toy.onnx",
        embedder=str(place / "ears.onnx"),
        index=place / "index.npz",
        plan=place / "plan.jsonl",
    )


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return client_of(app)


@pytest.fixture
def bare(place: Path, tmp_path: Path) -> TestClient:
    return client_of(make_app(tmp_path / "uploads", place / "toy.onnx"))


def test_embeddings_are_those_of_the_command(app: FastAPI, client: TestClient, place: Path) -> None:
    track = place / "music" / "a.wav"
    made = Embedder(str(place / "ears.onnx")).embed(track)
    files = [("file", ("a.wav", track.read_bytes())), ("file", ("words.mp3", b"words" * 100))]
    answers = client.post("/v1/embed", files=files).json()["answers"]
    assert answers[0]["vector"] == pytest.approx(made.vector.astype(float), abs=1e-6)
    assert (answers[0]["model"], answers[0]["what"], answers[0]["pool"]) == ("toy-ears", "embedding", "mean")
    assert answers[1]["vector"] is None and answers[1]["error"].startswith("words.mp3 is not audio")
    schemas.EmbedAnswers(answers=answers)
    assert left_over(app) == [] and str(place) not in json.dumps(answers)


def test_neighbours_are_those_of_the_command(client: TestClient, place: Path, tmp_path: Path) -> None:
    new = write(tmp_path / "new.wav", music(3.0, RATE_HZ, 1, seed=9), RATE_HZ)
    for track in (new, place / "music" / "b" / "c.wav"):
        copy = tmp_path / "elsewhere.wav"
        shutil.copy(track, copy)
        arguments = ("--index", place / "index.npz", "--model", place / "ears.onnx", "--format", "json")
        expected = json.loads(run("similar", copy, *arguments).stdout)
        answers = client.post("/v1/similar", files={"file": ("x.wav", track.read_bytes())}).json()["answers"]
        schemas.SimilarAnswers(answers=answers)
        found = answers[0]["neighbours"]
        assert [entry["cosine"] for entry in found] == [entry["cosine"] for entry in expected["neighbours"]]
        prefix = f"{place / 'music'}/"
        assert [prefix + entry["path"] for entry in found] == [entry["path"] for entry in expected["neighbours"]]
        assert found[0]["row"] in range(3) and (answers[0]["track"], answers[0]["model"]) == ("x.wav", "toy-ears")
        assert str(place) not in json.dumps(answers)
    one = client.post("/v1/similar?top=1", files={"file": new.read_bytes()}).json()["answers"]
    assert len(one[0]["neighbours"]) == 1


def test_silence_is_like_nothing(client: TestClient, tmp_path: Path) -> None:
    silence = write(tmp_path / "silence.wav", music(3.0, RATE_HZ, 1) * 0, RATE_HZ)
    response = client.post("/v1/similar", files={"file": ("silence.wav", silence.read_bytes())})
    assert "has no direction" in problem_of(response, 422, "cannot-be-heard")["problem"]


def test_what_was_not_given_is_not_there(bare: TestClient) -> None:
    for path, option in (("/v1/embed", "--embedder"), ("/v1/similar", "--index")):
        problem = problem_of(bare.post(path, files={"file": b"x"}), 404, "not-found")
        assert option in problem["next_step"]
    assert "--plan" in problem_of(bare.get("/v1/plan/tracks/0/sound"), 404, "not-found")["next_step"]


def test_models_tell_how_good_they_are_and_whose(client: TestClient) -> None:
    models = client.get("/v1/models").json()["models"]
    schemas.Models(models=models)
    (model,) = models
    assert (model["name"], model["is_default"], model["labels"]) == ("toy", True, ["loud", "quiet"])
    assert (model["licence"], model["citation"]) == ("Apache-2.0", "A. Nobody, 2020")
    told = {"metric": "accuracy", "value": 0.8, "low": 0.7, "high": 0.88, "interval": "Wilson 95 %"}
    assert model["scores"] == [{**told, "n_tracks": 90, "measured_on": "track"}]
    assert model["card"]["name"] == "toy"


@pytest.mark.default_model
def test_the_default_model_tells_its_score_and_licences(default_bundle_cache: Path, tmp_path: Path) -> None:
    client = client_of(make_app(tmp_path / "uploads", "default"))
    (model,) = client.get("/v1/models").json()["models"]
    schemas.Models(models=[model])
    assert "Apache-2.0" in model["licence"] and "ISC" in model["licence"]
    score = model["scores"][0]
    assert score["low"] < score["value"] < score["high"] and score["n_tracks"] == 789
    assert client.post("/v1/embed", files={"file": b"x"}).status_code == 422


@pytest.mark.default_model
def test_the_wide_vocabulary_is_served_as_the_command_names_it(
    default_bundle_cache: Path, place: Path, tmp_path: Path
) -> None:
    track = place / "music" / "a.wav"
    client = client_of(make_app(tmp_path / "uploads", "default", genres="wide"))
    answers = client.post("/v1/classify", files={"file": ("a.wav", track.read_bytes())}).json()["answers"]
    schemas.ClassifyAnswers(answers=answers)
    done = run("classify", track, "--genres", "wide", "--format", "json")
    assert answers == [{**json.loads(done.stdout), "path": "a.wav"}]
    with pytest.raises(UsageError, match="--genres wide"):
        make_app(tmp_path / "uploads", place / "toy.onnx", genres="wide")


def test_two_models_of_one_name_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two models are named 'toy'"):
        make_app(tmp_path / "uploads", place / "toy.onnx", place / "toy.onnx")


def test_numbers_tell_what_was_asked(client: TestClient, place: Path) -> None:
    client.post("/v1/classify", files={"file": (place / "music" / "a.wav").read_bytes()})
    client.get(f"/{'x' * 1000}")
    told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    rows = dict(line.rsplit(" ", 1) for line in told.text.splitlines() if not line.startswith("#"))
    assert float(rows['musicgenre_requests_total{path="/v1/classify",status="200"}']) >= 1
    assert float(rows['musicgenre_requests_total{path="other",status="404"}']) >= 1
    assert float(rows["musicgenre_upload_bytes_total"]) > 0 and float(rows["musicgenre_files_running"]) == 0
    assert "xxx" not in told.text


# Sounds of a plan.


def test_tracks_of_the_plan_play_by_their_number(client: TestClient, place: Path) -> None:
    content = (place / "music" / "a.wav").read_bytes()
    whole = client.get("/v1/plan/tracks/0/sound")
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["content-type"] in ("audio/x-wav", "audio/wav") and whole.headers["accept-ranges"] == "bytes"
    for asked, part in (
        ("0-9", content[:10]),
        ("10-", content[10:]),
        ("-5", content[-5:]),
        ("40-99999999", content[40:]),
    ):
        given = client.get("/v1/plan/tracks/0/sound", headers={"Range": f"bytes={asked}"})
        assert (given.status_code, given.content) == (206, part)
    for asked in ("bytes=5-2", "lines=1-2", "bytes=-", "bytes=x", "bytes=1-2,4-5"):
        assert client.get("/v1/plan/tracks/0/sound", headers={"Range": asked}).status_code == 200
    for asked in (f"bytes={len(content)}-", "bytes=-0"):
        beyond = client.get("/v1/plan/tracks/0/sound", headers={"Range": asked})
        problem_of(beyond, 416, "bad-range")
        assert beyond.headers["content-range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize("row", ["4", "-1", "99999999999999999999"])
def test_rows_that_are_not_there(client: TestClient, row: str) -> None:
    problem = problem_of(client.get(f"/v1/plan/tracks/{row}/sound"), 404, "not-found")
    assert problem["valid"] == "0 to 3"


def test_no_other_file_is_given(client: TestClient, place: Path) -> None:
    problem = problem_of(client.get("/v1/plan/tracks/3/sound"), 404, "not-found")
    assert problem["problem"] == "the file of row 3 is gone" and str(place) not in json.dumps(problem)
    for path in ("/v1/plan/tracks/..%2F..%2Fetc%2Fpasswd/sound", "/v1/plan/tracks/a.wav/sound"):
        assert client.get(path).status_code in (400, 404)
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/docs/own/..%2f..%2fapp.py", "/page//etc/passwd"):
        problem_of(client.get(path), 404, "not-found")


@pytest.fixture
def reviewed(place: Path, tmp_path: Path) -> tuple[TestClient, Path]:
    """A server that reviews a plan of two albums."""
    rows = [
        PlanRow(
            str(tmp_path / "music" / album / f"{number}.mp3"),
            write=number != 2,
            now=("Other",),
            set={"genre": ("Jazz",)} if number != 2 else {},
            meant=("Jazz",) if number != 2 else (),
            album=album,
            container="" if number == 3 else "mp3",
            why="unsure" if number == 2 else "heard",
        )
        for album in ("one", "two")
        for number in range(4)
    ]
    plan = tmp_path / "review.jsonl"
    write_plan(rows, plan)
    return client_of(make_app(tmp_path / "uploads", place / "toy.onnx", plan=plan)), plan


def test_a_plan_is_told_row_by_row_without_where_the_music_lies(reviewed: tuple[TestClient, Path]) -> None:
    client, plan = reviewed
    told = client.get("/v1/plan", params={"offset": 1, "limit": 4})
    assert told.status_code == 200 and str(plan.parent) not in told.text
    content = told.json()
    assert content["n_rows"] == 8 and [row["row"] for row in content["rows"]] == [1, 2, 3, 4]
    first = content["rows"][0]
    assert (first["folder"], first["name"], first["now"], first["after"]) == ("one", "1.mp3", ["Other"], ["Jazz"])
    assert [row["can_write"] for row in content["rows"]] == [True, True, False, True]
    assert client.get("/v1/plan", params={"offset": 8}).json()["rows"] == []


def test_decisions_are_saved_into_the_plan(reviewed: tuple[TestClient, Path]) -> None:
    client, plan = reviewed
    before = list(read_plan(plan))
    decisions = [
        {"row": 0, "write": False},
        {"row": 2, "write": True, "genres": ["Folk", "Blues"]},
        {"row": 4, "write": True},
    ]
    told = client.post("/v1/plan/decisions", json={"decisions": decisions})
    assert told.status_code == 200, told.text
    assert [row["after"] for row in told.json()["rows"]] == [["Jazz"], ["Folk", "Blues"], ["Jazz"]]
    after = list(read_plan(plan))
    assert [row.write for row in after[:5]] == [False, True, True, True, True]
    assert after[2].correction == ("Folk", "Blues") and after[4].correction is None
    assert after[5:] == before[5:] and after[1] == before[1]


@pytest.mark.parametrize(
    ("decision", "status", "kind"),
    [
        ({"row": 8, "write": False}, 404, "not-found"),
        ({"row": 3, "write": True}, 400, "bad-request"),
        ({"row": 2, "write": True}, 400, "bad-request"),
        ({"row": -1, "write": True}, 400, "bad-request"),
        ({"row": 0, "write": True, "genres": ["a\u0000b"]}, 400, "bad-request"),
        ({"row": 0, "write": True, "path": "/etc/passwd"}, 400, "bad-request"),
    ],
)
def test_a_decision_that_cannot_be_meant_changes_nothing(
    decision: dict[str, Any], status: int, kind: str, reviewed: tuple[TestClient, Path]
) -> None:
    client, plan = reviewed
    before = plan.read_bytes()
    both = {"decisions": [{"row": 1, "write": False}, decision]}
    problem = problem_of(client.post("/v1/plan/decisions", json=both), status, kind)["problem"]
    assert "address" not in problem
    assert plan.read_bytes() == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"decisions": [{"row": -1, "write": True}]}, "the body says decisions.0.row=-1"),
        ({"decision": []}, "decision=[]"),
        ([], "the body says []"),
    ],
)
def test_a_body_that_is_wrong_is_not_called_the_address(
    body: Any, said: str, reviewed: tuple[TestClient, Path]
) -> None:
    assert said in problem_of(reviewed[0].post("/v1/plan/decisions", json=body), 400, "bad-request")["problem"]


def test_a_misspelt_option_is_told(client: TestClient) -> None:
    problem = problem_of(client.post("/v1/classify?timelin=true", content=b"x"), 400, "bad-request")
    assert problem["problem"] == "there is no option of this address named 'timelin'"
    assert problem["next_step"] == "Nearest: 'timeline'" and "coverage" in problem["valid"]
    problem_of(client.get("/v1/plan?ofset=3"), 400, "bad-request")
    problem_of(client.post("/v1/plan/decisions?x=1", json={}), 400, "bad-request")
    assert client.get("/healthz?x=1").status_code == 200, "what watches a server may add what it likes"
    assert "address says top=-1" in problem_of(client.post("/v1/classify?top=-1"), 400, "bad-request")["problem"]


def test_a_plan_that_another_program_changed_is_left_alone(reviewed: tuple[TestClient, Path]) -> None:
    client, plan = reviewed
    edited = plan.read_bytes().replace(b"Jazz", b"Swing")
    plan.write_bytes(edited)
    answer = client.post("/v1/plan/decisions", json={"decisions": [{"row": 1, "write": False}]})
    problem_of(answer, 409, "conflict")
    assert plan.read_bytes() == edited


def test_a_body_of_decisions_that_is_too_long_is_refused(reviewed: tuple[TestClient, Path]) -> None:
    client, _ = reviewed
    problem_of(client.post("/v1/plan/decisions", content=b" " * 8_000_001), 413, "too-large")


def test_a_plan_that_is_none_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    for plan in (tmp_path / "empty.jsonl", tmp_path / "none.jsonl", place / "toy.onnx"):
        with pytest.raises(LibraryError, match="plan"):
            make_app(tmp_path / "uploads", place / "toy.onnx", plan=plan)


# The document.


def test_the_document_says_every_problem_of_every_address(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/v1/classify", "/v1/embed", "/v1/similar", "/v1/models", "/v1/session", "/v1/plan/tracks/{row}/sound"),
        *("/v1/plan", "/v1/plan/decisions"),
        *("/healthz", "/readyz", "/metrics"),
    }
    for path in ("/v1/classify", "/v1/embed", "/v1/similar"):
        operation = document["paths"][path]["post"]
        statuses = {200, 400, 401, 403, 404, 408, 413, 415, 421, 422, 429, 500, 503, 504, 507}
        assert set(map(int, operation["responses"])) == statuses
        assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream"}
        assert "text/event-stream" in operation["responses"]["200"]["content"]
    for operations in document["paths"].values():
        for method, operation in operations.items():
            assert method == "get" or "403" in operation["responses"], "pages of other sites are told so"
            assert operation["summary"] and operation["description"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert "application/problem+json" in response["content"], (operation, status)
    assert "HTTPValidationError" not in json.dumps(document)
    assert len({status for status, _ in KINDS.values()}) == len(KINDS), "a status says which problem it is"


def test_examples_of_the_document_have_the_shapes_they_are_of(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    shapes = {
        "/v1/classify": schemas.ClassifyAnswers,
        "/v1/embed": schemas.EmbedAnswers,
        "/v1/similar": schemas.SimilarAnswers,
        "/v1/plan": schemas.PlanTracks,
        "/v1/plan/decisions": schemas.PlanTracks,
        "/healthz": schemas.State,
        "/readyz": schemas.State,
    }
    for path, shape in shapes.items():
        for operation in paths[path].values():
            shape(**operation["responses"]["200"]["content"]["application/json"]["example"])
    asked = paths["/v1/plan/decisions"]["post"]["requestBody"]["content"]["application/json"]["example"]
    schemas.Decisions(**asked)

    n_problems = 0
    for operations in paths.values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    problem = schemas.Problem(**response["content"]["application/problem+json"]["example"])
                    assert problem.status == int(status)
                    n_problems += 1
    assert n_problems > 40


@pytest.mark.parametrize("query", ["", "?timeline=true", "?top=0"])
def test_answers_have_the_shapes_of_the_document(client: TestClient, place: Path, tmp_path: Path, query: str) -> None:
    tagger = save_toy(tmp_path / "tagger.onnx", thresholds=(0.5, 0.5))
    files: list[Any] = [
        ("file", ("a.wav", (place / "music" / "a.wav").read_bytes())),
        ("file", ("words.mp3", b"words")),
    ]
    for asked in (client, client_of(make_app(tmp_path / "uploads", tagger))):
        answers = asked.post(f"/v1/classify{query}", files=files).json()["answers"]
        schemas.ClassifyAnswers(answers=answers)
        schemas.Problem(**asked.post("/v1/classify", files=files[1:]).json())
