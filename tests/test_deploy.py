"""The files of a deployment: what they promise, and, slowly, that their lines do it where no container engine is."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.limits import GUARD_S

yaml = pytest.importorskip("yaml", reason="the extra train is not installed")

ROOT = Path(__file__).resolve().parents[1]
PLACE = "/opt/musicgenre"
LARGEST_MB = 600
BASE_MB = 130  # python:3.11-slim unpacked, by what is published of it


@dataclass
class Stage:
    """One stage of the Dockerfile: its instructions, and the variables that it sets."""

    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def of(self, instruction: str) -> list[str]:
        return [value for name, value in self.lines if name == instruction]


def stages() -> list[Stage]:
    """Read the Dockerfile."""
    kept = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(kept)).splitlines():
        instruction, _, value = line.strip().partition(" ")
        if instruction == "FROM":
            found.append(Stage(value))
        elif instruction:
            found[-1].lines.append((instruction, value.strip()))
        if instruction in ("ENV", "ARG"):
            found[-1].variables |= dict(word.partition("=")[::2] for word in shlex.split(value))
    return found


def megabytes(folder: Path) -> float:
    """What the files of a folder come to."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def test_the_image_runs_as_nobody_special_and_says_how_it_is() -> None:
    build, image = stages()
    assert build.base.split()[0] == image.base == "python:3.11-slim"
    assert any("-c constraints.txt" in line for line in build.of("RUN"))
    assert any(line.endswith("musicgenre bundles get msd-musicnn") for line in build.of("RUN"))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.of("USER")[-1])
    order = [name for name, _ in image.lines]
    assert order.index("USER") < order.index("ENTRYPOINT") and "/readyz" in image.of("HEALTHCHECK")[0]
    assert json.loads(image.of("ENTRYPOINT")[0]) == ["musicgenre", "serve"]
    assert image.variables["MUSICGENRE_CACHE"] == build.variables["MUSICGENRE_CACHE"]
    copied = " ".join(build.of("COPY")).split()
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert allowed == {word.removeprefix("./") for word in copied if word not in ("./", "./src")}


def test_compose_lets_nothing_be_written_and_nobody_in() -> None:
    service: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["musicgenre"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["tmpfs"][0].startswith("/tmp:") and service["secrets"] == ["token"]
    assert "/readyz" in service["healthcheck"]["test"][-1]
    # the paths and ports of both files are the same
    assert stages()[1].variables["MUSICGENRE_SERVE_TOKEN_FILE"] == "/run/secrets/token"
    assert service["ports"][0].endswith(stages()[1].variables["MUSICGENRE_SERVE_PORT"])


def test_the_variables_of_all_files_are_options_of_serve() -> None:
    import typer

    from musicgenre.cli import app

    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {parameter.envvar for parameter in serve.params if parameter.envvar}
    for name in ("Dockerfile", "compose.yaml", "deploy/musicgenre.service"):
        used = set(re.findall(r"MUSICGENRE_SERVE_[A-Z_]+", (ROOT / name).read_text("utf-8")))
        assert used and used <= known, name


def test_the_unit_is_hardened() -> None:
    text = (ROOT / "deploy" / "musicgenre.service").read_text("utf-8")
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    service = unit["Service"]
    for name in (
        "DynamicUser",
        "PrivateTmp",
        "ProtectHome",
        "NoNewPrivileges",
        "PrivateDevices",
        "RestrictNamespaces",
    ):
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""
    assert service["ExecStart"] == f"{PLACE}/bin/musicgenre serve"
    names = Counter(line.partition("=")[0] for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))
    assert {name for name, n in names.items() if n > 1} == {"Environment"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    for name in ("musicgenre.service", "musicgenre-version.path", "musicgenre-version.service"):
        text = (ROOT / "deploy" / name).read_text("utf-8")
        # what is started is not on this machine
        (tmp_path / name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD_S)
        said = [line for line in done.stderr.splitlines() if name in line]
        assert said == [], done.stderr


@pytest.mark.slow
@pytest.mark.default_model
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the image is one of Linux")
def test_the_lines_of_the_dockerfile_make_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Skips where packages cannot be installed; not done: the base image, and the user that needs root to be made."""
    build, image = stages()
    source, place = tmp_path / "src", tmp_path / "place"
    token = tmp_path / "token"

    def moved(text: str) -> str:
        text = re.sub(r"\$\{?(\w+)\}?", lambda name: build.variables.get(name[1], name[0]), text)
        return text.replace(PLACE, str(place)).replace("/run/secrets/token", str(token))

    source.mkdir()
    for line in build.of("COPY"):
        *names, target = line.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / target)

    environment = {**os.environ, **{name: moved(value) for name, value in build.variables.items()}}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment.pop("PYTHONPATH", None)
    for line in build.of("RUN"):
        done = subprocess.run(
            moved(line), shell=True, cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode and ("pip install" in line or "bundles get" in line):
            pytest.skip(f"packages cannot be installed here: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"

    packages, models = megabytes(place / "lib"), megabytes(place / "cache")
    with capsys.disabled():
        print(f"\nimage: {BASE_MB} MB base + {packages:.0f} MB packages + {models:.0f} MB model")  # noqa: T201
    assert BASE_MB + packages + models <= LARGEST_MB

    # the second stage: the same variables, entry point and health check
    token.write_text("a-token-of-the-test")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = {name: moved(value) for name, value in image.variables.items()}
    variables |= {"MUSICGENRE_SERVE_PORT": port, "TMPDIR": str(tmp_path), "PATH": f"{place}/bin:/usr/bin:/bin"}
    before = sorted(path for path in place.rglob("*"))
    command = json.loads(image.of("ENTRYPOINT")[0])
    check = json.loads(image.of("HEALTHCHECK")[0].partition("CMD ")[2])
    program = str(place / "bin" / command[0])
    server = subprocess.Popen([program, *command[1:]], env=variables, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None and "listening at" in server.stderr.readline()
        python = str(place / "bin" / check[0])
        for _ in range(30):
            asked = subprocess.run([python, *check[1:]], env=variables, capture_output=True, text=True, check=False)
            if asked.returncode == 0:
                break
        assert asked.returncode == 0, asked.stderr

        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/classify?name=a.flac",
            (ROOT / "examples/pulse-machine.flac").read_bytes(),
            {"Content-Type": "audio/flac"},
        )
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=GUARD_S)
        request.add_header("Authorization", f"Bearer {token.read_text()}")
        with urllib.request.urlopen(request, timeout=GUARD_S) as answer:
            (record,) = json.load(answer)["answers"]
        assert record["error"] is None and record["genre"]
    finally:
        server.terminate()
        assert server.wait(GUARD_S) == 0
    assert sorted(path for path in place.rglob("*")) == before, "it writes nothing where it was installed"
