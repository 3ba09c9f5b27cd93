"""Plumbing of MagnaTagATune: its table of tags (one 0/1 column a tag) and its table of clips, checked cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from musicgenre.data import _csv
from musicgenre.data._csv import CellProblem

ID, PATH = "clip_id", "mp3_path"
INFO_COLUMNS = ("track_number", "title", "artist", "album", "original_url")
_VALID = "A table with the columns clip_id, one 0/1 column a tag, and mp3_path, separated by tabs (or commas)"
_VALID_INFO = f"A table with the columns {ID}, {', '.join(INFO_COLUMNS)} and {PATH}, separated by tabs (or commas)"
_BITS = frozenset("01")


@dataclass(frozen=True)
class Annotation:
    """One row: where it stands, the clip's id and file (may be empty) and the tags it has."""

    line: int
    clip_id: str
    path: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Annotations:
    """A table of tags: the names of its tag columns and its rows, both in the file's order."""

    path: Path
    tags: tuple[str, ...]
    rows: tuple[Annotation, ...]


def is_annotations(path: Path) -> bool:
    """Tell by its first line whether a file is a table of tags."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            return bool(_csv.separator_with(next((line for line in stream if line.strip()), ""), (ID, PATH)))
    except OSError:
        return False


def read_annotations(path: Path) -> Annotations:
    """Read a table of tags; one error names every bad cell by line and column.

    Parameters
    ----------
    path : Path
        ``annotations_final.csv`` or a table of its form: tabs, commas or semicolons, quoted or not, with or without a
        byte order mark, any line ends.

    Returns
    -------
    Annotations
        Rows without a file are kept, their path is empty.
    """
    lines = _csv.read_cells(path, (ID, PATH), _VALID)
    header_line, header = next(lines)
    problems = _bad_names(header_line, header)
    n, id_at, path_at = len(header), header.index(ID), header.index(PATH)
    places = [i for i in range(n) if i not in (id_at, path_at)]
    tags = tuple(header[i] for i in places)
    first, last = (places[0], places[-1] + 1) if places else (0, 0)
    together = places == list(range(first, last))  # as in the original: a slice is faster than a choice
    rows = []
    for line, cells in lines:
        if len(cells) != n:
            problems.append(CellProblem(line, "(all)", f"{len(cells)} cells", f"{n} cells, like the header"))
            continue
        bits = cells[first:last] if together else [cells[i] for i in places]
        if not _BITS.issuperset(bits):
            bad = ((tag, bit) for tag, bit in zip(tags, bits, strict=True) if bit not in _BITS)
            problems += [CellProblem(line, tag, bit, "0 or 1") for tag, bit in bad]
            continue
        rows.append(Annotation(line, cells[id_at], cells[path_at], tuple(compress(tags, map("1".__eq__, bits)))))
    problems += _bad_keys(rows)
    _csv.raise_problems(path, problems)
    return Annotations(path, tags, tuple(rows))


def read_clip_info(path: Path) -> dict[str, dict[str, str]]:
    """Read title, artist, album and origin of clips, by clip id; one error names every bad cell.

    Parameters
    ----------
    path : Path
        ``clip_info_final.csv``; it also lists clips that have neither file nor tags.

    Returns
    -------
    dict of str to dict of str to str
        The columns `INFO_COLUMNS` and ``mp3_path`` of every clip.
    """
    wanted = (*INFO_COLUMNS, PATH)
    lines = _csv.read_cells(path, (ID, *wanted), _VALID_INFO)
    _, header = next(lines)
    n, id_at, places = len(header), header.index(ID), [header.index(name) for name in wanted]
    found: dict[str, dict[str, str]] = {}
    problems = []
    for line, cells in lines:
        if len(cells) != n:
            problems.append(CellProblem(line, "(all)", f"{len(cells)} cells", f"{n} cells, like the header"))
        elif cells[id_at] in found or not cells[id_at]:
            problems.append(CellProblem(line, ID, cells[id_at], "an id that no other row has"))
        else:
            found[cells[id_at]] = {name: cells[place] for name, place in zip(wanted, places, strict=True)}
    _csv.raise_problems(path, problems)
    return found


def _bad_names(line: int, header: Sequence[str]) -> list[CellProblem]:
    """Find names of columns that could not be tags."""
    twice = {name for name in header if header.count(name) > 1}
    problems = [CellProblem(line, name, name, "each column once") for name in sorted(twice)]
    for name in header:
        if not name.isprintable() or ";" in name or name != name.strip() or not name:
            problems.append(CellProblem(line, name, name, "a name without ';' and without space around it"))
    if len(header) < 3:
        problems.append(
            CellProblem(line, "(all)", f"{len(header)} columns", "a column a tag beside clip_id and mp3_path")
        )
    return problems


def _bad_keys(rows: Sequence[Annotation]) -> Iterator[CellProblem]:
    """Find ids and files that stand on two rows, empty ids and names that cannot be files."""
    ids: dict[str, int] = {}
    paths: dict[str, int] = {}
    for row in rows:
        if not row.clip_id.strip():
            yield CellProblem(row.line, ID, row.clip_id, "an id")
        elif row.clip_id in ids:
            yield CellProblem(row.line, ID, row.clip_id, f"each id once; line {ids[row.clip_id]} has it too")
        if row.path and not row.path.isprintable():
            yield CellProblem(row.line, PATH, row.path, "the name of a file")
        elif row.path and row.path in paths:
            yield CellProblem(row.line, PATH, row.path, f"each file once; line {paths[row.path]} has it too")
        ids.setdefault(row.clip_id, row.line)
        paths.setdefault(row.path, row.line)
