"""MagnaTagATune: 25,863 clips of 29 s with 188 tags from a game (Law et al. 2009); row code D1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from musicgenre.data._tagged import Clip, Wanted, choose_tags, index_clips, shortened
from musicgenre.data.index import Index, with_artists
from musicgenre.data.sets._annotations import (
    INFO_COLUMNS,
    PATH,
    Annotation,
    Annotations,
    is_annotations,
    read_annotations,
    read_clip_info,
)
from musicgenre.data.sets._mtat_tags import ALL_TAGS, TOP_50, names_after_merging
from musicgenre.data.sets.registry import Archive, DataSet, register
from musicgenre.errors import DataError, UsageError

ANNOTATIONS, CLIP_INFO = "annotations_final.csv", "clip_info_final.csv"
TOP50_COLUMN = "top50_tags"
GROUPS = ("artist", "album")
_EMPTY = "an empty file (0 bytes) in the published archive"
FAULTS = dict.fromkeys(
    (
        "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
        "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
        "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-"
        "le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
    ),
    _EMPTY,
)
_NAME_PARTS = 6  # artist-album-number-title-start-end: the makers' script keeps "-" out of every part
_ORIGIN = "https://mirg.city.ac.uk/datasets/magnatagatune/"


def index_magnatagatune(
    source: Path | str,
    *,
    clips: Path | None = None,
    tags: str = "top50",
    merge_synonyms: bool = False,
    drop_untagged: bool = False,
    group: str = "artist",
    artists: Mapping[str, str] | None = None,
    files: bool = True,
    checksums: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """List the clips of the original table of tags.

    Parameters
    ----------
    source : Path or str
        ``annotations_final.csv``, or a folder with it. ``clip_info_final.csv`` beside it adds title, artist, album and
        origin.
    clips : Path, optional
        The folder with ``0/`` to ``f/``; by default the table's own, or one inside it.
    tags : str, optional
        ``top50``: the 50 tags that papers use, or, with ``merge_synonyms``, the 50 most frequent merged ones;
        ``all``: every column; or names with commas between them.
    merge_synonyms : bool, optional
        Whether words for the same thing become one tag, see docs/magnatagatune.md.
    drop_untagged : bool, optional
        Whether clips with none of the chosen tags are left out.
    group : str, optional
        What an artist-apart split keeps on one side: ``artist`` or ``album``.
    artists : Mapping of str to str, optional
        Other groups, by clip id.
    files : bool, optional
        False lists every row, whether or not its file is at hand.
    checksums : bool, optional
        Whether to add the column md5.
    progress : callable, optional
        Told (files read, all files).

    Returns
    -------
    Index
        Tracks named after their clip id, with the columns parent (the song: clips of one stay on one side of every
        split), top50_tags (how many of the usual 50 tags the clip has) and duration_s.
    """
    if group not in GROUPS:
        raise UsageError(f"--group-by {group!r} is no group", valid=", ".join(GROUPS))
    source = Path(source)
    table = read_annotations(source if source.is_file() else _find(source, ANNOTATIONS))
    beside = table.path.with_name(CLIP_INFO)
    info = read_clip_info(beside) if beside.is_file() else {}
    names = names_after_merging(table.tags) if merge_synonyms else {tag: tag for tag in table.tags}
    chosen = _chosen(table, tags, names, merged=merge_synonyms)
    songs = _songs(table.rows, info)
    rows = [
        Clip(
            line=row.line,
            track_id=row.clip_id,
            paths=(row.path,) if row.path else (),
            tags=tuple(dict.fromkeys(names[tag] for tag in row.tags)),
            group=_group(row.path, group),
            columns=_columns(row, songs, info),
        )
        for row in table.rows
    ]
    wanted = Wanted(chosen, drop_untagged, files, checksums, FAULTS)
    found = index_clips(rows, table.path, clips if source.is_file() else clips or source, wanted, progress)
    manifest = found.manifest if artists is None else with_artists(found.manifest, artists)
    return Index(manifest, found.skipped, found.expected, (*found.notes, *_info_notes(table, info)))


def _chosen(table: Annotations, tags: str, names: Mapping[str, str], *, merged: bool) -> tuple[str, ...]:
    known = tuple(dict.fromkeys(names[tag] for tag in table.tags))
    top = TOP_50
    if merged:
        counts = Counter(name for row in table.rows for name in {names[tag] for tag in row.tags})
        top = tuple(sorted(known, key=lambda name: (-counts[name], name))[: len(TOP_50)])
    return choose_tags(tags, known, {"top50": top})


def _columns(row: Annotation, songs: Mapping[str, str], info: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    usual = sum(tag in _TOP_50 for tag in row.tags)
    about = info.get(row.clip_id, {})
    kept = {name: about.get(name, "") for name in INFO_COLUMNS} if info else {}
    return {"parent": songs.get(row.path, ""), TOP50_COLUMN: str(usual), **kept}


def _songs(rows: Sequence[Annotation], info: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Name the song of every file: one original file, or one title by one artist on several albums."""
    joined: dict[tuple[str, str], tuple[str, str]] = {}  # from a mark of a song to the mark that leads it

    def lead(mark: tuple[str, str]) -> tuple[str, str]:
        while (upper := joined.setdefault(mark, mark)) != mark:
            mark = upper
        return mark

    files: dict[str, tuple[str, str]] = {}
    for row in rows:
        if (parts := _parts(row.path)) is None:
            continue
        artist, album, number, title, *_ = parts
        files[row.path] = ("", f"{artist}-{album}-{number}-{title}")
        url = info.get(row.clip_id, {}).get("original_url", "")
        marks = [files[row.path], *([(artist, title)] if title else []), *([("url", url)] if url else [])]
        first, *others = sorted({lead(mark) for mark in marks})  # ("", name) comes first, so that a file's name leads
        joined.update(dict.fromkeys(others, first))
    return {path: lead(mark)[1] for path, mark in files.items()}


def _group(path: str, group: str) -> str:
    parts = _parts(path)
    if parts is None:
        return ""
    return parts[0] if group == "artist" else f"{parts[0]}-{parts[1]}"


def _parts(path: str) -> list[str] | None:
    """Artist, album, number, title, start and end that a file is named after; None for other names."""
    parts = PurePosixPath(path).stem.split("-")
    return parts if len(parts) == _NAME_PARTS and parts[0] else None


def _info_notes(table: Annotations, info: Mapping[str, Mapping[str, str]]) -> list[str]:
    if not info:
        return [f"there is no {CLIP_INFO} beside {table.path}: titles and artists are taken from the file names"]
    unknown = [row.clip_id for row in table.rows if row.clip_id not in info]
    other = [row.clip_id for row in table.rows if info.get(row.clip_id, {}).get(PATH, row.path) not in (row.path, "")]
    notes = [f"{len(unknown)} clips are not in {CLIP_INFO}: {shortened(unknown)}"] if unknown else []
    return notes + ([f"{len(other)} clips have another file in {CLIP_INFO}: {shortened(other)}"] if other else [])


def _find(folder: Path, name: str) -> Path:
    """Find a table in a folder or one step below."""
    found = [path for path in (folder / name, *sorted(folder.glob(f"*/{name}"))) if path.is_file()]
    if not found:
        raise DataError(
            f"{folder} holds no {name}",
            valid=f"A folder with {ANNOTATIONS} and the clips in 0/ to f/ (or in mp3/0/ to mp3/f/)",
            next_step=f"The table is published at {_ORIGIN}",
        )
    return found[0]


_TOP_50 = frozenset(TOP_50)
MAGNATAGATUNE = register(
    DataSet(
        name="magnatagatune",
        title="MagnaTagATune",
        licence="Creative Commons Attribution-NonCommercial-ShareAlike 3.0; the original tracks are Magnatune's",
        citation=(
            "E. Law, K. West, M. Mandel, M. Bay and J. S. Downie, Evaluation of algorithms using games: the case of "
            "music tagging, ISMIR 2009"
        ),
        origin="Music Informatics Research Group, City, University of London",
        size_bytes=3_000_000_000,
        n_tracks=25_863,
        labels=ALL_TAGS,
        label_kind="tags",
        archives=tuple(Archive(name, (f"{_ORIGIN}{name}",)) for name in ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003")),
        joined="mp3.zip",
        files=tuple(Archive(name, (f"{_ORIGIN}{name}",)) for name in (ANNOTATIONS, CLIP_INFO)),
        index=index_magnatagatune,
        reads=is_annotations,
        options=("tags", "merge_synonyms", "drop_untagged", "group"),
        faults=FAULTS,
        notes=(
            "No checksum is published. See docs/magnatagatune.md before comparing numbers: three splits and two sets "
            "of tags are in use, and a tag that is not given may still be true of the clip."
        ),
    )
)
