"""Watch a process from below Python: which look-ups and connections it tries, which files it leaves in its home."""

from __future__ import annotations

import functools
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.limits import GUARD_S
from tests.quick_processes import copies_of

SOURCE = Path(__file__).with_suffix(".c")

# What is slow to load among the packages that commands take, but ONNX Runtime: how that is loaded is what is watched.
_LARGE = [
    "pytest",
    "numpy",
    "av",
    "soundfile",
    "soxr",
    "onnx",
    "typer",
    "rich.console",
    "pydantic",
    "yaml",
    "torch",
    "numba",
]
_LARGE += ["scipy.signal", "scipy.stats", "sklearn.linear_model", "sklearn.ensemble"]


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
    """Run Python with these arguments under the library, with a home folder of its own and a bare environment.

    It is a copy of a Python that loaded large packages under the library, and nothing of musicgenre: what loading them
    tried and left is told with each.
    """
    here, of_all = _Surroundings(home), _Surroundings(library.parent / "loading")
    output = home.with_name(f"{home.name}-output.txt")
    words = [os.fspath(argument) for argument in arguments]
    process = _copies(library).Process(target=_be_python, args=(words, cwd, here.variables(library), output))
    process.start()
    process.join(GUARD_S)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"python {' '.join(words)} never ended")

    said = output.read_bytes().decode(errors="replace") if output.exists() else ""
    return Watched(process.exitcode, said, here.outward() + of_all.outward(), here.files() + of_all.files())


class _Surroundings:
    """Where a process has its home folder, its temporary files, and notes of what it tried."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._temporary = home.with_name(f"{home.name}-temporary")
        self._notes = home.with_name(f"{home.name}-outward.txt")
        for folder in (home, self._temporary):
            folder.mkdir(parents=True, exist_ok=True)

    def variables(self, library: Path) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL") if name in os.environ}
        return {
            **kept,
            "HOME": str(self._home),
            "TMPDIR": str(self._temporary),
            "LD_PRELOAD": str(library),
            "NOTED_OUTWARD": str(self._notes),
            "NO_COLOR": "1",
            "OMP_NUM_THREADS": "1",
        }

    def outward(self) -> tuple[str, ...]:
        return tuple(self._notes.read_text().splitlines()) if self._notes.exists() else ()

    def files(self) -> tuple[str, ...]:
        files = []
        for shown, folder in (("~", self._home), ("$TMPDIR", self._temporary)):
            files += [f"{shown}/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()]
        return tuple(sorted(files))


@functools.cache
def _copies(library: Path) -> Any:
    return copies_of(_LARGE, **_Surroundings(library.parent / "loading").variables(library))


def _be_python(words: list[str], cwd: Path, variables: dict[str, str], output: Path) -> None:
    """Become Python with these arguments. It runs in the copy."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None  # what the process that was copied found
    for number, path in ((0, os.devnull), (1, output), (2, output)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - to the end of the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115

    kind, what, *rest = words
    sys.argv = [kind if kind == "-c" else what, *rest]
    try:
        if kind == "-c":
            exec(what, {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()
