"""How answers look in a terminal: plain aligned lines, colour where it is welcome."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from itertools import groupby

import typer

from musicgenre._text import printable
from musicgenre.listening.answer import Answer
from musicgenre.listening.batch import Failure, Result

# In columns.
_NAME_WIDTH = 36
_GENRE_WIDTH = 10
_BESIDE_TIMELINE = 30
_NARROWEST_TIMELINE = 10

# What is drawn where standard output can hold it, and where it cannot.
_BAR, _PLAIN_BAR = "█", "#"
_SHADES, _PLAIN_SHADES = "·░▒▓█", ".:+*#"
_CONTINUES, _PLAIN_CONTINUES = "…", "~"


def table_row(result: Result, *, top: int, timeline: bool) -> None:
    """Print one track as a line: name, genre, confidence, then candidates, tags and warnings.

    Of a tagger: the tags it chose, then the next most probable ones in brackets.

    Parameters
    ----------
    result : Answer or Failure
        What became of the track; why it failed is told at the end, on standard error.
    top : int
        How many tags to name.
    timeline : bool
        Whether to draw what was heard over time, too.
    """
    if isinstance(result, Failure):
        failed = _paint("failed", typer.colors.RED)
        typer.echo(f"{_fit(result.path, _NAME_WIDTH)}  {failed:<{_GENRE_WIDTH}}")
        return

    name = _fit(result.path or "-", _NAME_WIDTH)
    tags = list(result.tags)[:top]
    if result.names_tags:
        others = [tag for tag in tags if tag not in result.chosen]
        tags = [*result.chosen, *others]
        parts = []
        if result.chosen:
            parts.append(_paint(_with_scores(result.chosen, result), typer.colors.GREEN))
        if others:
            parts.append(f"[{_with_scores(others, result)}]")
        line = " ".join(parts)
    else:
        details = []
        if not result.is_sure:
            candidates = [f"{genre} {result.scores[genre]:.0%}" for genre in result.candidates[:3]]
            details.append(f"perhaps {', '.join(candidates)}")
            if result.style:
                details.append(f"sounds like {result.style}")
        if tags:
            details.append(f"[{', '.join(tags)}]")

        colour = typer.colors.GREEN if result.is_sure else typer.colors.YELLOW
        # Filled up before it is painted: what sets the colour has a length, too.
        genre = _paint(f"{printable(result.genre):<{_GENRE_WIDTH}}", colour)
        line = f"{genre}  {result.confidence:4.0%}  {printable('; '.join(details))}"

    typer.echo(f"{name}  {line}".rstrip())
    for warning in result.warnings:
        typer.echo(f"{'':{_NAME_WIDTH}}  note: {printable(warning)}")

    if timeline:
        width = max(_NARROWEST_TIMELINE, shutil.get_terminal_size((100, 20)).columns - _BESIDE_TIMELINE)
        lines = _tag_timeline(result, tags, width) if result.names_tags else _genre_timeline(result, width)
        for drawn in lines:
            typer.echo(drawn)


def is_unicode() -> bool:
    """Tell whether standard output can hold every character, which older Windows code pages cannot."""
    return "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()


def _genre_timeline(answer: Answer, width: int) -> list[str]:
    """Draw the genre over time: one line for each stretch of one genre, its bar placed and sized as in the track.

    `width` columns stand for the whole track.
    """
    block = _drawable(_BAR, _PLAIN_BAR)
    lines = []
    for genre, group in groupby(answer.timeline, key=lambda segment: segment.genre):
        stretch = list(group)
        start_s, end_s = stretch[0].start_s, stretch[-1].end_s
        confidence = sum(segment.confidence for segment in stretch) / len(stretch)

        # The last segment may stick out of the track.
        last_s = max(answer.duration_s, end_s)
        left = min(width - 1, int(width * start_s / last_s))
        length = max(1, round(width * (end_s - start_s) / last_s))
        bar = " " * left + block * min(length, width - left)

        minutes, seconds = divmod(int(start_s), 60)
        clock = f"{minutes}:{seconds:02d}"
        if minutes >= 60:
            clock = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        lines.append(f"  {clock:>8} {printable(genre):<{_GENRE_WIDTH}} {confidence:4.0%} {bar}")
    return lines


def _tag_timeline(answer: Answer, tags: list[str], width: int) -> list[str]:
    """Draw tags over time: one line a tag, the darker the more probable; what was not heard stays empty.

    `width` columns stand for the whole track.
    """
    shades = _drawable(_SHADES, _PLAIN_SHADES)
    last_s = max([answer.duration_s, *(segment.end_s for segment in answer.timeline)])
    name_width = max((len(printable(tag)) for tag in tags), default=0)
    lines = []
    for tag in tags:
        # Segments may be narrower than a column or overlap: the later one is drawn over the earlier one.
        cells = [" "] * width
        for segment in answer.timeline:
            left = min(width - 1, int(width * segment.start_s / last_s))
            right = max(left + 1, min(width, round(width * segment.end_s / last_s)))
            shade = shades[min(len(shades) - 1, int(segment.tags[tag] * len(shades)))]
            cells[left:right] = shade * (right - left)
        lines.append(f"  {printable(tag):<{name_width}} {answer.tags[tag]:4.0%} {''.join(cells)}".rstrip())
    return lines


def _drawable(text: str, plain: str) -> str:
    """Take the text that standard output can hold."""
    return text if is_unicode() else plain


def _with_scores(tags: Iterable[str], answer: Answer) -> str:
    return printable(", ".join(f"{tag} {answer.tags[tag]:.0%}" for tag in tags))


def _fit(text: str, width: int) -> str:
    """Fill a name up to a width, or leave out its beginning: names of files differ at their end."""
    text = printable(text)
    if len(text) <= width:
        return f"{text:<{width}}"
    return _drawable(_CONTINUES, _PLAIN_CONTINUES) + text[-(width - 1) :]


def _paint(text: str, colour: str) -> str:
    """Colour a text on a terminal, unless its owner wants none (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return typer.style(text, fg=colour)
