"""Several processes at one place: on an output the second is refused and told who holds it, at a cache it waits."""

from __future__ import annotations

import errno
import math
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import _locks
from musicgenre._locks import file_lock, folder_lock
from musicgenre._telling import telling
from musicgenre._weight_files import WeightFile, cached_or_fetched
from musicgenre.errors import DataError
from musicgenre.features.representations.table import COLUMNS
from musicgenre.runs.folder import new_folder, open_run, output_folder
from tests.cli import COMMAND, run
from tests.labelled_music import make_table
from tests.limits import GUARD_S, wait_until
from tests.make_run import pair
from tests.small_store import make_store
from tests.toy import save_toy, save_toy_ears

TAKE_TURNS = """
import math, sys
from pathlib import Path
from musicgenre._locks import file_lock
folder = Path(sys.argv[1])
for _ in range(50):
    with file_lock(folder / "shared", "test", wait_s=math.inf):
        (folder / "company").mkdir()  # fails where another is in here too
        (folder / "company").rmdir()
"""

HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from musicgenre._locks import file_lock, folder_lock
with ExitStack() as held:
    for kind, place in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        held.enter_context({"file": file_lock, "folder": folder_lock}[kind](Path(place), "test"))
    print("held", flush=True)
    sys.stdin.read()
"""

TAKE_A_NAME = """
import sys
from pathlib import Path
from musicgenre.runs.folder import new_folder
print(new_folder(Path(sys.argv[1])))
"""


def started(program: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def held(*places: object) -> Iterator[int]:
    """Let another process hold places, as ("file" or "folder", path, ...); its number."""
    holder = started(HOLD, *places)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline().strip() == "held"
    try:
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate(timeout=GUARD_S)


def test_no_hold_of_several_processes_has_company(tmp_path: Path) -> None:
    processes = [started(TAKE_TURNS, tmp_path) for _ in range(4)]
    assert [process.wait(GUARD_S) for process in processes] == [0] * 4
    assert not list(tmp_path.iterdir()), "the last to hold it deletes the lock"


def test_processes_that_start_together_take_names_of_their_own(tmp_path: Path) -> None:
    processes = [started(TAKE_A_NAME, tmp_path / "runs" / "mel") for _ in range(3)]
    taken = {process.communicate(timeout=GUARD_S)[0].strip() for process in processes}
    assert taken == {str(tmp_path / "runs" / name) for name in ("mel", "mel-2", "mel-3")}


def test_a_new_folder_goes_again_where_nothing_came_of_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), output_folder(None, tmp_path / "mel") as folder:
        assert folder.is_dir()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    assert new_folder(tmp_path / "mel") == tmp_path / "mel"
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "mel", tmp_path / "other"):
        raise ZeroDivisionError
    assert (tmp_path / "mel").is_dir(), "it was there before"


@pytest.mark.skipif(os.name == "nt", reason="killing is another thing there")
def test_what_a_killed_process_held_is_free_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    with held("file", tmp_path / "out.csv", "folder", tmp_path / "store"):
        assert (tmp_path / ".out.csv.lock").is_file()
    with file_lock(tmp_path / "out.csv", "test"), folder_lock(tmp_path / "store", "test"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["store"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_copy_of_a_process_does_not_hold_on_to_its_locks(tmp_path: Path) -> None:
    ready, over = os.pipe(), os.pipe()
    with file_lock(tmp_path / "out", "test"):
        child = os.fork()
        if child == 0:
            os.write(ready[1], b"x")
            os.read(over[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
    with file_lock(tmp_path / "out", "test"):
        os.write(over[1], b"x")
    os.waitpid(child, 0)


def test_who_waits_is_told_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_locks, "_TELL_AFTER_S", 0.0)
    told: list[str] = []
    is_over = threading.Event()

    def wait() -> None:
        with telling(told.append), folder_lock(tmp_path, "preparation", wait_s=math.inf):
            is_over.set()

    waiting = threading.Thread(target=wait)
    with held("folder", tmp_path) as holder:
        waiting.start()
        wait_until(lambda: told)
        assert not is_over.is_set()
    waiting.join(GUARD_S)
    assert is_over.is_set() and len(told) == 1
    assert told[0].startswith(f"waiting for another preparation (process {holder} on ")


def test_a_file_system_without_locks_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    advice = r"cannot be locked: its file system has no working locks.+MUSICGENRE_CACHE"
    with pytest.raises(DataError, match=advice), folder_lock(tmp_path, "preparation"):
        pass


def test_every_output_refuses_a_second_process_and_says_who_holds_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "track.wav", np.zeros(8_000), 8_000)
    one, other = pair(tmp_path)
    store = make_store(tmp_path / "features", n_tracks=3)
    table = make_table(tmp_path / "table.csv", COLUMNS)
    out = {kind: tmp_path / f"out-{kind}" for kind in ("run", "store", "shards", "copies", "ensemble")}
    results, index, head = tmp_path / "out.jsonl", tmp_path / "out.npz", tmp_path / "out.json"
    commands = [
        ("train", "table-knn-3s", "--data", table.path, "--output", out["run"]),
        ("ensemble", one, other, "--output", out["ensemble"]),
        ("teach", tmp_path, "--name", "mine", "--output", head),
        ("classify", tmp_path / "track.wav", "--model", save_toy(tmp_path / "toy.onnx"), "--output", results),
        ("embed", tmp_path / "track.wav", "--model", save_toy_ears(tmp_path / "ears.onnx"), "--output", index),
        ("prepare", table.path, "--representation", "columns", "--output", out["store"]),
        ("shard", store.folder, "--output", out["shards"]),
    ]
    places: list[object] = []
    for kind in ("run", "store", "shards"):
        places += ["folder", out[kind]]
    for path in (results, index, head, out["ensemble"]):
        places += ["file", path]
    with held(*places) as holder:
        for command in commands:
            done = run(*map(str, command))
            assert done.returncode == 2, command
            said = " ".join(done.stderr.decode().split())
            assert f"(process {holder} on {platform.node()} since " in said and "is writing into" in said, command
    assert not any(path.exists() for path in (results, index, head, out["ensemble"]))


def test_a_download_that_another_process_makes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path))
    monkeypatch.setattr(_locks, "_TELL_AFTER_S", 0.0)
    path = tmp_path / "weights" / "pca.npz"
    with held("file", path) as holder:
        os.kill(holder, 0)

        def bring(line: str) -> None:
            assert f"process {holder} on " in line
            path.write_bytes(b"what the other brought")
            os.kill(holder, signal.SIGKILL)

        with telling(bring):
            assert cached_or_fetched(WeightFile("pca.npz", "http://127.0.0.1:9/none", ""), "options.pca") == path


@pytest.mark.slow
def test_two_trainings_that_start_together_leave_two_runs(tmp_path: Path, own_cache: None) -> None:
    table = make_table(tmp_path / "table.csv", COLUMNS)
    words = [COMMAND, "train", "table-logistic-regression-30s", "--data", table.path, "--set", "data.labels=[]"]
    words += ["--set", "protocol.options={test_size: 0.34, validation_size: 0.17}"]
    trainings = []
    for seed in (1, 2):
        command = [*words, "--set", f"training.seed={seed}"]
        trainings.append(subprocess.Popen([*map(str, command)], cwd=tmp_path, stdout=subprocess.PIPE, text=True))
    seeds = []
    for training in trainings:
        said, _ = training.communicate(timeout=GUARD_S)
        seeds.append(open_run(tmp_path / said.split()[-1]).seed)
    assert seeds == [1, 2] and len(list((tmp_path / "runs").iterdir())) == 2
