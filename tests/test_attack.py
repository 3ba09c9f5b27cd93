"""Damaged inputs of every kind end as an answer or an error of ours, and the harness sees it where they do not."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musicgenre.errors import UsageError
from tests.attack import process
from tests.attack.base import Target, attack, use_input, whole_input
from tests.attack.kinds import KINDS, targets_of
from tests.attack.mutations import Mutation
from tests.attack.process import attack_kind
from tests.limits import GUARD_S

_FEW = {"maps": 10, "runs": 15, "stores": 30, "transformers": 5}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"MUSICGENRE_{name}", str(tmp_path / name.lower()))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_answered_or_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    targets = targets_of(kind, tmp_path / "whole")
    for number, target in enumerate(targets[:: 1 + len(targets) // 6]):
        end = use_input(whole_input(target), tmp_path / f"whole-{number}")
        assert end.kind == "answer", f"{target.name}: {end.said}"
    count = _FEW.get(kind, 60)
    ends, faults = attack(targets, tmp_path, count=count, seed=3)
    assert not faults
    assert ends.total() == count


@pytest.mark.slow
def test_the_command_attacks_every_kind(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.attack", "--minutes", "2", "--seed", "11", "--keep", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == len(KINDS) + 2 and not list(tmp_path.iterdir())


def broken(folder: Path) -> list[Target]:
    """A target that shows every kind of fault, by the first letter of its files."""

    def use(path: Path) -> None:
        match path.read_bytes()[:1]:
            case b"a":
                return
            case b"r":
                raise UsageError("refused")
            case b"t":
                raise KeyError("none of ours")
            case b"c":
                ctypes.string_at(0)
            case b"m":
                bytearray(10**13)
            case _:
                time.sleep(GUARD_S)

    def put(letter: str) -> Mutation:
        return lambda content, chance: letter.encode()

    return [Target.of_file(letter, b"a", "", (put(letter),), use) for letter in "arrtcmh"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_the_harness_sees_every_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_S", 3.0)
    count = attack_kind("tests.test_attack:broken", 8, GUARD_S, tmp_path, n_inputs=8)
    assert count.n_inputs == 8 == count.n_answers + count.n_refused + count.faults.total()
    assert count.n_answers and count.n_refused
    kinds = {where.partition(" in ")[0] for where in count.faults}
    assert kinds == {"KeyError", "MemoryError", "crash (SIGSEGV)", "it gave no answer"}
    assert len(list(tmp_path.iterdir())) == 4, "the first input of each is kept"
