"""A kind is attacked in a process of its own, which may need so much memory and time; if it ends, another goes on."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from musicgenre.audio import decoding_apart
from tests.attack.base import End, make_input, use_input, whole_input
from tests.attack.kinds import DECODED, targets_of

MOST_MB = 2_000
"""Address space that a process may take beyond what it has once everything is loaded, in millions of bytes."""

MOST_S = 60.0
"""Seconds after which an input is taken to hang."""

_START_S = 300.0  # to load everything and make whole files


@dataclass
class Count:
    """How the inputs of one kind ended.

    Attributes
    ----------
    n_inputs, n_answers, n_refused, n_decoder_crashes : int
        How many; a crash of a decoder that costs a batch one file, with a message, is among the refused.
    faults : Counter
        Tracebacks and crashes by their place.
    examples : dict of str to str
        For each place, number and message of the first.
    peak_mb, wall_s : float
        The most that one input needed.
    hungriest, slowest : int
        The numbers of those inputs.
    """

    kind: str
    seed: int
    n_inputs: int = 0
    n_answers: int = 0
    n_refused: int = 0
    n_decoder_crashes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    peak_mb: float = 0.0
    wall_s: float = 0.0
    hungriest: int = 0
    slowest: int = 0

    def add(self, number: int, name: str, end: End) -> None:
        """Count one."""
        self.n_inputs += 1
        self.n_answers += end.kind == "answer"
        self.n_refused += end.kind == "refused"
        if end.peak_mb > self.peak_mb:
            self.peak_mb, self.hungriest = end.peak_mb, number
        if end.wall_s > self.wall_s:
            self.wall_s, self.slowest = end.wall_s, number
        if end.kind == "fault":
            self.faults[end.where] += 1
            self.examples.setdefault(end.where, f"{number} ({name}): {end.said}")


def attack_kind(kind: str, seed: int, seconds: float, kept: Path, *, n_inputs: float = math.inf) -> Count:
    """Attack one kind for some seconds.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        With the number of an input it decides what that is.
    seconds : float
        For how long.
    kept : Path
        Folder for inputs that end in a fault, one a place.
    n_inputs : float
        At most so many.
    """
    count = Count(kind, seed)
    end_at = time.monotonic() + seconds

    def goes_on() -> bool:
        return time.monotonic() < end_at and count.n_inputs < n_inputs

    with tempfile.TemporaryDirectory() as name:
        while goes_on():
            _until_it_ends(count, goes_on, Path(name), kept)
    return count


def _until_it_ends(count: Count, goes_on: Callable[[], bool], folder: Path, kept: Path) -> None:
    """Let one process use the inputs that come next."""
    with _Process(count.kind, count.seed, folder) as process:
        while goes_on():
            number = count.n_inputs
            try:
                name, end = process.use(number)
            except (EOFError, OSError) as error:
                end = _after_a_crash(count, number, folder, process.how_it_ended(error))
                name = ""
            is_new = end.kind == "fault" and not count.faults[end.where]
            count.add(number, name, end)
            if is_new:
                _keep(count, number, folder, kept)
            shutil.rmtree(folder / str(number), ignore_errors=True)
            if process.has_ended:
                break


def _after_a_crash(count: Count, number: int, folder: Path, how: str) -> End:
    """Where a decoder crashed, hear the sound as a batch is heard."""
    end = End("fault", how, how)
    if count.kind not in DECODED:
        return end
    with _Process(count.kind, count.seed, folder, decodes_apart=True) as process:
        try:
            _, again = process.use(number)
        except (EOFError, OSError) as error:
            return End("fault", process.how_it_ended(error), how)
    count.n_decoder_crashes += 1
    return again


def _keep(count: Count, number: int, folder: Path, kept: Path) -> None:
    """Save an input that ended in a fault."""
    if (folder / str(number)).is_dir():
        shutil.copytree(folder / str(number), kept / f"{count.kind}-{count.seed}-{number}", dirs_exist_ok=True)


class _Process:
    """A process that makes and uses the inputs of one kind."""

    def __init__(self, kind: str, seed: int, folder: Path, *, decodes_apart: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, kind, seed, str(folder), decodes_apart))
        self._process.start()
        theirs.close()
        self._limit_s = _START_S

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._process.join(1.0)
        self._process.kill()
        self._process.join()

    @property
    def has_ended(self) -> bool:
        """Whether it crashed or was ended."""
        return self._line.closed

    def use(self, number: int) -> tuple[str, End]:
        """Let it use an input; gives what that was, and how it ended.

        Raises
        ------
        TimeoutError
            It gave no answer.
        EOFError
            It crashed.
        """
        if self._limit_s == _START_S:
            self._receive()
        self._limit_s = MOST_S
        self._line.send(number)
        name, end = self._receive()
        return name, end

    def how_it_ended(self, error: Exception) -> str:
        """End it, and say what happened."""
        self._line.close()
        if isinstance(error, TimeoutError):
            self._process.kill()
            self._process.join()
            return f"it gave no answer in {MOST_S:g} s"
        self._process.join()
        code = self._process.exitcode or 0
        return f"crash ({signal.Signals(-code).name})" if code < 0 else f"the process ended with {code}"

    def _receive(self) -> tuple[str, End]:
        if not self._line.poll(self._limit_s):
            raise TimeoutError
        received: tuple[str, End] = self._line.recv()
        return received


def _serve(line: Connection, kind: str, seed: int, folder: str, decodes_apart: bool) -> None:
    """Make whole files once, then damage and use one after the other, as asked for, in a process of its own."""
    work = Path(tempfile.mkdtemp(dir=folder))
    for name in ("CACHE", "CONFIG", "DATA"):
        os.environ[f"MUSICGENRE_{name}"] = str(work / name.lower())
    os.environ["HF_HUB_OFFLINE"] = "1"
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - packages in C write there
        os.dup2(nothing.fileno(), 2)

    targets = targets_of(kind, work)
    for number, target in enumerate(targets):  # what is loaded and compiled late is no matter of an input
        use_input(whole_input(target), work / f"whole-{number}")
    line.send(("ready", End("answer")))
    _limit_memory()
    with decoding_apart(None if decodes_apart else 1):
        while True:
            try:
                number = line.recv()
            except EOFError:
                return
            given = make_input(targets, seed, number)
            line.send((f"{given.target.name}, {given.mutation}", use_input(given, Path(folder) / str(number))))


def _limit_memory() -> None:
    """Let this process take no more than `MOST_MB` beyond what it has."""
    if sys.platform != "linux":
        return
    import resource

    n_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = n_pages * resource.getpagesize() + MOST_MB * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
