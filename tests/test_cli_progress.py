"""Progress bars: drawn on a terminal, without a thread, and nothing in a pipe."""

from __future__ import annotations

import threading

import pytest

from musicgenre.cli._terminal import counting, transferring


def test_a_bar_on_a_terminal_needs_no_thread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the stream for a terminal
    before = threading.active_count()
    with counting("preparing") as advance:
        for done in range(4):
            advance(done, 3)
        assert threading.active_count() == before  # with one, worker processes could not be copies (data/_pool.py)
    shown = capsys.readouterr().err
    assert "preparing" in shown
    assert "3/3" in shown  # the end is always drawn


def test_nothing_is_drawn_in_a_pipe_or_when_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with transferring() as advance:
        advance("file.zip", 1, 2)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with counting("preparing", quiet=True) as step:
        step(1, 2)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
