"""The server as a process: over sockets, from its settings, through signals, and after it was killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from musicgenre.server.run import _listener
from musicgenre.server.settings import Settings
from tests.cli import run
from tests.fresh import run_python
from tests.limits import GUARD_S, wait_until
from tests.serving import running_server
from tests.sounds import music, write
from tests.toy import RATE_HZ, save_toy

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

LONG_S = 300.0  # heard whole it takes a second or more


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process")
    save_toy(folder / "toy.onnx")
    write(folder / "a.wav", music(2.0, RATE_HZ, 1), RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """A server that is there for all tests that do not end it."""
    with running_server("--model", place / "toy.onnx", "--max-upload-mb", "1", TMPDIR=str(place)) as (_, address):
        yield address


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=GUARD_S)


def answer_of(line: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while block := line.recv(1 << 16):
        parts.append(block)
    return b"".join(parts)


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.glob(".musicgenre-uploads*"))


def uploads(place: Path) -> list[Path]:
    return [path for folder in place.glob(".musicgenre-uploads*") for path in folder.iterdir()]


def test_it_answers_over_a_socket_and_events_come_one_by_one(address: str, place: Path) -> None:
    track = (place / "a.wav").read_bytes()
    with httpx2.Client(base_url=address, timeout=GUARD_S) as client:
        answers = client.post("/v1/classify", files={"file": ("a.wav", track)}).json()["answers"]
        assert (answers[0]["path"], answers[0]["error"]) == ("a.wav", None)
        files = [("file", (f"{n}.wav", track)) for n in range(3)]
        with client.stream("POST", "/v1/classify", files=files, headers={"Accept": "text/event-stream"}) as events:
            told = [line for line in events.iter_lines() if line.startswith("event: ")]
        assert told == ["event: answer"] * 3 + ["event: done"]
        assert "server" not in client.get("/healthz").headers
    assert uploads(place) == []


def test_a_body_that_is_refused_early_still_gets_its_answer(address: str, place: Path) -> None:
    body = bytes(3_000_000)
    with httpx2.Client(base_url=address, timeout=GUARD_S) as client:
        for _ in range(5):
            response = client.post("/v1/classify", content=body, headers={"Content-Type": "audio/wav"})
            assert response.status_code == 413
            assert client.post("/v1/nothing", content=body).status_code == 404
    with connect(address) as line:
        line.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3000000\r\nExpect: 100-continue\r\n\r\n"
        )
        told = answer_of(line)
    assert told.startswith(b"HTTP/1.1 413") and b"connection: close" in told.lower()
    assert uploads(place) == []


def test_half_sent_bodies_leave_nothing(address: str, place: Path) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n"
    for _ in range(20):
        with connect(address) as line:
            line.sendall(head + b"RIFF")
    line = connect(address)
    line.sendall(head + b"RIFF")
    wait_until(lambda: len(uploads(place)) == 1)
    line.close()
    wait_until(lambda: not uploads(place))
    assert httpx2.get(f"{address}/readyz").status_code == 200


def test_what_is_no_http_is_a_problem(address: str) -> None:
    for words in (
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ):
        with connect(address) as line:
            line.sendall(words)
            told = answer_of(line)
        assert told.startswith(b"HTTP/1.1 400") and b"application/problem+json" in told


@pytest.mark.slow
def test_a_head_that_never_ends_is_hung_up_on(address: str) -> None:
    lines = [connect(address) for _ in range(50)]
    lines[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")  # a good one, which then begins another
    told = b""
    while not told.endswith(b"}"):
        told += lines[0].recv(1 << 16)
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(1.0):
            for line in lines:
                try:
                    line.sendall(b"X")
                except OSError:
                    return

    for line in lines:
        line.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
    dripping = threading.Thread(target=drip)
    dripping.start()
    began_s = time.monotonic()
    try:
        assert httpx2.get(f"{address}/healthz", timeout=GUARD_S).status_code == 200
        for line in lines:
            try:
                assert answer_of(line) == b""
            except ConnectionResetError:
                continue
        assert time.monotonic() - began_s > 5  # not at once
    finally:
        ended.set()
        dripping.join()
        for line in lines:
            line.close()


def test_sigterm_finishes_what_runs_and_refuses_the_rest(place: Path, tmp_path: Path) -> None:
    long = write(tmp_path / "long.wav", music(LONG_S, RATE_HZ, 1), RATE_HZ).read_bytes()
    arguments = ("--model", place / "toy.onnx", "--jobs", "1")
    with running_server(*arguments, TMPDIR=str(tmp_path)) as (server, address), ThreadPoolExecutor(2) as pool:
        client = httpx2.Client(base_url=address, timeout=GUARD_S)
        files = [("file", (f"{n}.wav", long)) for n in range(4)]
        running = pool.submit(client.post, "/v1/classify?coverage=full", files=files[:1])
        metrics = "musicgenre_files_running 1.0"
        wait_until(lambda: metrics in client.get("/metrics").text or running.done())
        queued = pool.submit(client.post, "/v1/classify?coverage=full", files=files)
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(address))
        assert running.result().status_code == 200
        with suppress(httpx2.TransportError):  # where it came too late to be heard at all
            assert queued.result().status_code in (200, 503)
        assert server.wait(GUARD_S) == 0
    assert folders(tmp_path) == []


def is_refused(address: str) -> bool:
    try:
        connect(address).close()
    except OSError:
        return True
    return False


def test_ctrl_c_ends_it_like_any_command(place: Path, tmp_path: Path) -> None:
    with running_server("--model", place / "toy.onnx", TMPDIR=str(tmp_path)) as (server, _):
        server.send_signal(signal.SIGINT)
        assert server.wait(GUARD_S) == 130
    assert folders(tmp_path) == []


def test_what_a_killed_server_left_goes_with_the_next_start(place: Path, tmp_path: Path) -> None:
    settings = {"MUSICGENRE_SERVE_MODEL": str(place / "toy.onnx"), "TMPDIR": str(tmp_path)}
    with running_server(**settings) as (killed, address):
        line = connect(address)
        line.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nRIFF")
        wait_until(lambda: len(uploads(tmp_path)) == 1)
        killed.kill()
        killed.wait()
        line.close()
        left = folders(tmp_path)
        assert len(left) == 1 and len(uploads(tmp_path)) == 1

        with running_server(**settings):
            (first,) = folders(tmp_path)
            assert [first] != left and uploads(tmp_path) == []
            assert (tmp_path / first).stat().st_mode & 0o777 == 0o700
            with running_server(**settings):  # a living one keeps its own
                assert first in folders(tmp_path) and len(folders(tmp_path)) == 2


def test_settings_come_from_options_the_environment_and_the_config_file(place: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[serve]\nmodel = ["{place / "toy.onnx"}"]\nqueue = 5\n')
    env = {"MUSICGENRE_CONFIG": str(tmp_path)}
    assert run("serve", "--check", env=env).stdout == b"toy: loud, quiet\n"
    done = run("serve", "--check", env={**env, "MUSICGENRE_SERVE_MODEL": "none.onnx"})
    assert done.returncode == 2 and b"none.onnx" in done.stderr
    wins = run("serve", "--check", "--model", place / "toy.onnx", env={"MUSICGENRE_SERVE_MODEL": "none.onnx"})
    assert wins.returncode == 0
    for name, value, told in (
        ("PORT", "many", b"MUSICGENRE_SERVE_PORT"),
        ("QUEUE", "-1", b"MUSICGENRE_SERVE_QUEUE"),
        ("HOST", "0.0.0.0", b"0.0.0.0"),
        ("TOKEN_FILE", "none.txt", b"none.txt"),
    ):
        done = run("serve", "--check", env={**env, f"MUSICGENRE_SERVE_{name}": value})
        assert done.returncode == 2 and told in done.stderr


def test_answers_are_sent_at_once() -> None:
    """A socket that does not say that it speaks TCP keeps Nagle's algorithm: each answer would take 40 ms longer."""
    listener = _listener(Settings(port=0))
    try:
        assert listener.proto == socket.IPPROTO_TCP
    finally:
        listener.close()


def test_an_address_that_is_taken_is_told_before_a_model_is_loaded(address: str) -> None:
    done = run("serve", "--model", "none.onnx", "--port", str(urlsplit(address).port))
    assert done.returncode == 2
    assert b"cannot listen at 127.0.0.1, port" in done.stderr and b"--port" in done.stderr


def test_nothing_of_the_server_is_loaded_unless_it_serves() -> None:
    names = ("fastapi", "uvicorn", "prometheus_client", "multipart")
    code = f"import sys, musicgenre.cli; print([name for name in {names} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"
    hidden = "import sys; sys.modules['fastapi'] = None\nfrom musicgenre.__main__ import main\n"
    hidden += "sys.argv = ['musicgenre', 'serve', '--check']\nmain()"
    done = run_python(hidden)
    assert done.returncode == 2 and "'musicgenre[serve]'" in done.stderr
