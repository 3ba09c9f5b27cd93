"""Tables of tags in MagnaTagATune's own form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from musicgenre.data.manifest import Manifest
from musicgenre.data.sets.magnatagatune import index_magnatagatune

Row = tuple[str, Sequence[str], str]
FOUR = ("guitar", "electronic", "electric", "drone")
INFO = [
    "clip_id",
    "track_number",
    "title",
    "artist",
    "album",
    "url",
    "segmentStart",
    "segmentEnd",
    "original_url",
    "mp3_path",
]
CLIPS: tuple[Row, ...] = (
    ("2", ("guitar", "electric"), "f/ann-first-01-song-0-29.mp3"),
    ("6", ("electronic",), "f/ann-first-01-song-29-58.mp3"),
    ("10", (), "c/ann-best_of-07-song-0-29.mp3"),
    ("11", ("drone",), "0/bob-only-02-other-0-29.mp3"),
)


def table(
    rows: Sequence[Row], tags: Sequence[str] = FOUR, *, mark: str = "\t", end: str = "\n", quote: str = '"'
) -> str:
    """Write a table in the original's form: every cell quoted, tabs, one 0/1 column a tag."""
    places = {tag: place for place, tag in enumerate(tags, 1)}
    lines = [["clip_id", *tags, "mp3_path"]]
    for clip_id, own, path in rows:
        line = [clip_id, *["0"] * len(tags), path]
        for tag in own:
            line[places[tag]] = "1"
        lines.append(line)
    return "".join(mark.join(f"{quote}{cell}{quote}" for cell in line) + end for line in lines)


def full_table(n_songs: int = 40) -> list[Row]:
    """Clips of many songs in all 16 folders, three of a song, every fourth song without a usual tag."""
    rows: list[Row] = []
    for song in range(n_songs):
        tags = (("guitar",), ("electronic", "guitar"), ("electronic",), ("drone",))[song % 4]
        for n in range(3):
            name = f"{song % 16:x}/artist_{song % 20}-album-{song:02d}-title_{song}-{n}-{n + 29}.mp3"
            rows.append((f"{song}{n}", tags, name))
    return rows


def manifest_of(tmp_path: Path, rows: Sequence[Row], tags: Sequence[str] = FOUR) -> Manifest:
    path = tmp_path / "annotations_final.csv"
    path.write_text(table(rows, tags))
    return index_magnatagatune(path, tags="all", files=False).manifest
