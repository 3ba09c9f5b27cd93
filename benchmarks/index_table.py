"""Speed of `musicgenre data index` on MagnaTagATune's table of tags, against reading the table with the csv module.

Run: python benchmarks/index_table.py

The table has the original's size (25,863 clips, 188 tags) and form; its tags are made up. The plain way reads every
row into the names of its tags and does nothing else: no check, no song, no manifest. Processor seconds, in turns.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from musicgenre.data.manifest import write_manifest
from musicgenre.data.sets.magnatagatune import ALL_TAGS, index_magnatagatune

N_CLIPS, REPEATS = 25_863, 3


def write_table(path: Path) -> None:
    """Write a table in the original's form."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerow(["clip_id", *ALL_TAGS, "mp3_path"])
        for n in range(N_CLIPS):
            own = set(ALL_TAGS[n % 180 : n % 180 + 4])
            name = f"{n % 16:x}/a{n % 230}-b-{n % 99}-s{n // 5}-{n % 5}-9.mp3"
            writer.writerow([n, *(int(tag in own) for tag in ALL_TAGS), name])


def plain(path: Path) -> list[tuple[str, list[str], str]]:
    """Read the tags of every clip."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t")
        tags = next(rows)[1:-1]
        return [(row[0], [tag for tag, given in zip(tags, row[1:-1], strict=True) if given == "1"], row[-1])
                for row in rows]  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds that one run takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure both ways, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        table, manifest = Path(folder) / "annotations_final.csv", Path(folder) / "manifest.csv"
        write_table(table)

        def ours() -> None:
            found = index_magnatagatune(table, tags="all", files=False)
            assert len(found.manifest) == N_CLIPS
            write_manifest(found.manifest, manifest)

        both = [(seconds(ours), seconds(lambda: plain(table))) for _ in range(REPEATS)]
    index_s, plain_s = (statistics.median(column) for column in zip(*both, strict=True))
    print(f"index, check and write the manifest  {index_s:6.2f} s")
    print(f"csv alone                            {plain_s:6.2f} s")
    print(f"ratio                                {plain_s / index_s:6.2f}")


if __name__ == "__main__":
    main()
