"""fma-small: 8,000 clips of 30 s in eight balanced genres from the Free Music Archive (Defferrard et al. 2017)."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from musicgenre.data.index import Index, LeftOut, Progress, with_artists
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.sets._tagged import has_columns
from musicgenre.data.sets.registry import Archive, DataSet, register
from musicgenre.errors import DataError

LABELS = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")

_CLIPS, _METADATA = "fma_small", "tracks.csv"
_FOLDER_NAME = re.compile(r"\d{3}")  # a clip of this set lies in the folder of its number's thousands
_CLIP_NAME = re.compile(r"\d{6}\.mp3")
_LOOKED_AT = 3  # folders of clips, to tell whose they are
_RAW_COLUMNS = ("track_id", "track_genres", "license_title")  # of raw_tracks.csv, which lists several genres a track
_ADVICE = (
    "Put fma_metadata/tracks.csv of fma_metadata.zip beside the folder of the clips: "
    "musicgenre data index FOLDER takes genres, artists and the published split from it"
)
_PARTS = {"training": "train", "validation": "validation", "test": "test"}
_SHORT = "shorter than 30 s or undecodable, says the set's own wiki"

# The table has two rows of column names, then a row with the name of its index.
_COLUMNS = (("set", "subset"), ("set", "split"), ("track", "genre_top"), ("artist", "id"))
_NAME_ROWS = 2


def is_fma(path: Path) -> bool:
    """Tell whether a folder is laid out as FMA's clips are, or holds such a one, or a file is one of its tables."""
    if path.is_dir():
        return _clips_in(path) is not None
    return _is_tracks_table(path) or has_columns(path, _RAW_COLUMNS)


def index_fma(source: Path, *, artists: Mapping[str, str] | None = None, progress: Progress | None = None) -> Index:
    """List the tracks of FMA small with the published split and the artist of each as its group.

    Parameters
    ----------
    source : Path
        A folder with `fma_small/` and `fma_metadata/tracks.csv`, or one of these two with the other beside it. Clips
        of the larger subsets, if they are there, are taken too where the table names one genre.
    artists : Mapping of str to str, optional
        Other artist groups than the set's own.
    progress : callable, optional
        Not told anything: no file is read but the table.

    Returns
    -------
    Index
        Tracks of the small subset whose clip is absent are skipped and listed, and so are clips without a genre.
    """
    source = Path(os.path.abspath(source))  # noqa: PTH100 - links in the path stay as they are
    if source.is_file() and not _is_tracks_table(source):
        raise DataError(f"{source} is raw metadata of FMA, with several genres a track", next_step=_ADVICE)

    # Clips and metadata lie beside each other; a person may name either, or the folder that holds both.
    if source.is_file():
        table: Path | None = source
        clips = _clips_in(source.parent) or _clips_in(source.parent.parent)
    else:
        clips = _clips_in(source)
        table = _find_table(source)
        if table is None and clips == source:
            table = _find_table(source.parent)
    if table is None or clips is None:
        raise DataError(
            f"{source} holds no {_METADATA if table is None else _CLIPS}",
            valid="A folder with fma_small/ and fma_metadata/tracks.csv, from fma_small.zip and fma_metadata.zip",
            next_step=_ADVICE if table is None else "",
        )

    sound = {path.stem: path for path in sorted(clips.rglob("*.mp3"))}
    tracks: list[Track] = []
    skipped: list[LeftOut] = []
    for track_id, cells in _rows_of(table):
        label, artist = cells["track", "genre_top"], cells["artist", "id"]
        if track_id in sound and label:
            group = f"artist-{artist}" if artist else ""
            part = _PARTS.get(cells["set", "split"], "")
            tracks.append(Track(track_id, sound.pop(track_id), label, split=part, group=group))
        elif track_id in sound:
            skipped.append((sound.pop(track_id), f"{_METADATA} names no one genre of it"))
        elif cells["set", "subset"] == "small":
            skipped.append((Path(f"{track_id}.mp3"), "the clip is not there"))
    if not tracks:
        raise DataError(f"{source} holds no clip that {table} names", valid="fma_small.zip and fma_metadata.zip")
    skipped += [(path, f"no row of {_METADATA} names it") for path in sound.values()]

    tracks.sort(key=lambda track: (track.label, track.track_id))
    manifest = Manifest(None, tuple(tracks))
    return Index(manifest if artists is None else with_artists(manifest, artists), tuple(skipped))


def read_checksums(folder: Path) -> dict[str, str]:
    """Read the SHA-1 of every clip from the list inside the archive (`fma_small/checksums`).

    Parameters
    ----------
    folder : Path
        With `fma_small/`.

    Returns
    -------
    dict of str to str
        Track id to `sha1:...`; empty when the list is not there.
    """
    path = next(folder.rglob("checksums"), None)
    if path is None:
        return {}

    found = {}
    for line in path.read_text("utf-8").splitlines():
        digest, _, name = line.partition(" ")
        if name.strip():
            found[Path(name.strip()).stem] = f"sha1:{digest}"
    return found


def _clips_in(folder: Path) -> Path | None:
    """The folder of clips in `000/` to `155/`: this one, or one up to two steps below (an archive's own folder)."""
    below = [*folder.glob("fma_*"), *folder.glob("*/fma_*")]
    below.sort(key=lambda path: (path.name != _CLIPS, len(path.parts), path.name))
    for path in (folder, *below):
        try:
            inner = [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        except OSError:  # it cannot be listed, or is a file
            continue
        if not all(_FOLDER_NAME.fullmatch(entry.name) for entry in inner):
            continue

        # Folders of numbers may be anybody's; files named so, in the folder of their thousands, are FMA's.
        clips = [clip for entry in inner[:_LOOKED_AT] for clip in entry.glob("*.mp3")]
        if clips and all(_CLIP_NAME.fullmatch(clip.name) and clip.name[:3] == clip.parent.name for clip in clips):
            return path
    return None


def _find_table(folder: Path) -> Path | None:
    """The table of the tracks in a folder, or up to two steps below."""
    for pattern in (_METADATA, f"*/{_METADATA}", f"*/*/{_METADATA}"):
        for path in sorted(folder.glob(pattern)):
            return path
    return None


def _is_tracks_table(path: Path) -> bool:
    """Whether a file begins as FMA's table of tracks does: the names of groups of columns, then their own."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as stream:
            return set(_COLUMNS) <= set(zip(*islice(csv.reader(stream), _NAME_ROWS), strict=False))
    except (OSError, csv.Error):
        return False


def _rows_of(table: Path) -> Iterator[tuple[str, dict[tuple[str, str], str]]]:
    """Yield id and cells of every row."""
    with table.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = list(zip(*islice(reader, _NAME_ROWS), strict=False))
        if missing := [".".join(name) for name in _COLUMNS if name not in header]:
            raise DataError(f"{table} has no column {', '.join(missing)}", valid="tracks.csv of fma_metadata.zip")
        places = {name: header.index(name) for name in _COLUMNS}
        next(reader, None)  # the name of the table's index

        for row in reader:
            if len(row) == len(header) and row[0].isdecimal():
                yield f"{int(row[0]):06d}", {name: row[place] for name, place in places.items()}


FMA_SMALL = register(
    DataSet(
        name="fma-small",
        title="FMA: a dataset for music analysis, small subset",
        licence="each track under the Creative Commons licence its artist chose; metadata CC BY 4.0; code MIT",
        citation=(
            "M. Defferrard, K. Benzi, P. Vandergheynst and X. Bresson, FMA: A Dataset For Music Analysis, ISMIR 2017"
        ),
        origin="github.com/mdeff/fma",
        size_bytes=8_050_000_000,
        n_tracks=8000,
        labels=LABELS,
        archives=(
            Archive(
                filename="fma_small.zip",
                urls=("https://os.unil.cloud.switch.ch/fma/fma_small.zip",),
                checksum="sha1:ade154f733639d52e35e32f5593efe5be76c6d70",
                checksum_origin="its authors",
            ),
            Archive(
                filename="fma_metadata.zip",
                urls=("https://os.unil.cloud.switch.ch/fma/fma_metadata.zip",),
                checksum="sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
                checksum_origin="its authors",
            ),
        ),
        index=index_fma,
        reads=is_fma,
        local_checksums=read_checksums,
        faults=dict.fromkeys(("098565", "098567", "098569", "099134", "108925", "133297"), _SHORT),
        notes="The published split keeps artists apart and is written into the manifest.",
    )
)
