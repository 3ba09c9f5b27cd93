"""gtzan-mini: 100 of GTZAN's tracks, ten a genre, small enough to try everything on."""

from __future__ import annotations

from musicgenre.data.index import index_folder
from musicgenre.data.sets.gtzan import CHECKSUMS, CITATION, LABELS, LICENCE
from musicgenre.data.sets.registry import Archive, DataSet, register

_JAZZ = (0, 1, 2, 4, 5, 6, 7, 8, 11, 12)


def all_track_ids() -> tuple[str, ...]:
    """Ids of all 100 tracks."""
    numbers = {label: _JAZZ if label == "jazz" else range(10) for label in LABELS}
    return tuple(f"{label}.{number:05d}" for label in LABELS for number in numbers[label])


GTZAN_MINI = register(
    DataSet(
        name="gtzan-mini",
        title="GTZAN, the mini version that mirdata names",
        licence=LICENCE,
        citation=CITATION,
        origin="github.com/TempoBeatDownbeat/gtzan_mini",
        size_bytes=133_000_000,
        n_tracks=100,
        labels=LABELS,
        archives=(
            Archive(
                filename="gtzan_mini-main.zip",
                urls=("https://github.com/TempoBeatDownbeat/gtzan_mini/archive/refs/heads/main.zip",),
            ),
        ),
        index=index_folder,
        track_ids=all_track_ids,
        checksums=CHECKSUMS,
        notes="Its archive is made afresh at each request and has no fixed checksum; every track has one.",
    )
)
