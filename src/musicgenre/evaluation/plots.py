"""Plots as SVG text, drawn without any plotting package: curves, confusion matrix, class balance, intervals.

Lengths are in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

COLOURS = (
    "#1f6fb2",
    "#d9772b",
    "#3b8f4f",
    "#b8433f",
    "#7b5ea7",
    "#8a6d4f",
    "#c2699b",
    "#6d7278",
    "#9a9a2e",
    "#2fa3ad",
)
"""Colours of lines and bars, in this order."""

_FONT = 'font-family="system-ui, sans-serif" font-size="12"'
_GREY = "#888888"
_DARK_FROM = 0.55  # share of a row from which white numbers read better than black ones
_CHARACTER = 7.5  # width of one, about


def line_chart(
    title: str,
    lines: Sequence[tuple[str, Sequence[float | None], str]],
    *,
    x_label: str,
    marks: Sequence[tuple[int, float]] = (),
    mark_name: str = "",
    height: int = 300,
) -> str:
    """Draw values over epochs.

    Parameters
    ----------
    title, x_label : str
        Words at the top and at the bottom.
    lines : sequence of (name, values, colour)
        A name is listed once in the legend even where several lines share it; None leaves a gap.
    marks : sequence of (epoch, value)
        Points to draw a ring around; epochs count from 0.
    mark_name : str
        What a ring means, for the legend.
    """
    values = [value for _, line, _ in lines for value in line if value is not None and math.isfinite(value)]
    if not values:
        return ""

    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    last = max(1, *(len(line) - 1 for _, line, _ in lines))
    legend = {name: colour for name, _, colour in lines}
    left, top, right, bottom = 52, 30, 420, height - 40
    width = right + 14 + _label_width([*legend, mark_name])

    def place(epoch: int, value: float) -> tuple[float, float]:
        return left + (right - left) * epoch / last, bottom - (bottom - top) * (value - low) / (high - low)

    # Title, grid and axes first: what is drawn later lies above.
    parts = [_text(left, 18, title, weight="bold"), _text((left + right) / 2, height - 8, x_label, anchor="middle")]
    for tick in ticks:
        y = place(0, tick)[1]
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(left - 6, y + 4, f"{tick:.3g}", anchor="end"))
    parts.append(f'<line x1="{left}" x2="{left}" y1="{top}" y2="{bottom}" stroke="{_GREY}"/>')
    parts.append(f'<line x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{_GREY}"/>')
    for epoch in epoch_ticks(last):
        x = place(epoch, low)[0]
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="{_GREY}"/>')
        parts.append(_text(x, bottom + 16, str(epoch + 1), anchor="middle"))  # people count epochs from 1

    for _, line, colour in lines:
        for run in _unbroken(line):
            points = " ".join("{:.1f},{:.1f}".format(*place(epoch, value)) for epoch, value in run)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.8"/>'
            )

    parts += _legend(list(legend.items()), right + 14, top + 8)
    rings = [place(epoch, value) for epoch, value in marks]
    if rings:  # one more stands in the legend, with what it means
        y = top + 8 + 18 * len(legend)
        parts.append(_text(right + 32, y + 1, mark_name))
        rings.append((right + 20, y - 3))
    for x, y in rings:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="none" stroke="#222222" stroke-width="1.4"/>')
    return _svg(width, height, title, parts)


def heat_map(title: str, labels: Sequence[str], matrix: NDArray[np.float64]) -> str:
    """Draw a confusion matrix: colour is the share of the row, the number is the count."""
    cell, left, top = 46, _label_width(labels), 30 + 0.7 * _label_width(labels)
    side = cell * len(labels)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)

    parts = [_text(8, 18, title, weight="bold")]
    for column, label in enumerate(labels):
        x = left + cell * (column + 0.6)
        rotated = f'<g transform="translate({x:.0f},{top - 6}) rotate(-45)">{_text(0, 0, label)}</g>'
        parts.append(rotated)

    for row, label in enumerate(labels):
        y = top + cell * row
        parts.append(_text(left - 6, y + cell * 0.6, label, anchor="end"))
        for column in range(len(labels)):
            share, value = float(shares[row, column]), float(matrix[row, column])
            # white fades into blue on the diagonal, where answers are right, and into red beside it
            end = (31, 111, 178) if row == column else (184, 67, 63)
            channels = [round(255 + (channel - 255) * min(1.0, share)) for channel in end]
            fill = "#{:02x}{:02x}{:02x}".format(*channels)
            x = left + cell * column
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="{fill}" stroke="#eeeeee">'
                f"<title>{escape(label)} answered as {escape(labels[column])}: {value:g}</title></rect>"
            )
            if value:
                ink = "#ffffff" if share > _DARK_FROM else "#222222"
                parts.append(_text(x + cell / 2, y + cell * 0.6, f"{value:.3g}", anchor="middle", fill=ink))
    width = max(left + side + 0.7 * _label_width(labels), _label_width([title]))  # of few labels the title is wider
    return _svg(width, top + side + 12, title, parts)


def stacked_bars(title: str, balance: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> str:
    """Draw how many rows of each label every part holds; one bar a label, one colour a part."""
    totals = [sum(count.get(label, 0) for count in balance.values()) for label in labels]
    if not any(totals):
        return ""

    left, bar, gap, scale = _label_width(labels), 16, 8, 360.0 / max(totals)
    colours = list(COLOURS) * 3  # more parts than colours begin again
    parts = [_text(8, 18, title, weight="bold")]
    for row, label in enumerate(labels):
        y, x = 34 + row * (bar + gap), float(left)
        parts.append(_text(left - 6, y + 12, label, anchor="end"))
        for colour, (part, count) in zip(colours, balance.items(), strict=False):
            length = count.get(label, 0) * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{bar}" fill="{colour}">'
                f"<title>{escape(label)}, {escape(part)}: {count.get(label, 0)}</title></rect>"
            )
            x += length
        parts.append(_text(x + 6, y + 12, str(totals[row])))

    parts += _legend(list(zip(balance, colours, strict=False)), left + 420, 44)
    height = max(34 + len(labels) * (bar + gap) + 8, 60 + 18 * len(balance))
    return _svg(left + 600, height, title, parts)


def interval_chart(title: str, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Draw shares with their intervals on an axis from 0 to 1; rows are (name, value, low, high)."""
    left, step, length = _label_width([name for name, _, _, _ in rows]), 26, 380
    bottom = 34 + step * len(rows)

    parts = [_text(8, 18, title, weight="bold")]
    for tick in np.linspace(0.0, 1.0, 6):
        x = left + length * float(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="30" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(_text(x, bottom + 16, f"{tick:.1f}", anchor="middle"))

    for row, (name, value, low, high) in enumerate(rows):
        y = 44 + step * row
        x, x1, x2 = (left + length * share for share in (value, low, high))
        parts.append(_text(left - 8, y + 4, name, anchor="end"))
        parts.append(f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y}" y2="{y}" stroke="{COLOURS[0]}" stroke-width="3"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{COLOURS[0]}"/>')
        parts.append(_text(left + length + 12, y + 4, f"{value:.3f} [{low:.3f}, {high:.3f}]"))
    return _svg(left + length + 170, bottom + 26, title, parts)


def epoch_ticks(last: int) -> list[int]:
    """Epochs, from 0, to name on an axis that ends with `last`: the first, round numbers as people count, the last."""
    step = max(1, round(_ticks(0.0, last + 1.0)[1]))
    rounds = [number - 1 for number in range(step, last + 1, step) if last + 1 - number >= step / 2]
    return sorted({0, *rounds, last})


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" {_FONT}>\n{inside}\n</svg>'
    )


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", fill: str = "#222222"
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _label_width(labels: Sequence[str]) -> float:
    """Room for the longest label, in pixels."""
    return 24 + _CHARACTER * max(len(label) for label in labels)


def _legend(entries: Sequence[tuple[str, str]], x: float, y: float) -> list[str]:
    parts = []
    for row, (name, colour) in enumerate(entries):
        parts.append(f'<rect x="{x}" y="{y + 18 * row - 9}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, y + 18 * row + 1, name))
    return parts


def _unbroken(line: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Split a line where values are missing; missing epochs between two values are bridged only if alone."""
    runs: list[list[tuple[int, float]]] = [[]]
    for epoch, value in enumerate(line):
        if value is None or not math.isfinite(value):
            if runs[-1]:
                runs.append([])
        else:
            runs[-1].append((epoch, value))
    return [run for run in runs if run]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below the values (from 0, if none is negative) to above them."""
    low = min(low, 0.0)
    # the first of 1, 2, 5, 10 times a power of ten that makes some five steps
    rough = max(high - low, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
