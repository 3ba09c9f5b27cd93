"""How answers look in a terminal: plain aligned lines, colour where it is welcome, a progress bar on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import typer

from musicgenre.audio import printable
from musicgenre.listening.answer import Answer, TimelineSegment
from musicgenre.listening.batch import Failure, Result

_NAME_WIDTH = 36
_GENRE_WIDTH = 10
_BAR, _PLAIN_BAR = "█", "#"
_SHADES, _PLAIN_SHADES = "·░▒▓█", ".:+*#"
_CONTINUES, _PLAIN_CONTINUES = "…", "~"


def table_row(result: Result, *, top: int, timeline: bool) -> None:
    """Print one track as a line: name, genre, confidence, then candidates, tags and warnings."""
    if isinstance(result, Failure):
        typer.echo(f"{_fit(result.path, _NAME_WIDTH)}  {_paint('failed', typer.colors.RED):<{_GENRE_WIDTH}}")
        return
    name = _fit(result.path or "-", _NAME_WIDTH)
    if result.names_tags:
        _tag_rows(result, name, top=top, timeline=timeline)
        return
    colour = typer.colors.GREEN if result.is_sure else typer.colors.YELLOW
    genre = _paint(f"{printable(result.genre):<{_GENRE_WIDTH}}", colour)
    typer.echo(f"{name}  {genre}  {result.confidence:4.0%}  {_details(result, top)}".rstrip())
    _notes(result)
    if timeline:
        for line in timeline_lines(result.timeline, result.duration_s, _columns() - 30):
            typer.echo(line)


def _notes(answer: Answer) -> None:
    for warning in answer.warnings:
        typer.echo(f"{'':{_NAME_WIDTH}}  note: {printable(warning)}")


def _tag_rows(answer: Answer, name: str, *, top: int, timeline: bool) -> None:
    """Print a tagger's answer: the tags it chose, then the next most probable ones in brackets."""
    others = [tag for tag in list(answer.tags)[:top] if tag not in answer.chosen]
    chosen = _paint(_scored(answer, answer.chosen), typer.colors.GREEN) if answer.chosen else ""
    parts = [chosen, f"[{_scored(answer, others)}]" if others else ""]
    typer.echo(f"{name}  {' '.join(part for part in parts if part)}".rstrip())
    _notes(answer)
    if timeline:
        for line in tag_timeline_lines(answer, [*answer.chosen, *others], _columns() - 30):
            typer.echo(line)


def _scored(answer: Answer, tags: Sequence[str]) -> str:
    return printable(", ".join(f"{tag} {answer.tags[tag]:.0%}" for tag in tags))


def tag_timeline_lines(answer: Answer, tags: Sequence[str], width: int) -> list[str]:
    """Draw tags over time: one line a tag, the darker the more probable; what was not heard stays empty.

    Parameters
    ----------
    answer : Answer
        A tagger's.
    tags : sequence of str
        Which of its tags.
    width : int
        Columns that stand for the whole track.
    """
    columns = max(10, width)
    shades = _SHADES if is_unicode() else _PLAIN_SHADES
    last_s = max([answer.duration_s, *(segment.end_s for segment in answer.timeline)])
    name_width = max((len(printable(tag)) for tag in tags), default=0)
    lines = []
    for tag in tags:
        cells = [" "] * columns
        for segment in answer.timeline:
            left = min(columns - 1, int(columns * segment.start_s / last_s))
            right = max(left + 1, min(columns, round(columns * segment.end_s / last_s)))
            shade = shades[min(len(shades) - 1, int(segment.tags[tag] * len(shades)))]
            cells[left:right] = shade * (right - left)
        lines.append(f"  {printable(tag):<{name_width}} {answer.tags[tag]:4.0%} {''.join(cells)}".rstrip())
    return lines


def timeline_lines(segments: tuple[TimelineSegment, ...], duration_s: float, width: int) -> list[str]:
    """Draw the genre over time: one line for each stretch of one genre, its bar placed and sized as in the track.

    Parameters
    ----------
    segments : tuple of TimelineSegment
        Heard segments in order.
    duration_s : float
        Length of the track in seconds.
    width : int
        Columns that stand for the whole track.
    """
    lines = []
    columns = max(10, width)
    block = _BAR if is_unicode() else _PLAIN_BAR
    for genre, group in groupby(segments, key=lambda segment: segment.genre):
        stretch = list(group)
        start_s, end_s = stretch[0].start_s, stretch[-1].end_s
        confidence = sum(segment.confidence for segment in stretch) / len(stretch)
        left = min(columns - 1, int(columns * start_s / max(duration_s, end_s)))
        length = max(1, round(columns * (end_s - start_s) / max(duration_s, end_s)))
        bar = " " * left + block * min(length, columns - left)
        lines.append(f"  {clock(start_s):>8} {printable(genre):<{_GENRE_WIDTH}} {confidence:4.0%} {bar}")
    return lines


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from one hour on."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def is_unicode() -> bool:
    """Tell whether standard output can hold every character, which older Windows code pages cannot."""
    return "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()


@contextmanager
def progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error while the block runs; yields the function that advances it."""
    if quiet or total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("listening"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("listening", total=total)
        yield lambda: bar.advance(task)


def _details(answer: Answer, top: int) -> str:
    parts = []
    if not answer.is_sure:
        parts.append("perhaps " + ", ".join(f"{name} {answer.scores[name]:.0%}" for name in answer.candidates[:3]))
        if answer.style:
            parts.append(f"sounds like {answer.style}")
    tags = list(answer.tags)[:top]
    if tags:
        parts.append(f"[{', '.join(tags)}]")
    return printable("; ".join(parts))


def _fit(text: str, width: int) -> str:
    text = printable(text)
    mark = _CONTINUES if is_unicode() else _PLAIN_CONTINUES
    return f"{text:<{width}}" if len(text) <= width else mark + text[-(width - 1) :]


def _paint(text: str, colour: str) -> str:
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return typer.style(text, fg=colour)


def _columns() -> int:
    return shutil.get_terminal_size((100, 20)).columns
