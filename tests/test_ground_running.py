"""Work that another thread can end, among other work that goes on."""

from __future__ import annotations

from musicgenre._running import Work, can_be_ended, ending_with_work


def test_ending_one_work_ends_what_it_runs_and_begins_and_nothing_else() -> None:
    ended: list[str] = []
    one, other = Work(), Work()
    with one.running(), can_be_ended(lambda: ended.append("native")), ending_with_work(lambda: ended.append("worker")):
        other.end()
        assert ended == [] and not one.is_over
        one.end()
        assert sorted(ended) == ["native", "worker"] and one.is_over

    with one.running(), ending_with_work(lambda: ended.append("late")):
        assert ended[-1] == "late", "what begins later is ended at once"
    with ending_with_work(lambda: ended.append("of nobody")):
        one.end()
    assert "of nobody" not in ended


def test_what_is_done_is_ended_no_more() -> None:
    ended: list[str] = []
    work = Work()
    with work.running(), can_be_ended(lambda: ended.append("x")):
        pass
    work.end()
    assert ended == []
