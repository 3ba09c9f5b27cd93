"""fma-small: 8,000 clips of 30 s in eight balanced genres from the Free Music Archive (Defferrard et al. 2017)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from musicgenre.data.index import Index, with_artists
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.sets.registry import Archive, DataSet, register
from musicgenre.errors import DataError

LABELS = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
_PARTS = {"training": "train", "validation": "validation", "test": "test"}
_COLUMNS = (("set", "subset"), ("set", "split"), ("track", "genre_top"), ("artist", "id"))
_HEADER_ROWS = 3  # two rows of column names, then the name of the index


def index_fma(
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    artists: Mapping[str, str] | None = None,
    **_unused: object,
) -> Index:
    """List the tracks of FMA small with the published split and the artist of each as its group.

    Parameters
    ----------
    folder : Path
        With ``fma_small/`` and ``fma_metadata/tracks.csv``.
    labels : sequence of str, optional
        The genres to take.
    artists : Mapping of str to str, optional
        Other artist groups than the set's own.

    Returns
    -------
    Index
        Tracks of the metadata whose clip is absent are skipped and listed.
    """
    table = _find(folder, "tracks.csv")
    sound = {path.stem: path for path in _find(folder, "fma_small").rglob("*.mp3")}
    tracks, skipped = [], []
    for track_id, cells in _small_rows(table):
        if track_id not in sound:
            skipped.append((Path(f"{track_id}.mp3"), "the clip is not there"))
            continue
        tracks.append(
            Track(
                track_id,
                sound[track_id],
                cells["track", "genre_top"],
                split=_PARTS.get(cells["set", "split"], ""),
                group=f"artist-{cells['artist', 'id']}" if cells["artist", "id"] else "",
            )
        )
    if not tracks:
        raise DataError(f"{folder} holds no clip that {table} names", valid="fma_small.zip and fma_metadata.zip")
    manifest = Manifest(None, tuple(sorted(tracks, key=lambda track: (track.label, track.track_id))))
    manifest = manifest if labels is None else manifest.with_labels(labels)
    return Index(manifest if artists is None else with_artists(manifest, artists), tuple(skipped))


def read_checksums(folder: Path) -> dict[str, str]:
    """Read the SHA-1 of every clip from the list inside the archive (``fma_small/checksums``).

    Parameters
    ----------
    folder : Path
        With ``fma_small/``.

    Returns
    -------
    dict of str to str
        Track id to ``sha1:...``; empty when the list is not there.
    """
    path = next(_find(folder, "fma_small").rglob("checksums"), None)
    if path is None:
        return {}
    pairs = (line.split(maxsplit=1) for line in path.read_text("utf-8").splitlines())
    return {Path(pair[1].strip()).stem: f"sha1:{pair[0]}" for pair in pairs if len(pair) == 2}


def _find(folder: Path, name: str) -> Path:
    found = [folder / name] if (folder / name).exists() else sorted(folder.rglob(name), key=lambda p: len(p.parts))
    if not found:
        raise DataError(
            f"{folder} holds no {name}",
            valid="A folder with fma_small/ and fma_metadata/tracks.csv, from fma_small.zip and fma_metadata.zip",
        )
    return found[0]


def _small_rows(table: Path) -> Iterator[tuple[str, dict[tuple[str, str], str]]]:
    """Yield id and cells of the rows of the small subset; the table has two rows of column names."""
    with table.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = list(zip(*(row for _, row in zip(range(_HEADER_ROWS - 1), reader, strict=False)), strict=False))
        if missing := [".".join(name) for name in _COLUMNS if name not in header]:
            raise DataError(f"{table} has no column {', '.join(missing)}", valid="tracks.csv of fma_metadata.zip")
        places = {name: header.index(name) for name in _COLUMNS}
        next(reader, None)
        for row in reader:
            if len(row) == len(header) and row[places["set", "subset"]] == "small":
                yield f"{int(row[0]):06d}", {name: row[place] for name, place in places.items()}


_SHORT = "shorter than 30 s or undecodable, says the set's own wiki"
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
