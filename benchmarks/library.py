"""Speed and memory of `musicgenre library`: a plan of files that are known, and writing beside a plain copy.

Run: python benchmarks/library.py [--known 10000] [--songs 200] [--song-mb 5] [--rounds 3] [--folder DISK]

Known files: so many MP3s with tags and a picture are made, each with a sound of its own, and heard once by an ear that
says the same of each. What is timed is the plan after that, in a process of its own, which finds out that all are
known; and the peak of its memory, beside that of a tenth of the files.

Writing: songs of one size, without a genre and without room for one in their tags. Ours (`write_files`: looked at
twice, proved, noted in the journal, written beside, flushed, read back, renamed), a plain copy of each file beside it
with a flush of the file, renamed over it, and a plain `save` of mutagen (in the file itself, nothing flushed) take
turns on fresh copies; medians of the rounds. Rates count the bytes of the files, once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import mutagen
from mutagen.id3 import APIC, ID3, TALB, TCON, TIT2, TPE1

PICTURE = os.urandom(30_000)
FRAME = bytes.fromhex("fffb9064") + bytes(413)  # 128 kbit/s at 44.1 kHz, silent
GENRE = ("Jazz",)


class Ear:
    """Says the same of every track, and counts how often it is asked."""

    names_tags = False
    labels = vocabulary = ("jazz", "rock")
    model, model_sha256 = "an ear", "e" * 64
    asked = 0

    def classify(self, path: str) -> Any:
        """Name the genre."""
        from musicgenre.listening.answer import Answer

        self.asked += 1
        return Answer(path, 30.0, 18.0, "jazz", 0.9, {"jazz": 0.9, "rock": 0.1}, model=self.model)


def make_song(path: Path, n_bytes: int, number: int) -> None:
    """Write an MP3 with a picture, no genre and no padding; the sounds of two numbers differ."""
    n_frames = max(4, n_bytes // len(FRAME))
    frames = bytearray(FRAME * n_frames)
    frames[100:108] = number.to_bytes(8, "big")
    path.write_bytes(frames)
    tags = ID3()
    tags.add(TIT2(encoding=3, text=f"Title {number}"))
    tags.add(TPE1(encoding=3, text=f"Artist {number // 100}"))
    tags.add(TALB(encoding=3, text=f"Album {number // 10}"))
    tags.add(APIC(encoding=0, mime="image/jpeg", type=3, desc="", data=PICTURE))
    tags.save(path, v2_version=3, padding=lambda _: 0)


def plan_known(paths: list[str], output: Path) -> dict[str, float]:
    """Plan files; give the seconds, how many were heard, and the peak of this process's memory."""
    import resource

    from musicgenre.library.journal import Journal
    from musicgenre.library.make_plan import PlanOptions, make_plan
    from musicgenre.library.memory import HeardMemory
    from musicgenre.library.plan import write_plan

    ear: Any = Ear()
    start = time.perf_counter()
    with HeardMemory() as memory, Journal() as journal:
        rows = list(make_plan(paths, ear, memory, journal, PlanOptions(), settings="default"))
        write_plan(rows, output)
    seconds = time.perf_counter() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "heard": ear.asked, "written": sum(row.write for row in rows), "peak_mb": peak_mb}


def apply_plan(output: Path) -> dict[str, float]:
    """Write a plan into the files; give the seconds and the peak of this process's memory."""
    import resource

    from musicgenre.library.journal import Journal
    from musicgenre.library.plan import read_plan
    from musicgenre.library.write import Wanted, WriteOptions, Written, write_files

    rows = list(read_plan(output))
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    with Journal() as journal:
        wanted = (Wanted(row.path, row.set, row.sound_sha256, row.tags_sha256) for row in rows)
        n_written = sum(
            isinstance(one, Written) for one in write_files(journal, journal.begin("apply"), wanted, WriteOptions())
        )
    seconds = time.perf_counter() - start
    assert n_written == len(rows), "all are written"
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak_mb, "grew_mb": peak_mb - before_mb}


def apart(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Call a function in a process of its own, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def copy_plainly(folder: Path) -> float:
    """Copy each file beside it, flush it, and rename it over the old one; give the seconds."""
    start = time.perf_counter()
    for path in sorted(folder.iterdir()):
        beside = path.with_suffix(".tmp")
        with path.open("rb") as old, beside.open("xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
        beside.replace(path)
    return time.perf_counter() - start


def save_by_mutagen(folder: Path) -> float:
    """Let mutagen add the genre and save each file; give the seconds."""
    start = time.perf_counter()
    for path in sorted(folder.iterdir()):
        file = mutagen.File(path)
        file.tags.add(TCON(encoding=3, text=list(GENRE)))
        file.save()
    return time.perf_counter() - start


def measure_known(place: Path, n_known: int) -> None:
    """Print how long a plan of known files takes, and its memory."""
    folder = place / "known"
    folder.mkdir()
    for number in range(n_known):
        make_song(folder / f"{number:06}.mp3", 20_000, number)
    paths = sorted(str(path) for path in folder.iterdir())
    first = apart(plan_known, paths, place / "first.jsonl")
    tenth = apart(plan_known, paths[: n_known // 10], place / "tenth.jsonl")
    known = apart(plan_known, paths, place / "known.jsonl")
    assert (tenth["heard"], known["heard"]) == (0, 0), "all are known"
    print(f"first look at {n_known} files: {first['seconds']:.1f} s ({first['heard']:.0f} heard)")
    print(f"plan of {n_known} known files: {known['seconds']:.2f} s, {n_known / known['seconds']:.0f} files/s")
    print(f"  peak memory {known['peak_mb']:.0f} MB; of {n_known // 10} files {tenth['peak_mb']:.0f} MB")

    lines = (place / "known.jsonl").read_text().splitlines(keepends=True)
    grew_mb = []
    for n_written in (n_known // 100, n_known // 5):
        (place / "some.jsonl").write_text("".join(lines[:n_written]))
        lines = lines[n_written:]
        written = apart(apply_plan, place / "some.jsonl")
        grew_mb.append(f"{written['grew_mb']:.1f} MB with {n_written} files")
    print(f"applying {n_written} small files: {n_written / written['seconds']:.0f} files/s")
    size = sum(path.stat().st_size for path in Path(os.environ["MUSICGENRE_DATA"]).glob("library.sqlite*"))
    print(f"  journal: {size / (n_known // 100 + n_known // 5):.0f} bytes per file")
    print(f"  memory grew by {', by '.join(grew_mb)}")


def measure_writing(place: Path, n_songs: int, song_mb: float, rounds: int) -> None:
    """Print how fast songs are written, beside a plain copy and mutagen."""
    songs = place / "songs"
    songs.mkdir()
    for number in range(n_songs):
        make_song(songs / f"{number:06}.mp3", round(song_mb * 1e6), number)
    n_bytes = sum(path.stat().st_size for path in songs.iterdir())

    times: dict[str, list[float]] = {"ours": [], "copy": [], "mutagen": []}
    for turn in range(rounds):
        for what, seconds in times.items():
            fresh = place / f"{what}{turn}"
            shutil.copytree(songs, fresh)
            os.sync()
            if what == "copy":
                seconds.append(copy_plainly(fresh))
            elif what == "mutagen":
                seconds.append(save_by_mutagen(fresh))
            else:
                output = place / "songs.jsonl"
                apart(plan_known, sorted(str(path) for path in fresh.iterdir()), output)
                seconds.append(apart(apply_plan, output)["seconds"])
            shutil.rmtree(fresh)

    copied = statistics.median(times["copy"])
    for what, seconds in times.items():
        median = statistics.median(seconds)
        rates = f"{n_songs / median:.0f} files/s, {n_bytes / 1e6 / median:.0f} MB/s"
        print(f"{what}: {rates}, {copied / median:.2f} of a plain copy")
    print(json.dumps({what: [round(second, 3) for second in seconds] for what, seconds in times.items()}))


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--known", type=int, default=10_000)
    parser.add_argument("--songs", type=int, default=200)
    parser.add_argument("--song-mb", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.environ["MUSICGENRE_DATA"], os.environ["MUSICGENRE_CACHE"] = f"{folder}/data", f"{folder}/cache"
        measure_writing(Path(folder), options.songs, options.song_mb, options.rounds)
        measure_known(Path(folder), options.known)


if __name__ == "__main__":
    main()
