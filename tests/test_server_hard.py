"""What a service meets in years, in minutes: every kind of request, damaged files, many clients, generated ones."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from musicgenre.audio import decoding_apart
from musicgenre.embedding.embed import Embedder, embed_tracks
from musicgenre.library.plan import PlanRow, write_plan
from musicgenre.listening.classifier import Classifier
from musicgenre.server import schemas
from tests.limits import GUARD_S
from tests.serving import client_of, make_app, running_server
from tests.sounds import music, write
from tests.test_server import left_over
from tests.toy import RATE_HZ, save_toy, save_toy_ears

pytestmark = pytest.mark.slow

N_CASES = 2_000
N_DAMAGED = 1_000
N_CLIENTS = 200
N_REQUESTS = 10_000
LEAST_S = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, tracks, an index and a plan of them."""
    folder = tmp_path_factory.mktemp("hard")
    save_toy(folder / "toy.onnx")
    save_toy_ears(folder / "ears.onnx")
    paths = [str(write(folder / f"{n}.wav", music(2.0, RATE_HZ, 1, seed=n), RATE_HZ)) for n in range(3)]
    embed_tracks(paths, Embedder(str(folder / "ears.onnx")), folder / "index.npz")
    write_plan([PlanRow(path, True) for path in paths], folder / "plan.jsonl")
    return folder


def arguments(place: Path) -> list[str]:
    options = {"model": "toy.onnx", "embedder": "ears.onnx", "index": "index.npz", "plan": "plan.jsonl"}
    return [word for name, file in options.items() for word in (f"--{name}", str(place / file))]


@pytest.fixture(scope="session")
def programs_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the programs of a package that has an environment of its own, made here unless it is named.

    MUSICGENRE_TEST_SCHEMATHESIS and MUSICGENRE_TEST_OPENAPI_PYTHON_CLIENT name it.
    """

    def install(package: str) -> Path:
        if given := os.environ.get(f"MUSICGENRE_TEST_{package.upper().replace('-', '_')}"):
            return Path(given)
        folder = tmp_path_factory.mktemp(package)
        programs = folder / ("Scripts" if os.name == "nt" else "bin")
        pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q", package]
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{package} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        return programs

    return install


def test_thousands_of_requests_get_documented_answers(place: Path, programs_of: Callable[[str], Path]) -> None:
    programs = programs_of("schemathesis")
    with running_server(*arguments(place), "--max-upload-mb", "5", TMPDIR=str(place)) as (_, address):
        n_each = N_CASES // 3  # the other addresses take next to nothing, so that few cases are all there are
        command = [
            *(programs / "schemathesis", "run", f"{address}/openapi.json", "--seed", "7", "--no-color"),
            *("--max-examples", str(n_each), "--workers", "2", "--continue-on-failure", "--no-shrink"),
            # Whatever bytes are valid by the document, few of them are sound.
            *("--exclude-checks", "positive_data_acceptance", "--request-timeout", str(GUARD_S)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
        assert done.returncode == 0, done.stdout[-4000:]
        numbers = httpx2.get(f"{address}/metrics").text
    answered = [line for line in numbers.splitlines() if line.startswith("musicgenre_requests_total")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in answered) >= N_CASES, "as many as were promised"
    assert not [line for line in answered if 'status="5' in line]


def test_a_client_can_be_generated(place: Path, programs_of: Callable[[str], Path], tmp_path: Path) -> None:
    programs = programs_of("openapi-python-client")
    with running_server(*arguments(place), TMPDIR=str(place)) as (_, address):
        (tmp_path / "openapi.json").write_bytes(httpx2.get(f"{address}/openapi.json").content)
        (tmp_path / "settings.json").write_text('{"content_type_overrides": {"audio/*": "application/octet-stream"}}')
        environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
        settings = ("--config", "settings.json", "--fail-on-warning", "--output-path", "client")
        command = [programs / "openapi-python-client", "generate", "--path", "openapi.json", *settings]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

        script = (
            "import sys\n"
            "from pathlib import Path\n"
            "from musicgenre_client import Client\n"
            "from musicgenre_client.api.hear import classify\n"
            "from musicgenre_client.api.about import models\n"
            "from musicgenre_client.models import ClassifyFilesBody\n"
            "from musicgenre_client.types import File\n"
            "client = Client(base_url=sys.argv[1])\n"
            "with open(sys.argv[2], 'rb') as track:\n"
            "    body = ClassifyFilesBody(file=[File(payload=track, file_name='a.wav')])\n"
            "    answers = classify.sync(client=client, body=body)\n"
            "print(answers.answers[0].path, answers.answers[0].genre, models.sync(client=client).models[0].name)\n"
        )
        asked = subprocess.run(
            [programs / "python", "-c", script, address, place / "0.wav"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path / "client",
            env=environment,
        )
    expected = Classifier(str(place / "toy.onnx")).classify(place / "0.wav")
    assert asked.stdout.split() == ["a.wav", expected.genre, "toy"], asked.stderr


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Damage a file: bytes changed, cut off, left out, doubled, or put in front."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 400)
        match rng.randrange(5):
            case 0:
                for place in range(at, min(len(data), at + rng.randint(1, 20))):
                    data[place] = rng.randrange(256)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case _:
                data[at:at] = rng.randbytes(length)
    return bytes(data)


def test_damaged_uploads_cost_nobody_else(place: Path, tmp_path: Path) -> None:
    rng = random.Random(7)
    samples = music(1.5, 44_100, 2)
    names = ("a.wav", "a.flac", "a.mp3", "a.ogg", "a.m4a", "a.opus", "a.wma", "a.aiff")
    originals = [write(tmp_path / name, samples, 48_000 if name == "a.opus" else 44_100) for name in names]
    contents = [path.read_bytes() for path in originals]
    boundary = b"--------boundary"
    head = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' % boundary
    app = make_app(tmp_path / "uploads", place / "toy.onnx", timeout_s=60.0)
    good = (place / "0.wav").read_bytes()
    statuses: dict[int, int] = {}

    with decoding_apart(most_mb=500), client_of(app) as client:
        expected = client.post("/v1/classify", files={"file": ("0.wav", good)}).json()
        for number in range(N_DAMAGED):
            content = rng.choice(contents)
            if number % 4:
                body, kind = damaged(content, rng), "application/octet-stream"
            else:  # the form itself
                body = damaged(head + content[:3000] + b"\r\n--%b--\r\n" % boundary, rng)
                kind = f"multipart/form-data; boundary={boundary.decode()}"
            response = client.post("/v1/classify", content=body, headers={"Content-Type": kind})
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
            assert response.status_code in (200, 400, 422), response.text
            if response.status_code == 200:
                schemas.ClassifyAnswers(**response.json())
            else:
                schemas.Problem(**response.json())
                assert str(tmp_path) not in response.text
            if number % 100 == 0:
                assert client.post("/v1/classify", files={"file": ("0.wav", good)}).json() == expected
    assert left_over(app) == []
    assert all(statuses[status] > 20 for status in (200, 400, 422)), statuses


def test_many_clients_get_their_own_answers_and_memory_stays(place: Path, tmp_path: Path) -> None:
    """Each file differs; none is lost or mixed up, for a minute at least, and what is asked again is answered."""
    tone = np.sin(np.arange(RATE_HZ) / 9)[:, None]
    classifier = Classifier(str(place / "toy.onnx"))
    contents, expected = [], []
    for number in range(N_CLIENTS):
        path = write(tmp_path / f"{number}.wav", (0.05 + 0.001 * number) * tone, RATE_HZ)
        contents.append(path.read_bytes())
        expected.append({**classifier.classify(path).as_dict(top=3), "path": path.name})
    assert len({json.dumps(record["scores"]) for record in expected}) > N_CLIENTS / 2

    with running_server("--model", place / "toy.onnx", TMPDIR=str(place)) as (_, address):
        told = asyncio.run(ask_for_long(address, contents, expected))
    assert told["answers"] + told["busy"] >= N_REQUESTS and told["answers"] > N_CLIENTS and told["busy"] > 0
    assert told["at_end_mb"] <= told["warm_mb"] + 20, told


async def ask_for_long(address: str, contents: list[bytes], expected: list[dict[str, Any]]) -> dict[str, float]:
    """Let every client ask again and again; check every answer against the file that was sent."""
    told = {"answers": 0.0, "busy": 0.0, "warm_mb": 0.0}
    began_s = time.monotonic()
    limits = httpx2.Limits(max_connections=N_CLIENTS)

    async with httpx2.AsyncClient(base_url=address, timeout=GUARD_S, limits=limits) as client:

        async def memory_mb() -> float:
            numbers = (await client.get("/metrics")).text
            (line,) = [line for line in numbers.splitlines() if line.startswith("process_resident_memory_bytes")]
            return float(line.split()[1]) / 1e6

        async def ask(number: int) -> None:
            while told["answers"] + told["busy"] < N_REQUESTS or time.monotonic() - began_s < LEAST_S:
                files = {"file": (f"{number}.wav", contents[number])}
                response = await client.post("/v1/classify", files=files)
                if response.status_code == 429:
                    told["busy"] += 1
                    await asyncio.sleep(min(1.0, float(response.headers["retry-after"])) * random.random())
                    continue
                assert response.json() == {"answers": [expected[number]]}, response.text
                told["answers"] += 1
                if not told["warm_mb"] and told["answers"] + told["busy"] >= N_REQUESTS / 5:
                    told["warm_mb"] = -1.0
                    told["warm_mb"] = await memory_mb()

        await asyncio.gather(*(ask(number) for number in range(N_CLIENTS)))
        told["at_end_mb"] = await memory_mb()
    return told
