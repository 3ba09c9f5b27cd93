"""fma-small: 8,000 clips of 30 s in eight balanced genres from the Free Music Archive (Defferrard et al. 2017)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from musicgenre.data.index import Index, LeftOut, Progress, with_artists
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.sets.registry import Archive, DataSet, register
from musicgenre.errors import DataError

LABELS = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")

_CLIPS, _METADATA = "fma_small", "tracks.csv"
_PARTS = {"training": "train", "validation": "validation", "test": "test"}
_SHORT = "shorter than 30 s or undecodable, says the set's own wiki"

# The table has two rows of column names, then a row with the name of its index.
_COLUMNS = (("set", "subset"), ("set", "split"), ("track", "genre_top"), ("artist", "id"))
_NAME_ROWS = 2


def index_fma(folder: Path, *, artists: Mapping[str, str] | None = None, progress: Progress | None = None) -> Index:
    """List the tracks of FMA small with the published split and the artist of each as its group.

    Parameters
    ----------
    folder : Path
        With `fma_small/` and `fma_metadata/tracks.csv`.
    artists : Mapping of str to str, optional
        Other artist groups than the set's own.
    progress : callable, optional
        Not told anything: no file is read but the table.

    Returns
    -------
    Index
        Tracks of the metadata whose clip is absent are skipped and listed.
    """
    table = _find(folder, _METADATA)
    sound = {path.stem: path for path in _find(folder, _CLIPS).rglob("*.mp3")}
    tracks: list[Track] = []
    skipped: list[LeftOut] = []
    for track_id, cells in _rows_of_small(table):
        if track_id not in sound:
            skipped.append((Path(f"{track_id}.mp3"), "the clip is not there"))
            continue

        label, artist = cells["track", "genre_top"], cells["artist", "id"]
        group = f"artist-{artist}" if artist else ""
        part = _PARTS.get(cells["set", "split"], "")
        tracks.append(Track(track_id, sound[track_id], label, split=part, group=group))
    if not tracks:
        raise DataError(f"{folder} holds no clip that {table} names", valid="fma_small.zip and fma_metadata.zip")

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
    path = next(_find(folder, _CLIPS).rglob("checksums"), None)
    if path is None:
        return {}

    found = {}
    for line in path.read_text("utf-8").splitlines():
        digest, _, name = line.partition(" ")
        if name.strip():
            found[Path(name.strip()).stem] = f"sha1:{digest}"
    return found


def _find(folder: Path, name: str) -> Path:
    """Find a file or folder of the set, the one that lies least deep."""
    candidates = [folder / name, *sorted(folder.rglob(name), key=lambda path: len(path.parts))]
    for path in candidates:
        if path.exists():
            return path

    raise DataError(
        f"{folder} holds no {name}",
        valid="A folder with fma_small/ and fma_metadata/tracks.csv, from fma_small.zip and fma_metadata.zip",
    )


def _rows_of_small(table: Path) -> Iterator[tuple[str, dict[tuple[str, str], str]]]:
    """Yield id and cells of the rows of the small subset."""
    with table.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = list(zip(*islice(reader, _NAME_ROWS), strict=False))
        if missing := [".".join(name) for name in _COLUMNS if name not in header]:
            raise DataError(f"{table} has no column {', '.join(missing)}", valid="tracks.csv of fma_metadata.zip")
        places = {name: header.index(name) for name in _COLUMNS}
        next(reader, None)  # the name of the table's index

        for row in reader:
            if len(row) == len(header) and row[places["set", "subset"]] == "small":
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
        local_checksums=read_checksums,
        faults=dict.fromkeys(("098565", "098567", "098569", "099134", "108925", "133297"), _SHORT),
        notes="The published split keeps artists apart and is written into the manifest.",
    )
)
