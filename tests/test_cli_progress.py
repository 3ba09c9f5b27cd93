"""Progress bars: drawn on a terminal, without a thread, and nothing in a pipe."""

from __future__ import annotations

import sys
import threading

import pytest
import typer

from musicgenre.cli import _terminal
from musicgenre.cli._terminal import counting, transferring, watching_training


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


def test_what_is_written_without_asking_stands_on_lines_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pyte = pytest.importorskip("pyte")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    with counting("preparing") as advance:
        advance(1, 3)
        typer.echo("a note", err=True)
        sys.stderr.write("begun, ")
        advance(3, 3)
        sys.stderr.write("done\n")
        drawn = capsys.readouterr().err
    screen = pyte.Screen(60, 5)
    pyte.Stream(screen).feed(drawn.replace("\n", "\r\n"))
    lines = [line.rstrip() for line in screen.display]
    assert lines[:2] == ["a note", "begun, done"] and lines[2].startswith("preparing ━") and "3/3" in lines[2]
    pyte.Stream(screen).feed(capsys.readouterr().err)
    assert [line.rstrip() for line in screen.display] == ["a note", "begun, done", "", "", ""]
    assert not hasattr(sys.stderr, "_bars")


def test_the_scores_of_a_training_stand_below_its_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pyte = pytest.importorskip("pyte")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    with watching_training() as (advance, note):
        advance("  within the epoch", 4, 4)
        note("epoch 1: loss 2.301, validation loss 2.280")
        advance("training tiny", 1, 1)
        drawn = capsys.readouterr().err
    screen = pyte.Screen(60, 5)
    pyte.Stream(screen).feed(drawn.replace("\n", "\r\n"))
    lines = [line.rstrip() for line in screen.display]
    assert lines[0].startswith("  within the epoch") and lines[1].startswith("training tiny")
    assert lines[2] == "epoch 1: loss 2.301, validation loss 2.280"
    pyte.Stream(screen).feed(capsys.readouterr().err)
    assert not any(line.strip() for line in screen.display)


def test_without_a_terminal_the_scores_are_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for every_s, shown in ((3_600.0, ""), (0.0, "epoch 1\nepoch 2\n")):
        monkeypatch.setattr(_terminal, "_NOTE_EVERY_S", every_s)
        with watching_training() as (_, note):
            note("epoch 1")
            note("epoch 2")
        assert capsys.readouterr().err == shown
    with watching_training(quiet=True) as (_, note):
        note("epoch 3")
    assert capsys.readouterr().err == ""
