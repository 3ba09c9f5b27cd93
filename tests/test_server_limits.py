"""What costs too much is cut off, what hangs or crashes costs its own request, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from musicgenre._running import ending_with_work
from musicgenre.audio import decoders_replaced, decoding_apart, workers
from musicgenre.errors import AudioError
from musicgenre.listening.classifier import Classifier
from musicgenre.server import uploads
from tests.limits import GUARD_S, wait_until
from tests.serving import client_of, make_app
from tests.sounds import music, write
from tests.test_audio_workers import CRASH, GREED, HANG, serve_badly
from tests.test_server import left_over, problem_of
from tests.toy import RATE_HZ, save_toy

WAV = {"Content-Type": "audio/wav"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("tracks") / "a.wav", music(2.0, RATE_HZ, 1), RATE_HZ).read_bytes()


@pytest.fixture
def make(toy: Path, tmp_path: Path) -> Callable[..., FastAPI]:
    return lambda **settings: make_app(tmp_path / "uploads", toy, **settings)


class Waiting:
    """Stands in for `Classifier.classify`: waits until it is let go, or its work is ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.n_ended = 0
        classify = Classifier.classify

        def wait(classifier: Classifier, source: Any) -> Any:
            ended = threading.Event()

            def end() -> None:
                ended.set()
                self.may_go.set()

            with ending_with_work(end):
                self.began.release()
                assert self.may_go.wait(GUARD_S)
            if ended.is_set():
                self.n_ended += 1
                raise AudioError("it was ended")
            return classify(classifier, source)

        monkeypatch.setattr(Classifier, "classify", wait)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    stand_in = Waiting(monkeypatch)
    yield stand_in
    stand_in.may_go.set()


# Uploads.


def test_what_is_told_to_be_too_large_is_refused_unread(make: Callable[..., FastAPI]) -> None:
    app = make(max_upload_mb=1)
    read = []

    def body() -> Iterator[bytes]:
        for _ in range(3):
            read.append(1)
            yield bytes(1_000_000)

    headers = {**WAV, "Content-Length": "3000000", "Expect": "100-continue"}
    problem = problem_of(client_of(app).post("/v1/classify", content=body(), headers=headers), 413, "too-large")
    assert problem["problem"] == "3000000 bytes are to come" and problem["valid"] == "up to 1 MB for one request"
    assert app.state.uploads.n_bytes == 0 and left_over(app) == []


@pytest.mark.parametrize("is_form", [False, True])
def test_what_is_too_large_is_cut_off_as_it_comes(make: Callable[..., FastAPI], is_form: bool) -> None:
    app = make(max_upload_mb=1)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' if is_form else b""
    largest = 0

    def body() -> Iterator[bytes]:
        nonlocal largest
        yield head
        for _ in range(30):
            largest = max([largest, *(path.stat().st_size for path in left_over(app))])
            yield bytes(100_000)

    kind = "multipart/form-data; boundary=b" if is_form else "audio/wav"
    response = client_of(app).post("/v1/classify", content=body(), headers={"Content-Type": kind})
    problem_of(response, 413, "too-large")
    assert largest <= 1_000_000 and left_over(app) == []


def test_too_many_files_are_refused(make: Callable[..., FastAPI]) -> None:
    app = make()
    files = [("file", (f"{n}.wav", b"x")) for n in range(uploads.MOST_FILES + 1)]
    problem = problem_of(client_of(app).post("/v1/classify", files=files), 413, "too-large")
    assert "more than 100 files" in problem["problem"] and left_over(app) == []


FORMS: dict[str, tuple[str, bytes, str]] = {
    "no boundary": ("multipart/form-data", b"--b--\r\n", "no boundary"),
    "another boundary": ("multipart/form-data; boundary=c", b"--b\r\n\r\nx\r\n--b--\r\n", "cannot be read"),
    "no file": ("multipart/form-data; boundary=b", b"--b--\r\n", "no file was sent"),
    "empty": ("multipart/form-data; boundary=b", b"", "ends before"),
    "half": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF',
        "ends before",
    ),
    "half a head": ("multipart/form-data; boundary=b", b"--b\r\nContent-Dispo", "ends before"),
    "no head": ("multipart/form-data; boundary=b", b"--b\r\n: x\r\n\r\nRIFF\r\n--b--\r\n", "cannot be read"),
    "an option": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="top"\r\n\r\n5\r\n--b--\r\n',
        "the option top came as a part",
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_forms_that_are_none(make: Callable[..., FastAPI], case: str) -> None:
    kind, body, told = FORMS[case]
    app = make()
    response = client_of(app).post("/v1/classify", content=body, headers={"Content-Type": kind})
    assert told in problem_of(response, 400, "bad-request")["problem"]
    assert left_over(app) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/mixed; boundary=b"},
        {"Content-Type": "application/json"},
        {"Content-Type": "application/ld+json; charset=utf-8"},
        {"Content-Type": "audio/wav", "Content-Encoding": "gzip"},
    ],
)
def test_bodies_of_other_kinds(make: Callable[..., FastAPI], headers: dict[str, str]) -> None:
    problem_of(client_of(make()).post("/v1/classify", content=b"x", headers=headers), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "../../etc/passwd"),
        ("a\x1b[31mb.wav", "a\\x1b[31mb.wav"),
        ("söng.wav", "söng.wav"),
        ("x" * 400, "x" * 255),
        ('"quoted".wav', '"quoted".wav'),
    ],
)
def test_names_are_shown_and_never_used(make: Callable[..., FastAPI], track: bytes, name: str, shown: str) -> None:
    app = make()
    response = client_of(app).post("/v1/classify", params={"name": name}, content=track, headers=WAV)
    assert response.json().get("answers", [{}])[0].get("path") == shown or len(name) > 255
    form = client_of(app).post("/v1/classify", files={"file": (name, track)})
    assert form.json()["answers"][0]["path"].replace("%22", '"').replace("%1B", "\\x1b") == shown


def test_a_slow_upload_is_given_up(make: Callable[..., FastAPI], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE_S", 0.2)
    app = make()
    may_end = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"RIFF"
        may_end.wait(GUARD_S)
        yield b"more"

    async def ask() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await messages.put({"type": "http.request", "body": b"RIFF", "more_body": True})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope_of("/v1/classify"), messages.get, send)
        return sent

    sent = asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in [(name.lower(), value) for name, value in sent[0]["headers"]]
    assert left_over(app) == []


def scope_of(path: str, **headers: str) -> dict[str, Any]:
    """What a server hands an application for a POST."""
    told = {"host": "127.0.0.1", "content-type": "audio/wav", "transfer-encoding": "chunked", **headers}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in told.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


# The workshop.


def test_a_full_queue_says_when_to_come_again(make: Callable[..., FastAPI], waiting: Waiting, track: bytes) -> None:
    app = make(jobs=1, queue=1)

    def ask(_: int) -> Any:
        return client.post("/v1/classify", content=track, headers=WAV)

    with client_of(app) as client, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, n) for n in range(2)]
        assert waiting.began.acquire(timeout=GUARD_S)
        wait_until(lambda: app.state.workshop.n_inside == 2)
        problem = problem_of(response := ask(2), 429, "busy")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert problem["problem"] == "2 requests are being worked on or waiting"
        assert client.get("/healthz").status_code == 200

        waiting.may_go.set()
        assert [future.result().status_code for future in asked] == [200, 200]
        assert ask(3).status_code == 200
    assert left_over(app) == []


def test_what_takes_too_long_is_ended(make: Callable[..., FastAPI], waiting: Waiting, track: bytes) -> None:
    app = make(jobs=1, timeout_s=0.2)
    with client_of(app) as client:
        response = client.post("/v1/classify", files={"file": ("slow.wav", track)})
        problem = problem_of(response, 504, "took-too-long")
        assert problem["problem"] == "slow.wav was not heard within 0.2 s"
        wait_until(lambda: waiting.n_ended == 1 and app.state.workshop.n_running == 0)
        app.state.workshop.timeout_s = GUARD_S  # what follows is really heard
        assert client.post("/v1/classify", files={"file": track}).status_code == 200  # may_go is set by now
    assert left_over(app) == []


def test_a_client_that_leaves_ends_its_work(make: Callable[..., FastAPI], waiting: Waiting, track: bytes) -> None:
    app = make(jobs=1)

    async def leave(headers: dict[str, str]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await messages.put({"type": "http.request", "body": track, "more_body": False})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        request = asyncio.create_task(app(scope_of("/v1/classify", **headers), messages.get, send))
        await asyncio.to_thread(waiting.began.acquire)
        assert len(left_over(app)) == 1
        await messages.put({"type": "http.disconnect"})
        await request
        while app.state.workshop.n_running:
            await asyncio.sleep(0.01)
        return sent

    for number, headers in enumerate(({}, {"accept": "text/event-stream"}), start=1):
        waiting.may_go.clear()
        asyncio.run(leave(headers))
        wait_until(lambda number=number: waiting.n_ended == number)  # type: ignore[misc]
        assert left_over(app) == []
        assert app.state.workshop.n_inside == 0


def test_a_client_that_leaves_during_its_upload_leaves_nothing(make: Callable[..., FastAPI]) -> None:
    app = make()

    async def leave() -> None:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await messages.put({"type": "http.request", "body": b"RIFF", "more_body": True})
        await messages.put({"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            return

        await app(scope_of("/v1/classify"), messages.get, send)

    asyncio.run(leave())
    assert left_over(app) == [] and app.state.workshop.n_inside == 0


def test_one_that_is_ending_finishes_what_runs_and_refuses_the_rest(
    make: Callable[..., FastAPI], waiting: Waiting, track: bytes
) -> None:
    app = make(jobs=1)

    def ask(_: int) -> Any:
        return client.post("/v1/classify", content=track, headers=WAV)

    with client_of(app) as client, ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, 0)
        assert waiting.began.acquire(timeout=GUARD_S)
        queued = pool.submit(ask, 1)
        wait_until(lambda: app.state.workshop.n_inside == 2)
        client.portal.call(app.state.workshop.close)  # type: ignore[union-attr]
        problem_of(response := queued.result(GUARD_S), 503, "closing")
        assert "retry-after" in response.headers
        problem_of(ask(2), 503, "closing")
        waiting.may_go.set()
        assert running.result(GUARD_S).status_code == 200


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_hostile_file_costs_its_own_request(
    make: Callable[..., FastAPI], track: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_serve", serve_badly)
    patient, hasty = make(jobs=2), make(timeout_s=1.0)
    hasty.state.uploads.folder = tmp_path / "hasty"
    hasty.state.uploads.folder.mkdir()
    before = decoders_replaced()
    with decoding_apart(), client_of(patient) as client, client_of(hasty) as in_haste:
        files = [("file", ("crash.mp3", CRASH)), ("file", ("good.wav", track))]
        answers = client.post("/v1/classify", files=files).json()["answers"]
        assert answers[0]["error"].startswith("crash.mp3 makes its decoder fail: it crashed (SIGSEGV)")
        assert answers[1]["error"] is None
        problem_of(client.post("/v1/classify", files={"file": CRASH}), 422, "cannot-be-heard")
        problem_of(in_haste.post("/v1/classify", files={"file": ("hang.mp3", HANG)}), 504, "took-too-long")
        wait_until(lambda: hasty.state.workshop.n_running == 0)
        assert decoders_replaced() - before == 3
        assert client.post("/v1/classify", files={"file": track}).status_code == 200
        told = client.get("/metrics").text
    assert f"musicgenre_decoders_replaced_total {before + 3}.0" in told
    assert 'musicgenre_files_total{outcome="failed"} 2.0' in told
    assert left_over(patient) == left_over(hasty) == []


@pytest.mark.skipif(sys.platform != "linux", reason="memory of processes as Linux tells and limits it")
def test_a_decoder_that_grew_is_replaced(
    make: Callable[..., FastAPI], track: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_serve", serve_badly)
    client = client_of(make(jobs=1))
    before = decoders_replaced()
    with decoding_apart(most_mb=500):
        assert client.post("/v1/classify", files={"file": track}).status_code == 200
        assert decoders_replaced() == before
        problem = problem_of(client.post("/v1/classify", files={"file": GREED}), 422, "cannot-be-heard")
        assert "not enough memory" in problem["problem"]
        assert client.post("/v1/classify", files={"file": track}).status_code == 200
        assert decoders_replaced() == before

        held = [501.0]
        monkeypatch.setattr(workers._Worker, "held_mb", lambda _: held.pop() if held else 0.0)
        for _ in range(2):
            assert client.post("/v1/classify", files={"file": track}).status_code == 200
    assert decoders_replaced() == before + 1
