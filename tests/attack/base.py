"""What is attacked, and how one input ends."""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from musicgenre.errors import MusicgenreError
from tests.attack.mutations import IMPOSSIBLE, Mutation

_KB = 1 / 1_000  # of MB
_HIGH_WATER, _RESIDENT = "VmHWM:", "VmRSS:"


class BrokenPromiseError(Exception):
    """An input was answered, but not as it must be."""


@dataclass(frozen=True, slots=True)
class Target:
    """Files that are used together, of which one is damaged.

    Attributes
    ----------
    name : str
        What it is called.
    files : mapping of str to bytes
        Whole files by their names, which may lie in folders.
    damaged : tuple of str
        Which of them a mutation may fall on.
    mutations : tuple of Mutation
        How they may be damaged; the more often one stands here, the more often it is taken.
    use : callable
        Uses the files in the folder that holds the damaged one, which it is given. An error of ours is as good an end
        as an answer.
    """

    name: str
    files: Mapping[str, bytes]
    damaged: tuple[str, ...]
    mutations: tuple[Mutation, ...]
    use: Callable[[Path], None]

    @classmethod
    def of_file(
        cls, name: str, content: bytes, suffix: str, mutations: tuple[Mutation, ...], use: Callable[[Path], None]
    ) -> Target:
        """A single file."""
        file = f"damaged{suffix}"
        return cls(name, {file: content}, (file,), mutations, use)

    @classmethod
    def of_folder(
        cls,
        folder: Path,
        pattern: str,
        mutations: tuple[Mutation, ...],
        use: Callable[[Path], None],
        *,
        name: str = "",
    ) -> Target:
        """Everything in a folder, of which what fits the pattern may be damaged."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        damaged = tuple(path.relative_to(folder).as_posix() for path in paths if path.match(pattern))
        assert damaged, f"{folder} has no {pattern}"
        return cls(name or folder.name, files, damaged, mutations, use)


@dataclass(frozen=True, slots=True)
class Input:
    """A damaged file, ready to be written beside the others of its target."""

    target: Target
    file: str
    mutation: str
    content: bytes

    def write(self, folder: Path) -> Path:
        """Write all files of the target into a folder; gives the damaged one."""
        for name, content in self.target.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.content if name == self.file else content)
        return folder / self.file


@dataclass(frozen=True, slots=True)
class End:
    """How an input ended.

    Attributes
    ----------
    kind : {"answer", "refused", "fault"}
        `refused` with an error of ours.
    said : str
        The message of an error.
    where : str
        The place of a fault: the same for all inputs that show it.
    peak_mb : float
        Memory that was needed above what was held before, in millions of bytes; 0 where the system does not tell.
    wall_s : float
        How long it took, in s.
    """

    kind: Literal["answer", "refused", "fault"]
    said: str = ""
    where: str = ""
    peak_mb: float = 0.0
    wall_s: float = 0.0


def make_input(targets: Sequence[Target], seed: int, number: int) -> Input:
    """Damage one file of one target; the same for the same seed and number."""
    chance = random.Random(f"{seed}/{number}")
    while True:
        target = chance.choice(targets)
        file = chance.choice(target.damaged)
        mutation = chance.choice(target.mutations)
        try:
            return Input(target, file, mutation.__name__, mutation(target.files[file], chance))
        except IMPOSSIBLE:
            continue


def whole_input(target: Target) -> Input:
    """A target as it is."""
    file = target.damaged[0]
    return Input(target, file, "whole", target.files[file])


def use_input(given: Input, folder: Path) -> End:
    """Write an input into a new folder and use it."""
    path = given.write(folder)
    held_mb = _memory_mb(_RESIDENT)
    _forget_high_water()
    start_s = time.monotonic()
    kind, said, where = _end_of(given.target.use, path)
    peak_mb = max(0.0, _memory_mb(_HIGH_WATER) - held_mb)
    return End(kind, said, where, peak_mb, time.monotonic() - start_s)


def _end_of(use: Callable[[Path], None], path: Path) -> tuple[Literal["answer", "refused", "fault"], str, str]:
    """Use a file; tell how that ended, what was said, and where."""
    try:
        use(path)
    except MusicgenreError as error:
        said = str(error)
        if not said.isprintable():
            return "fault", repr(said), "a message that cannot be printed"
        return "refused", said, ""
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "musicgenre" in Path(frame.filename).parts]
        place = (own or frames)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        return "fault", f"{type(error).__name__}: {error}"[:500], where
    return "answer", "", ""


def attack(targets: Sequence[Target], folder: Path, *, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Use so many damaged files in this process.

    Returns
    -------
    ends : Counter
        How often each mutation was answered or refused.
    faults : list of str
        What ended in another way, with what to repeat it by.
    """
    ends: Counter[str] = Counter()
    faults: list[str] = []
    for number in range(count):
        given = make_input(targets, seed, number)
        end = use_input(given, folder / str(number))
        ends[f"{given.mutation}: {end.kind}"] += 1
        if end.kind == "fault":
            faults.append(f"{given.target.name}, {given.mutation} {number} of seed {seed}: {end.where}: {end.said}")
    return ends, faults


def _memory_mb(what: str) -> float:
    """What Linux tells about this process; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        if line.startswith(what):
            return int(line.split()[1]) * _KB
    return 0.0


def _forget_high_water() -> None:
    """Let the peak of memory begin anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return
