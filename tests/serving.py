"""Serve toy models: in this process, asked without a socket, or as the installed command would, over one."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.limits import GUARD_S

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from fastapi import FastAPI
from starlette.testclient import TestClient

from musicgenre.server.app import create_app
from musicgenre.server.service import Service
from musicgenre.server.settings import Settings

HERE = "http://127.0.0.1"


def make_app(folder: Path, *models: Path | str, **settings: Any) -> FastAPI:
    """Put an application together whose uploads lie in a folder."""
    folder.mkdir(exist_ok=True)
    chosen = Settings(models=tuple(map(str, models)), **settings)
    return create_app(chosen, Service(chosen), folder)


def client_of(app: FastAPI, **headers: str) -> TestClient:
    """Ask an application as a program on the same machine would."""
    return TestClient(app, base_url=HERE, headers=headers, raise_server_exceptions=False)


@contextmanager
def running_server(*arguments: str | Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `musicgenre serve` in a process of its own, at a free port; yield it and its address."""
    command = [sys.executable, "-m", "musicgenre", "serve", "--port", "0", *map(str, arguments)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, **environment})
    try:
        yield server, _address_of(server)
    finally:
        server.kill()
        server.wait()
        assert server.stderr is not None
        server.stderr.close()


def _address_of(server: subprocess.Popen[bytes]) -> str:
    """Wait until it says where it listens."""
    assert server.stderr is not None
    said = b""
    ends_s = time.monotonic() + GUARD_S
    while time.monotonic() < ends_s:
        if select.select([server.stderr], [], [], 1.0)[0]:
            block = os.read(server.stderr.fileno(), 1 << 16)
            said += block
            if found := re.search(rb"listening at (http://\S+)", said):
                return found[1].decode()
            if not block:
                break
    raise AssertionError(f"it does not listen: {said.decode(errors='replace')}")
