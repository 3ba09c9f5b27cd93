"""Run the command: in this process, which has its packages loaded, or as installed in a process of its own."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import typer.main

from tests.limits import GUARD_S

# The parameters of all commands are read once, not at every call: it takes longer than a small command itself.
typer.main.get_command = functools.cache(typer.main.get_command)

COMMAND = Path(sys.executable).parent / ("musicgenre.exe" if os.name == "nt" else "musicgenre")
HOLDING = (sys.executable, Path(__file__).with_name("holding.py"))
"""The command, with tracks from the tenth on that wait for Ctrl-C."""

Done = subprocess.CompletedProcess[bytes]

_PLAIN = {"NO_COLOR": "1", "COLUMNS": "120"}


def run(
    *arguments: str | Path | bytes,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    may_fail: bool = False,
) -> Done:
    """Run ``musicgenre`` with these arguments as the installed command would: no terminal, no colours.

    An error that is none of ours is no result, unless the command ``may_fail``.
    """
    words = [os.fsdecode(argument) for argument in arguments]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin)
        files[0].seek(0)
        stack.enter_context(chdir(cwd or Path.cwd()))
        code = run_on(files, words, env={**_PLAIN, **(env or {})})
        for file in files:
            file.seek(0)
        done = subprocess.CompletedProcess(["musicgenre", *words], code, files[1].read(), files[2].read())
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    assert may_fail or b"internal error: " not in done.stderr, done.stderr.decode(errors="replace")
    return done


def run_on(
    streams: Sequence[IO[bytes]], words: Sequence[str], *, env: dict[str, str], without: Sequence[str] = ()
) -> int:
    """Run ``musicgenre`` in this process with these as its standard streams; its exit code.

    ``env`` are variables that it has beside those of this process, ``without`` those that it has not.
    """
    command = ["musicgenre", *words]
    with _environment(env), _streams(streams), _as_at_start(command):
        for name in without:
            os.environ.pop(name, None)
        return _exit_code(_main())


def run_process(*arguments: str | Path | bytes, env: dict[str, str] | None = None) -> Done:
    """Run the installed command in a process of its own, for what depends on how Python itself starts."""
    command = [os.fsencode(COMMAND), *(os.fsencode(argument) for argument in arguments)]
    environment = {**os.environ, **_PLAIN, **(env or {})}
    done = subprocess.run(command, input=b"", capture_output=True, env=environment, timeout=GUARD_S, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    assert b"internal error: " not in done.stderr, done.stderr.decode(errors="replace")
    return done


def json_lines(done: Done) -> list[dict[str, Any]]:
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


def _main() -> Callable[[], None]:
    from musicgenre.__main__ import main

    return main


def _exit_code(main: Callable[[], None]) -> int:
    """Exit code of the process that would run this."""
    try:
        main()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)  # noqa: T201 - as Python does
        return 1
    return 0


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Change variables in the block; what the command changes of others goes with it."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _streams(files: Sequence[IO[bytes]]) -> Iterator[None]:
    """Make files the standard streams, also those that code in C writes to."""
    kept = [os.dup(number) for number in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.dup2(files[number].fileno(), number)
            errors = "surrogateescape" if number == 0 else "strict"
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            patch.setattr(sys, name, stream)
        try:
            yield
        finally:
            for number, name in enumerate(("stdin", "stdout", "stderr")):
                getattr(sys, name).close()
                os.dup2(kept[number], number)
                os.close(kept[number])


@contextmanager
def _as_at_start(command: list[str]) -> Iterator[None]:
    """Let warnings, messages to the log and Ctrl-C be what they are in a process that has just begun."""
    handler = signal.getsignal(signal.SIGINT)
    root = logging.getLogger()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(sys, "argv", command)
        patch.setattr(root, "handlers", [])
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        patch.setattr(warnings, "showwarning", _show_warning)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: IO[str] | None = None,
    line: str | None = None,
) -> None:
    """Write a warning as Python does where nobody records it."""
    (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
