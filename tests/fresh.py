"""Run the command in a process of its own that need not load large packages anew: a copy of one that holds them.

Nothing of musicgenre is loaded in the process that is copied, so what a command loads of it, plugins included, it
loads itself. Where no process can be copied each begins with nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.limits import GUARD_S

# What is slow to load among the packages that commands take; loading them starts no threads.
_LARGE = ["lightning.pytorch", "torchmetrics", "numba", "sklearn.linear_model", "scipy.signal", "librosa", "onnx"]
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
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = context.Process(target=_command, args=(words, cwd, dict(env), site, out, err))
        process.start()
        process.join(GUARD_S)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"musicgenre {' '.join(words)} never ended")
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text("utf-8"), err.read_text("utf-8"))


def _command(words: Sequence[str], cwd: Path, env: Mapping[str, str], site: Path | None, out: Path, err: Path) -> None:
    """Become the command. It runs in the new process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["musicgenre", *words]
    if site is not None:
        sys.path.insert(0, str(site))
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end of the process
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115

    from musicgenre.__main__ import main

    try:
        main()
    finally:
        sys.stdout.flush()
