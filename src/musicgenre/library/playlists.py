"""Playlists and tables of a plan: for players that need no tags."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from musicgenre._files import write_bytes_atomic, writing_result
from musicgenre._outputs import refuse_overwriting
from musicgenre.filetags.base import GENRE
from musicgenre.library.plan import PlanRow

_COLUMNS = ("path", "artist", "album", "title", "now", "proposed", "confidence", "why", "write")
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]')  # of files, on any of the three systems


def write_lists(rows: Sequence[PlanRow], folder: Path, *, is_smart: bool, overwrite: bool) -> Iterator[Path]:
    """Write a playlist per genre.

    Parameters
    ----------
    rows : sequence of PlanRow
        A plan; each track goes into the lists of the genres that it would have.
    folder : Path
        Where to.
    is_smart : bool
        Smart playlists of Navidrome, which name the genre alone, in place of extended M3U with whole paths.
    overwrite : bool
        Replace files that are there.

    Yields
    ------
    Path
        What was written.

    Raises
    ------
    UsageError
        A file is there already, or cannot be written.
    """
    tracks: dict[str, list[PlanRow]] = defaultdict(list)
    for row in rows:
        for genre in row.set.get(GENRE) or row.now or row.proposed:
            tracks[genre].append(row)

    suffix = "nsp" if is_smart else "m3u8"
    named = {
        genre: folder / f"{_NOT_IN_NAMES.sub('_', genre).strip(' .') or '_'}.{suffix}" for genre in sorted(tracks)
    }
    for path in named.values():
        refuse_overwriting(path, overwrite=overwrite)
    with writing_result(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for genre, path in named.items():
        if is_smart:
            rules = {"name": genre, "all": [{"is": {"genre": genre}}], "sort": "random"}
            content = json.dumps(rules, indent=2, ensure_ascii=False).encode()
        else:
            lines = [b"#EXTM3U"]
            for row in tracks[genre]:
                if "\n" not in row.path and "\r" not in row.path:
                    lines.append(os.fsencode(Path(row.path).absolute()))
            content = b"\n".join(lines)
        with writing_result(path):
            write_bytes_atomic(path, content + b"\n", overwrite=overwrite)
        yield path


def write_table(rows: Sequence[PlanRow], path: Path, *, overwrite: bool) -> None:
    """Write a plan as CSV, several genres separated by `; `.

    Raises
    ------
    UsageError
        The file is there already, or cannot be written.
    """
    refuse_overwriting(path, overwrite=overwrite)
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_COLUMNS)
    for row in rows:
        cells: list[object] = []
        for column in _COLUMNS:
            value = getattr(row, column)
            cells.append("; ".join(value) if isinstance(value, tuple) else value)
        table.writerow(cells)
    with writing_result(path):
        write_bytes_atomic(path, stream.getvalue().encode("utf-8", "surrogateescape"), overwrite=overwrite)
