"""Watch a process from below Python: which look-ups and connections it tries, which files it leaves in its home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.limits import GUARD_S

SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True)
class Watched:
    """What a process did.

    Attributes
    ----------
    code, output
        Its exit code, and standard output and error together.
    outward : tuple of str
        Each look-up and connection that it tried.
    files : tuple of str
        Files in its home folder and its temporary folder, which were empty but for what a test put there; sorted.
    """

    code: int
    output: str
    outward: tuple[str, ...]
    files: tuple[str, ...]


def watching_library(folder: Path) -> Path:
    """Compile the library that watches; skip the test where it cannot be made or does not see a look-up."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("look-ups are watched by a library that needs Linux and a C compiler (cc)")
    library = folder / "outward.so"
    command = [compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD_S)
    if made.returncode:
        pytest.skip(f"the library that watches look-ups cannot be compiled: {made.stderr.strip()}")

    seen = watch(library, folder / "trial", folder, "-c", "import socket; socket.gethostbyname('host.invalid')")
    if seen.outward not in (("gethostbyname host.invalid",), ("getaddrinfo host.invalid",)):
        pytest.skip(f"the preloaded library does not see what a process looks up: {seen.outward}, {seen.output}")
    return library


def watch(library: Path, home: Path, cwd: Path, *arguments: str | Path) -> Watched:
    """Run Python with these arguments under the library, with a home folder of its own and a bare environment."""
    temporary = home.with_name(f"{home.name}-temporary")
    notes = home.with_name(f"{home.name}-outward.txt")
    for folder in (home, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LD_PRELOAD": str(library),
        "NOTED_OUTWARD": str(notes),
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *map(os.fspath, arguments)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=GUARD_S,
        check=False,
    )

    files = []
    for shown, folder in (("~", home), ("$TMPDIR", temporary)):
        files += [f"{shown}/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()]
    outward = notes.read_text().splitlines() if notes.exists() else []
    return Watched(done.returncode, done.stdout.decode(errors="replace"), tuple(outward), tuple(sorted(files)))
