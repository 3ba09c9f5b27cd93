"""Run the installed command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).parent / ("musicgenre.exe" if os.name == "nt" else "musicgenre")


def run(
    *arguments: str | Path | bytes, stdin: bytes = b"", cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run ``musicgenre`` with these arguments; no terminal, colours off."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", **(env or {})}
    command = [os.fsencode(COMMAND), *(os.fsencode(argument) for argument in arguments)]
    done = subprocess.run(
        command, input=stdin, capture_output=True, cwd=cwd, env=environment, timeout=120, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


def json_lines(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    """Parse the JSON lines on standard output."""
    return [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]


def classify_json(model: Path, *arguments: str | Path | bytes, **options: Any) -> tuple[int, dict[str, Any], str]:
    """Classify as JSON; return exit code, records by file name, and standard error."""
    done = run("classify", *arguments, "--model", model, "--format", "json", **options)
    records = {Path(record["path"]).name: record for record in json_lines(done)}
    return done.returncode, records, done.stderr.decode("utf-8", "replace")


def names(paths: Sequence[Path]) -> list[str]:
    """File names without folders."""
    return [path.name for path in paths]
