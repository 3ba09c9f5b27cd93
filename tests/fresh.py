"""Run the command, or a few lines of Python, in a process of its own that need not load packages anew.

It is a copy of one that holds them. What is copied for a command has nothing of musicgenre loaded, so what a command
loads of it, plugins included, it loads itself. Where no process can be copied each begins with nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.limits import GUARD_S

# What is slow to load among the packages that commands take; loading them starts no threads.
_LARGE = ["lightning.pytorch", "sklearn.linear_model", "onnx"]
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def run_fresh(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str], site: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``musicgenre`` with these words in a new process.

    Parameters
    ----------
    words : sequence of str
        The arguments.
    cwd : Path
        Its working folder.
    env : mapping
        All its variables.
    site : Path, optional
        A folder where packages are looked for before all others.
    """
    context: Any = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        context.set_forkserver_preload(_LARGE)
    return _finished(context, _command, words, cwd, dict(env), site)


def run_python(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new process that has the decoders and what draws on a terminal loaded already.

    It sees no other difference to a Python that has just started; what must not be there it hides in `sys.modules`.

    Parameters
    ----------
    code : str
        The code.
    arguments : object
        Its arguments, as text.
    cwd : Path, optional
        Its working folder.
    """
    context = multiprocessing.get_context("spawn")  # copies, within `tests.quick_processes`
    return _finished(context, _python, code, list(map(str, arguments)), cwd or Path.cwd())


def _finished(context: Any, target: Callable[..., None], *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a function in a new process; its last arguments are the files for what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = context.Process(target=target, args=(*arguments, out, err))
        process.start()
        process.join(GUARD_S)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"{arguments[0]} never ended")
        return subprocess.CompletedProcess(
            arguments[0], process.exitcode, out.read_text("utf-8"), err.read_text("utf-8")
        )


def _python(code: str, arguments: list[str], cwd: Path, out: Path, err: Path) -> None:
    """Become Python with this code. It runs in the new process."""
    os.chdir(cwd)
    sys.argv = ["-c", *arguments]
    sys.path.insert(0, "")
    _print_into(out, err)
    try:
        exec(code, {"__name__": "__main__"})
    finally:
        sys.stdout.flush()


def _command(words: Sequence[str], cwd: Path, env: Mapping[str, str], site: Path | None, out: Path, err: Path) -> None:
    """Become the command. It runs in the new process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["musicgenre", *words]
    if site is not None:
        sys.path.insert(0, str(site))
    _print_into(out, err)

    from musicgenre.__main__ import main

    try:
        main()
    finally:
        sys.stdout.flush()


def _print_into(out: Path, err: Path) -> None:
    """Let this process print into files, to its end."""
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
