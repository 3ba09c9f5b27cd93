"""Plumbing of the manifest: CSV text to rows that know their line, and back, exactly."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from musicgenre._text import did_you_mean_path, how_many, shortened
from musicgenre.errors import DataError

_SHOWN_PROBLEMS = 20
_SHOWN_CHARACTERS = 80  # of a cell, or of a header
_SPECIAL = frozenset(',;\t"\r\n')  # what a cell has quotes for; all separators, as a reader has to guess
_SEPARATORS = ",;\t"  # the likeliest first
_EXCEL_LINE = re.compile(r"sep=[,;\t|][ \t]*(?:\r\n|\n|\r)")  # the first line, for a spreadsheet alone
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """One row: the line it begins on (from 1, the header's) and its cells by column."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class CellProblem:
    """One bad cell and what would have been valid."""

    line: int
    column: str
    value: str
    valid: str

    def __str__(self) -> str:
        value = self.value
        if len(value) > _SHOWN_CHARACTERS:
            value = f"{value[: _SHOWN_CHARACTERS - 3]}..."
        return f"line {self.line}, column {self.column}: {value!r} (valid: {self.valid})"


def read_rows(path: Path) -> tuple[list[str], list[Row], list[CellProblem]]:
    """Read the header's names, the rows, and what is wrong with rows of another length. Blank lines are skipped.

    A first column without a name that numbers the rows (pandas writes one) is left out.
    """
    lines = _numbered(path, _read_text(path))
    header_line, names = next(lines, (1, []))
    header = [name for name in names if name]
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise DataError(
            f"{path} names the column {', '.join(twice)} twice on line {header_line}", valid="Each column once"
        )

    rows: list[Row] = []
    problems: list[CellProblem] = []
    nameless_first: list[CellProblem] = []
    for line, cells in lines:
        # spreadsheets put empty cells behind a row; fewer cells, or filled ones there, are a mistake
        if len(cells) < len(names) or any(cells[len(names) :]):
            like_header = f"{how_many(len(names), 'cell')}, like the header"
            problems.append(CellProblem(line, "(all)", how_many(len(cells), "cell"), like_header))
            continue

        row = Row(line, {})
        unnamed: list[CellProblem] = []
        for place, (name, cell) in enumerate(zip(names, cells, strict=False)):
            if name:
                row.cells[name] = cell
            elif cell:
                problem = CellProblem(line, "(no name)", cell, "a column whose header names it")
                (unnamed if place else nameless_first).append(problem)
        problems += unnamed[:1]
        rows.append(row)

    numbers = {problem.value for problem in nameless_first if problem.value.isdecimal()}
    if len(numbers) < len(rows):
        problems += nameless_first
    return header, rows, problems


def check_readable(path: Path) -> None:
    """Refuse a file that is no text, or has none in it."""
    _read_text(path)


def read_cells(path: Path, columns: Sequence[str], valid: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the row begins, cells) of every row that is not blank, the header's first.

    The separator is the one that makes `columns` stand in the header: a tab, a comma or a semicolon.
    """
    text = _read_text(path, valid)
    mark = separator_with(text, columns)
    if not mark:
        begins = text.lstrip("\r\n").splitlines()[0][:_SHOWN_CHARACTERS]
        raise DataError(f"{path} has no column {' or '.join(columns)}: it begins {begins!r}", valid=valid)
    return _numbered(path, text, mark)


def separator_with(text: str, columns: Sequence[str]) -> str:
    """Find the separator under which all `columns` stand in the header; empty when there is none."""
    line = next(iter(text.removeprefix("\ufeff").lstrip("\r\n").splitlines()), "")
    for mark in "\t,;":
        header = next(csv.reader([line], delimiter=mark), [])
        if set(columns) <= set(header):
            return mark
    return ""


def is_excel_line(line: str) -> bool:
    """Whether a first line names the separator, for a spreadsheet alone: `sep=;`."""
    return bool(_EXCEL_LINE.fullmatch(line))


def raise_problems(path: Path, problems: Sequence[CellProblem]) -> None:
    """Raise one error that names the problems by line and column, if there are any."""
    if not problems:
        return
    in_order = list(map(str, sorted(problems, key=attrgetter("line"))))
    first = shortened(in_order, _SHOWN_PROBLEMS, separator="; ")
    raise DataError(f"{path} has {how_many(len(problems), 'bad cell')}: {first}")


def format_rows(rows: Iterable[Sequence[str]]) -> str:
    """CSV text with plain newlines. The csv module's writer leaves a lone carriage return unquoted; this does not."""
    lines = []
    for row in rows:
        cells = []
        for cell in row:
            if not _SPECIAL.isdisjoint(cell) or cell != cell.strip():
                cells.append('"' + cell.replace('"', '""') + '"')
            else:
                cells.append(cell)
        lines.append(",".join(cells) + "\n")
    return "".join(lines)


def _read_text(path: Path, valid: str = "A CSV file with a header and a row per track") -> str:
    """Read UTF-8 text that is not empty; its mark, if it has one, is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"there is no file {path}",
            next_step=f"{did_you_mean_path(path)}Make one with: musicgenre data index FOLDER",
        ) from error
    except OSError as error:
        index_it = "Make a manifest of it: musicgenre data index FOLDER" if path.is_dir() else ""
        raise DataError(f"{path} cannot be read: {error.strerror}", next_step=index_it) from error

    if data.startswith(_UTF16_MARKS) or b"\0" in data[:2]:  # without its mark, every other byte of letters is 0
        raise DataError(f"{path} is UTF-16 text", valid="UTF-8", next_step="Save it as 'CSV UTF-8'")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8 text: byte 0x{data[error.start]:02x} on line {line}",
            next_step="Save it as 'CSV UTF-8'",
        ) from error

    # the line stays as a blank one, so that lines keep their numbers
    if excel_line := _EXCEL_LINE.match(text):
        text = f"\n{text[excel_line.end() :]}"
    if not text.strip():
        raise DataError(f"{path} is empty", valid=valid)
    return text


def _numbered(path: Path, text: str, mark: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the row begins, cells) of every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark or _separator_of(text), strict=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path} is not valid CSV at line {line}: {error}") from error

        if any(cells):
            yield line, cells
        line = reader.line_num + 1  # a quoted cell may run over several lines


def _separator_of(text: str) -> str:
    """The separator that stands most often in the header, quotes left out; spreadsheets may write `;` or tabs."""
    counts = dict.fromkeys(_SEPARATORS, 0)
    is_quoted, before = False, _SEPARATORS[0]
    for char in text.lstrip("\r\n"):
        # a quote opens where a cell begins; one that closed a moment ago was the first half of a doubled one
        if char == '"' and (is_quoted or before == '"' or before in counts):
            is_quoted = not is_quoted
        elif not is_quoted and char in "\r\n":
            break
        elif not is_quoted and char in counts:
            counts[char] += 1
        before = char

    return max(counts, key=lambda mark: counts[mark])
