"""MTG-Jamendo: 55,000 full tracks with tags of genre, instrument and mood, and its five splits (Bogdanov 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from musicgenre.data import _csv
from musicgenre.data._csv import CellProblem
from musicgenre.data.index import Index, Progress, with_artists
from musicgenre.data.manifest import PARTS
from musicgenre.data.sets._tagged import Clip, Wanted, choose_tags, has_columns, index_clips
from musicgenre.data.sets.registry import DataSet, register
from musicgenre.errors import DataError

CATEGORIES = ("genre", "instrument", "mood/theme")
SPLITS = 5
PARTS_COLUMN = "published_parts"
NO_PART = "-"

_HEADER = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
_VALID = f"A table of MTG-Jamendo: {', '.join(_HEADER)}, separated by tabs, each further tag in a cell of its own"
_SUBSETS = {
    "all": "autotagging",
    "genre": "autotagging_genre",
    "instrument": "autotagging_instrument",
    "mood/theme": "autotagging_moodtheme",
    "top50": "autotagging_top50tags",
}


@dataclass(frozen=True)
class Row:
    """One row of a table; paths as published, `NN/ID.mp3`; the length in seconds as written."""

    line: int
    track_id: str
    artist_id: str
    album_id: str
    path: str
    duration_s: str
    tags: tuple[str, ...]


def is_jamendo(path: Path) -> bool:
    """Tell by its first line whether a file is a table of MTG-Jamendo."""
    return has_columns(path, _HEADER)


def read_table(path: Path) -> tuple[Row, ...]:
    """Read a table; one error names every bad cell by line and column.

    Parameters
    ----------
    path : Path
        Such as `autotagging.tsv` or a list of `splits/`.

    Returns
    -------
    tuple of Row
        In the file's order.
    """
    lines = _csv.read_cells(path, _HEADER, _VALID)
    header_line, header = next(lines)
    if tuple(header) != _HEADER:
        _csv.raise_problems(path, [CellProblem(header_line, "(all)", "\t".join(header), " ".join(_HEADER))])

    rows: list[Row] = []
    problems: list[CellProblem] = []
    line_of: dict[str, int] = {}
    for line, cells in lines:
        track_id, artist_id, album_id, name, duration_s = (cells + [""] * 5)[:5]
        tags = tuple(tag for tag in cells[5:] if tag)
        row = Row(line, track_id, artist_id, album_id, name, duration_s, tags)
        problems += _bad_cells(row, len(cells))
        if row.track_id in line_of:
            problems.append(CellProblem(line, "TRACK_ID", row.track_id, f"once; line {line_of[row.track_id]} has it"))
        line_of.setdefault(row.track_id, line)
        rows.append(row)

    _csv.raise_problems(path, problems)
    return tuple(rows)


def index_jamendo(
    source: Path | str,
    *,
    clips: Path | None = None,
    tags: str = "all",
    drop_untagged: bool = False,
    artists: Mapping[str, str] | None = None,
    files: bool = True,
    checksums: bool = True,
    progress: Progress | None = None,
) -> Index:
    """List the tracks of one table, or of a copy of the data set with its splits.

    Parameters
    ----------
    source : Path or str
        A table, or a folder with `data/` of the published repository (or `splits/` alone).
    clips : Path, optional
        The folder with `00/` to `99/`; by default the source's own, or one inside it.
    tags : str, optional
        `all`, a category (`genre`, `instrument`, `mood/theme`), or names with commas between them; from a
        folder also `top50`, and categories are the published subsets.
    drop_untagged : bool, optional
        Whether tracks with none of the chosen tags are left out.
    artists : Mapping of str to str, optional
        Other groups than the set's own artists, by track id.
    files : bool, optional
        False lists every row, whether or not its file is at hand.
    checksums : bool, optional
        Whether to add the column md5.
    progress : callable, optional
        Told (files read, all files).

    Returns
    -------
    Index
        Tracks with their artist as the group, the columns album and listed_duration_s, and from a folder
        published_parts: their part in splits 0 to 4, which the protocol mtg-jamendo takes.
    """
    source = Path(source)
    parts: dict[str, list[str]] = {}
    if source.is_dir():
        rows, parts, origin = _from_folder(source, tags)
        spec = "all" if tags in _SUBSETS else tags
        clips = clips or source
    else:
        rows, origin, spec = read_table(source), source, tags

    known = tuple(sorted({tag for row in rows for tag in row.tags}))
    categories: dict[str, list[str]] = {}
    for tag in known:
        categories.setdefault(tag.partition("---")[0], []).append(tag)
    chosen = choose_tags(spec, known, {name: categories[name] for name in CATEGORIES if name in categories})

    listed_clips = []
    for row in rows:
        columns = {"album": row.album_id, "listed_duration_s": row.duration_s}
        if parts:
            columns[PARTS_COLUMN] = " ".join(parts[row.track_id])
        # The same tracks are also published at a low bit rate, under another name.
        paths = (row.path, f"{row.path.removesuffix('.mp3')}.low.mp3")
        own_tags = tuple(dict.fromkeys(row.tags))
        listed_clips.append(Clip(row.line, row.track_id, paths, own_tags, row.artist_id, columns))

    wanted = Wanted(chosen, drop_untagged, files, checksums)
    found = index_clips(listed_clips, origin, clips, wanted, progress)
    if artists is None:
        return found
    return Index(with_artists(found.manifest, artists), found.skipped, found.expected, found.notes)


def _from_folder(folder: Path, tags: str) -> tuple[tuple[Row, ...], dict[str, list[str]], Path]:
    """Read the tracks of a subset from its split lists, with the part of each in every split that is there."""
    subset = _SUBSETS.get(tags, "autotagging")
    candidates = (folder / "data" / "splits", folder / "splits", *sorted(folder.glob("*/data/splits")))
    root = next((path for path in candidates if path.is_dir()), None)
    if root is None:
        raise DataError(
            f"{folder} holds no data/splits",
            valid="A copy of github.com/MTG/mtg-jamendo-dataset with the audio in a folder inside, or one table",
        )

    first = [root / "split-0" / f"{subset}-{part}.tsv" for part in PARTS]
    if absent := [str(path) for path in first if not path.is_file()]:
        raise DataError(f"{' and '.join(absent)} cannot be found", valid="The three lists of split-0 at least")

    rows: dict[str, Row] = {}
    parts: dict[str, list[str]] = {}
    for number in range(SPLITS):
        for part in PARTS:
            path = root / f"split-{number}" / f"{subset}-{part}.tsv"
            if not path.is_file():
                continue
            for row in read_table(path):
                known = rows.setdefault(row.track_id, row)
                if (row.path, row.artist_id, set(row.tags)) != (known.path, known.artist_id, set(known.tags)):
                    raise DataError(
                        f"{path}, line {row.line}: {row.track_id} has another file, artist or tags than in another "
                        "list",
                        next_step="Take all lists from one version of the data set",
                    )

                of_track = parts.setdefault(row.track_id, [NO_PART] * SPLITS)
                if of_track[number] != NO_PART:
                    raise DataError(f"{path}: {row.track_id} is in {of_track[number]} of the same split as well")
                of_track[number] = part

    return tuple(rows[track_id] for track_id in sorted(rows)), parts, root


def _bad_cells(row: Row, n_cells: int) -> list[CellProblem]:
    """Find what is wrong with a row; tags are last, so that a row may have any number of cells from six on."""
    if n_cells < len(_HEADER) - 1:
        return [CellProblem(row.line, "(all)", f"{n_cells} cells", f"{len(_HEADER)} cells or more")]

    problems = []
    for name, cell in (("TRACK_ID", row.track_id), ("ARTIST_ID", row.artist_id), ("PATH", row.path)):
        if not cell.strip():
            problems.append(CellProblem(row.line, name, cell, "not empty"))
    for name, cell in (("TRACK_ID", row.track_id), ("ARTIST_ID", row.artist_id), ("ALBUM_ID", row.album_id)):
        if not cell.isprintable():
            problems.append(CellProblem(row.line, name, cell, "an id"))
    if not row.path.isprintable():
        problems.append(CellProblem(row.line, "PATH", row.path, "the name of a file"))

    try:
        is_duration = 0 < float(row.duration_s) < math.inf
    except ValueError:
        is_duration = False
    if not is_duration:
        problems.append(CellProblem(row.line, "DURATION", row.duration_s, "seconds, more than 0"))

    for tag in row.tags:
        category, _, name = tag.partition("---")
        if category not in CATEGORIES or not name.strip() or ";" in tag or not tag.isprintable() or tag != tag.strip():
            problems.append(CellProblem(row.line, "TAGS", tag, f"{', '.join(CATEGORIES)}, three hyphens and a name"))
    return problems


MTG_JAMENDO = register(
    DataSet(
        name="mtg-jamendo",
        title="MTG-Jamendo",
        licence=(
            "each track under the Creative Commons licence its artist chose; metadata CC BY-NC-SA 4.0; code Apache 2.0"
        ),
        citation=(
            "D. Bogdanov, M. Won, P. Tovstogan, A. Porter and X. Serra, The MTG-Jamendo Dataset for Automatic Music "
            "Tagging, Machine Learning for Music Discovery Workshop, ICML 2019"
        ),
        origin="github.com/MTG/mtg-jamendo-dataset",
        size_bytes=508_000_000_000,
        n_tracks=55_609,
        labels=CATEGORIES,
        label_kind="categories of tags",
        archives=(),
        index=index_jamendo,
        reads=is_jamendo,
        notes=(
            "Its own script downloads it (100 archives, checksums included); then --from FOLDER with data/ and the "
            "audio. The published splits keep artists apart: protocol mtg-jamendo."
        ),
    )
)
