"""Threads and processes: order, bounds, errors. Processes that die are tested with the store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from musicgenre._parallel import OrderedPool, in_threads, reading_threads, run_jobs, usable_cores
from musicgenre.errors import DataError
from tests.limits import GUARD_S


def times(factor: int, item: int) -> int:
    if item < 0:
        raise DataError(f"{item} is negative")
    return factor * item


def test_cores_are_counted() -> None:
    assert usable_cores() >= 1
    assert 1 <= reading_threads() <= min(4, usable_cores())


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_keep_the_order(threads: int) -> None:
    assert list(in_threads(str, range(50), threads)) == [str(number) for number in range(50)]
    assert list(in_threads(str, [], threads)) == []


def test_one_thread_works_in_the_callers_unless_it_works_ahead() -> None:
    here = threading.get_ident()
    assert list(in_threads(lambda _: threading.get_ident(), [1], 1)) == [here]
    assert list(in_threads(lambda _: threading.get_ident(), [1], 1, ahead=2)) != [here]


@pytest.mark.parametrize(("threads", "ahead", "most"), [(1, None, 1), (2, None, 4), (2, 8, 8)])
def test_items_are_read_no_further_ahead_than_asked(threads: int, ahead: int | None, most: int) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    with closing(in_threads(str, items(), threads, ahead=ahead)) as results:
        next(results)
        assert len(read) == most


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_come_where_their_result_would_have(threads: int) -> None:
    results = in_threads(lambda item: times(2, item), [1, -1, 3], threads)
    assert next(results) == 2
    with pytest.raises(DataError, match="-1 is negative"):
        next(results)


def test_closing_gives_up_what_was_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def work(item: int) -> int:
        begun.append(item)
        if item > 0:
            go_on.wait(GUARD_S)
        return item

    def cancel_and_let_go_on(pool: ThreadPoolExecutor, *, wait: bool, cancel_futures: bool) -> None:
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        go_on.set()
        shutdown(pool, wait=wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", cancel_and_let_go_on)
    results = in_threads(work, range(20), 1, ahead=10)
    assert next(results) == 0
    results.close()
    assert len(begun) <= 2 and go_on.is_set()


def test_processes_work_on_every_item_once() -> None:
    assert sorted(run_jobs(times, 3, range(5), 2)) == [(number, 3 * number) for number in range(5)]


def test_long_lived_processes_keep_the_order_and_pass_errors_on() -> None:
    pool = OrderedPool(times, 2, 2)
    try:
        assert list(pool.run(range(20))) == [2 * number for number in range(20)]
        with pytest.raises(DataError, match="-7 is negative"):
            list(pool.run([1, -7]))
    finally:
        pool.close()
