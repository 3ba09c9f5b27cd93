"""Who may ask the server, and what it tells browsers: safe by default, and open to others only with a token."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from musicgenre.errors import UsageError
from musicgenre.server import guard
from musicgenre.server.settings import Settings, read_token
from tests.cli import run
from tests.serving import HERE, client_of, make_app
from tests.toy import save_toy

TOKEN = "a-token-of-some-length"
ORIGIN = "https://music.example"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture
def app(toy: Path, tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "uploads", toy)


@pytest.fixture
def locked(toy: Path, tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "uploads", toy, host="0.0.0.0", token=TOKEN, allowed_hosts=("music.example",))


def test_other_machines_are_let_in_with_a_token_alone(toy: Path, tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost", "LOCALHOST"):
        Settings(host=host)
    for host in ("0.0.0.0", "::", "192.168.1.2", "music.example", ""):
        with pytest.raises(UsageError, match="token") as refused:
            Settings(host=host)
        assert "--token-file" in refused.value.next_step
        Settings(host=host, token=TOKEN)

    done = run("serve", "--model", toy, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert b"--host 0.0.0.0 lets other machines ask, and there is no token" in done.stderr
    assert b"secrets.token_urlsafe" in done.stderr


@pytest.mark.parametrize("content", ["", "short", "x" * 1025, "with a blank within it", "with-ümlauts-in-the-token"])
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "token.txt").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="--token-file") as refused:
        read_token(tmp_path / "token.txt")
    assert not content or content not in str(refused.value)


def test_a_token_file_is_read_without_the_line_break(tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token.txt") == TOKEN
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "none.txt")


@pytest.mark.parametrize("place", ["/v1/models", "/metrics", "/v1/plan/tracks/0/sound", "/v1/nothing"])
def test_without_the_token_nothing_is_told(locked: FastAPI, place: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Cookie": "a=b;;=;"}):
        response = client_of(locked, **headers).get(place)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in response.text
    shown = client_of(locked, Authorization=f"Bearer {TOKEN}").get(place)
    assert shown.status_code in (200, 404)


def test_what_a_page_needs_to_ask_for_the_token_is_open(locked: FastAPI) -> None:
    client = client_of(locked)
    for place in ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/docs/swagger-ui/swagger-ui.css"):
        assert client.get(place).status_code == 200, place


def test_a_page_keeps_the_token_in_a_cookie_that_scripts_cannot_read(locked: FastAPI) -> None:
    client = client_of(locked)
    assert client.post("/v1/session").status_code == 401
    begun = client.post("/v1/session", headers={"Authorization": f"Bearer {TOKEN}"})
    assert begun.status_code == 204
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert TOKEN not in cookie
    assert client.get("/v1/models").status_code == 200
    client.delete("/v1/session")
    assert client.get("/v1/models").status_code == 401

    secure = TestClient(locked, base_url="https://127.0.0.1")
    begun = secure.post("/v1/session", headers={"Authorization": f"Bearer {TOKEN}"})
    assert "Secure" in begun.headers["set-cookie"]


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, locked: FastAPI) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(guard.hmac, "compare_digest", compare)
    client_of(locked, Authorization=f"Bearer {TOKEN}").get("/v1/models")
    client_of(locked, Cookie=f"{guard.COOKIE}=x").get("/v1/models")
    assert compared == [(TOKEN.encode(), TOKEN.encode()), (b"x", guard.session_of(TOKEN).encode())]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("stranger.example", 421),
        ("127.0.0.1.stranger.example", 421),
        ("192.168.1.2", 421),
        ("music.example", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_strangers_names_are_refused(app: FastAPI, host: str, status: int) -> None:
    assert client_of(app, Host=host).get("/healthz").status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("music.example", 200), ("music.example.", 200), ("192.168.1.2:8000", 200), ("other.example", 421)],
)
def test_a_shared_server_answers_to_the_names_it_was_given(locked: FastAPI, host: str, status: int) -> None:
    assert client_of(locked, Host=host).get("/healthz").status_code == status


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),
        ({"Origin": HERE}, False),
        ({"Origin": ORIGIN}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://127.0.0.1:9000"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": HERE, "Sec-Fetch-Site": "same-origin"}, False),
    ],
)
def test_pages_of_other_sites_may_not_send(app: FastAPI, headers: dict[str, str], is_refused: bool) -> None:
    response = client_of(app).post("/v1/classify", files={"file": b"no sound"}, headers=headers)
    assert response.status_code == (403 if is_refused else 422)
    assert "access-control-allow-origin" not in response.headers


def test_sites_that_are_listed_may_ask(toy: Path, tmp_path: Path) -> None:
    app = make_app(tmp_path / "uploads", toy, origins=(ORIGIN,))
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    allowed = client_of(app).options("/v1/classify", headers=asked)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in allowed.headers
    sent = client_of(app).post("/v1/classify", files={"file": b"no sound"}, headers={"Origin": ORIGIN})
    assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (422, ORIGIN)

    other = client_of(app).options("/v1/classify", headers={**asked, "Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    for origin in ("*", "music.example", "https://music.example/"):
        with pytest.raises(UsageError, match="--cors-origin"):
            Settings(origins=(origin,))


@pytest.mark.parametrize("place", ["/", "/docs", "/healthz", "/nothing", "/v1/models", "/openapi.json"])
def test_every_answer_tells_browsers_to_load_nothing_from_elsewhere(app: FastAPI, place: str) -> None:
    headers = client_of(app).get(place).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert (
        policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'" and policy["base-uri"] == "'none'"
    )
    assert policy["script-src"] == "'self'" and policy["connect-src"] == "'self'"
    assert not re.search(r"https?:|\*|unsafe-eval", headers["content-security-policy"])
    assert ("unsafe-inline" in policy["style-src"]) == (place == "/docs")
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_fault_of_ours_is_a_problem_that_tells_nothing(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[object]:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(app.state.service, "about", fail)
    response = client_of(app).get("/v1/models")
    assert response.status_code == 500 and "secret" not in response.text
    assert response.json()["type"] == "urn:musicgenre:problem:internal"
    assert "content-security-policy" in response.headers


def test_the_documents_page_asks_no_other_host(app: FastAPI) -> None:
    client = client_of(app)
    page = client.get("/docs").text
    places = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {place for place in places if not place.startswith("data:")} == {
        "/docs/swagger-ui/swagger-ui.css",
        "/docs/swagger-ui/swagger-ui-bundle.js",
        "/docs/own/start.js",
    }
    assert "<style" not in page and not re.search(r"<script(?! src)", page)
    for place in places:
        if not place.startswith("data:"):
            assert client.get(place).status_code == 200
    assert "validatorUrl: null" in client.get("/docs/own/start.js").text
    style = client.get("/docs/swagger-ui/swagger-ui.css").text
    assert not re.search(r"url\(['\"]?https?:|@import", style)
