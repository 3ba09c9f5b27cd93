"""The plumbing under the store: cache entries, remembered hashes, the lock, the pool."""

from __future__ import annotations

import errno
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre._files import remove_stale, sha256_of, writing_to
from musicgenre._locks import folder_lock
from musicgenre._parallel import run_jobs, start_method, usable_cores
from musicgenre.data import cache as _cache
from musicgenre.data.cache import ContentHashes, RowCache, Signature, entry_key
from musicgenre.errors import DataError
from tests.limits import GUARD_S, wait_until
from tests.pool_work import double, fail

KEY = entry_key("00", {"name": "x"})


@given(st.integers(0, 5), st.sampled_from(["float16", "float32"]), st.lists(st.integers(0, 4), max_size=3))
@settings(max_examples=30)
def test_entries_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, count: int, dtype: str, shape: list[int]
) -> None:
    cache = RowCache(tmp_path_factory.mktemp("cache"))
    rows = np.random.default_rng(count).standard_normal((count, *shape)).astype(dtype)
    starts_s = np.arange(count) * 0.5
    assert KEY not in cache
    cache.write(KEY, starts_s, rows)
    found = cache.read(KEY)
    assert found is not None
    np.testing.assert_array_equal(found[0], starts_s)
    np.testing.assert_array_equal(found[1], rows)
    assert found[1].dtype == rows.dtype
    np.testing.assert_array_equal(cache.read_starts(KEY), starts_s)


@pytest.mark.parametrize("length", [0, 5, 100, 140, 300])
def test_damaged_entries_are_none(tmp_path: Path, length: int) -> None:
    cache = RowCache(tmp_path)
    assert cache.read(KEY) is None
    cache.write(KEY, np.zeros(2), np.ones((2, 30), np.float32))
    path = cache.path_of(KEY)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.read(KEY) is None


def test_keys_depend_on_content_and_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        entry_key("00", {"a": 1}),
        entry_key("01", {"a": 1}),
        entry_key("00", {"a": 2}),
        entry_key("00", {"a": 1, "b": None}),
    }
    assert len(keys) == 4
    assert entry_key("00", {"b": None, "a": 1}) in keys
    monkeypatch.setattr(_cache, "CACHE_VERSION", 999)
    assert entry_key("00", {"a": 1}) not in keys


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "_SETTLED_S", 0.0)
    path = tmp_path / "sound"
    path.write_text("one", encoding="utf-8")
    hashes = ContentHashes(tmp_path / "cache")
    assert hashes.known(path) is None
    wait_until(lambda: time.time() * 1e9 > max(path.stat().st_mtime_ns, path.stat().st_ctime_ns))
    hashes.remember(path, Signature.of(path), sha256_of(path))
    assert hashes.known(path) == sha256_of(path)
    hashes.close()
    again = ContentHashes(tmp_path / "cache")
    assert again.known(path) == sha256_of(path)
    path.write_text("two", encoding="utf-8")
    assert again.known(path) is None
    again.close()


def test_files_still_being_written_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "_SETTLED_S", 2 * GUARD_S)
    path = tmp_path / "sound"
    path.write_text("one", encoding="utf-8")
    hashes = ContentHashes(tmp_path / "cache")
    hashes.remember(path, Signature.of(path), "0")
    assert hashes.known(path) is None
    hashes.close()


HOLD = """
import sys
from pathlib import Path
from musicgenre._locks import folder_lock
with folder_lock(Path(sys.argv[1]), "preparation"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds the folder's lock until it is killed, or this one ends."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    return holder


def test_a_lock_names_its_holder_and_falls_with_it(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    with pytest.raises(DataError, match=f"process {holder.pid}"), folder_lock(tmp_path, "preparation"):
        pass
    holder.kill()
    holder.communicate(timeout=GUARD_S)
    with folder_lock(tmp_path, "preparation"):
        assert f"process {os.getpid()} on {platform.node()} since " in (tmp_path / ".lock").read_text("utf-8")
    assert not list(tmp_path.iterdir()), "the lock goes with the work"


def test_a_lock_can_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = hold(tmp_path)
    waits = 0

    def wait(_: float) -> None:
        """In the place of the waiting between two looks at the lock: the holder ends at the second."""
        nonlocal waits
        waits += 1
        if waits == 2:
            monkeypatch.undo()
            holder.kill()
            holder.communicate(timeout=GUARD_S)

    monkeypatch.setattr("time.sleep", wait)
    with folder_lock(tmp_path, "preparation", wait_s=GUARD_S):
        assert waits == 2


def test_only_our_own_old_temporary_files_are_removed(tmp_path: Path) -> None:
    old, new, other = tmp_path / ".store.json.x.tmp", tmp_path / ".store.json.y.tmp", tmp_path / ".mine.tmp"
    for path in (old, new, other):
        path.touch()
        os.utime(path, (1, 1))
    os.utime(new)
    remove_stale(tmp_path, (".store.json.*.tmp",), older_than_s=3600)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", ".store.json.y.tmp"]


def test_a_damaged_memory_of_hashes_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "_SETTLED_S", -1e9)
    (tmp_path / "content.sqlite").write_bytes(b"no database " * 1000)
    for _ in range(2):
        hashes = ContentHashes(tmp_path)
        found = hashes.known(Path(__file__))
        hashes.remember(Path(__file__), Signature.of(Path(__file__)), "abc")
        hashes.close()
    assert found == "abc"


def test_a_memory_that_cannot_be_opened_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "content.sqlite").mkdir()
    hashes = ContentHashes(tmp_path)
    assert hashes.known(Path(__file__)) is None
    hashes.close()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "cannot write.*Check the permissions there.*MUSICGENRE_CACHE"),
        (errno.EFBIG, "cannot write.*Lift the limit.*ulimit -f"),
        (errno.ENOTDIR, "cannot write.*Write into another folder"),
    ],
)
def test_errors_of_the_system_become_readable(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(DataError, match=words), writing_to(tmp_path):
        raise OSError(number, os.strerror(number))


@pytest.fixture(params=["fork", "spawn"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either way in which worker processes start."""
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {request.param}")
    monkeypatch.setattr("musicgenre._parallel.start_method", lambda: request.param)
    return str(request.param)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_pool_works_on_every_item_once(n_jobs: int, start: str) -> None:
    found = sorted(run_jobs(double, 2, range(10), n_jobs, list))
    assert found == [(index, 2 * index) for index in range(10)]


def test_processes_are_copied_only_where_no_thread_could_hold_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("sys.platform", "linux")
    assert start_method() == "fork"
    monkeypatch.setattr("threading.active_count", lambda: 2)
    assert start_method() == "spawn"
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("sys.platform", "darwin")
    assert start_method() == "spawn"


def test_what_copied_processes_share_is_loaded_once_before_them(start: str) -> None:
    loaded: list[int] = []
    found = dict(run_jobs(double, 2, [1, 2, 3], 2, lambda: loaded.append(os.getpid())))
    assert found == {0: 2, 1: 4, 2: 6}
    assert loaded == ([os.getpid()] if start == "fork" else [])


def test_the_pool_survives_items_that_kill_their_process(start: str) -> None:
    items = [1, 2, -1, 4, 5, -1, 7, 8]
    found = dict(run_jobs(double, 1, items, 2, list))
    assert found == {index: item if item > 0 else None for index, item in enumerate(items)}
    assert usable_cores() >= 1


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_errors_come_through_the_pool(n_jobs: int, start: str) -> None:
    with pytest.raises(DataError, match="broken"):
        list(run_jobs(fail, "broken", [1, 2, 3], n_jobs, list))
