"""Batches: order is kept, one bad track never stops the rest, cores are not oversubscribed."""

from __future__ import annotations

import threading
import time

import pytest

from musicgenre._parallel import usable_cores
from musicgenre.errors import AudioError, BundleError
from musicgenre.listening.answer import Answer
from musicgenre.listening.batch import Failure, hear_many, plan_threads


def answer(path: str) -> Answer:
    return Answer(path=path, duration_s=1.0, heard_s=1.0, genre="jazz", confidence=0.9, scores={"jazz": 0.9})


def listen(path: str) -> Answer:
    if "bad" in path:
        raise AudioError(f"{path} is not audio")
    if "gone" in path:
        raise FileNotFoundError(2, "No such file or directory")
    if "huge" in path:
        raise MemoryError
    time.sleep(0.002 * (hash(path) % 5))
    return answer(path)


@pytest.mark.parametrize("jobs", [1, 3])
def test_order_and_failures(jobs: int) -> None:
    paths = [f"{i}" for i in range(20)]
    paths[3], paths[7], paths[11] = "bad", "gone", "huge"
    results = list(hear_many(paths, listen, jobs=jobs))
    assert [r.path for r in results] == paths
    failures = [r for r in results if isinstance(r, Failure)]
    assert [f.path for f in failures] == ["bad", "gone", "huge"]
    assert "not audio" in failures[0].error and "No such file" in failures[1].error and "memory" in failures[2].error
    assert failures[0].as_dict().keys() == answer("x").as_dict().keys()


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_that_concern_every_track_are_raised(jobs: int) -> None:
    def broken(path: str) -> Answer:
        raise BundleError("the model is damaged")

    with pytest.raises(BundleError, match="damaged"):
        list(hear_many(["a", "b"], broken, jobs=jobs))


def test_paths_are_read_lazily() -> None:
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield str(asked)

    before = set(threading.enumerate())  # models keep threads of their own
    results = hear_many(endless(), answer, jobs=2)
    assert [next(results).path for _ in range(3)] == ["1", "2", "3"]
    assert asked < 20
    results.close()
    assert set(threading.enumerate()) <= before


def test_threads_times_jobs_never_exceed_the_cores() -> None:
    cores = usable_cores()
    assert plan_threads(None, None, 1) == (1, cores)
    for n_tracks in (1, 2, 3, 100):
        jobs, threads = plan_threads(None, None, n_tracks)
        assert jobs * threads <= cores and jobs <= n_tracks
    assert plan_threads(4, 3, 100) == (4, 3)
    assert plan_threads(10 * cores, None, 100) == (10 * cores, 1)
