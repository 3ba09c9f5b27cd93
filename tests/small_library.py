"""A small library of real files with tags, and an ear that says what it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musicgenre.filetags.music_file import read_tags
from musicgenre.library.journal import Journal
from musicgenre.library.make_plan import PlanOptions, make_plan
from musicgenre.library.memory import HeardMemory
from musicgenre.library.plan import PlanRow
from musicgenre.library.undo import undo
from musicgenre.library.write import Left, Wanted, WriteOptions, Written, write_files
from musicgenre.listening.answer import Answer
from tests.tagged_files import tagged


class Ear:
    """Says what it is told to say of files, by their names; counts how often it is asked."""

    names_tags = False
    labels = ("jazz", "pop", "rock")
    vocabulary = ("jazz", "pop", "rock", "bebop")
    model, model_sha256 = "an ear", "e" * 64

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def classify(self, path: str) -> Answer:
        self.asked.append(Path(path).name)
        genre, confidence = self.answers.get(Path(path).stem, ("jazz", 0.9))
        rest = (1 - confidence) / 2
        scores = {label: confidence if label == genre else rest for label in self.labels}
        best = genre if confidence >= 0.5 else "unsure"
        tags = {"bebop": 0.6, "happy": 0.5, "80s": 0.4}
        return Answer(
            path, 30.0, 18.0, best, confidence, scores, tags, "bebop", model=self.model, unsure_threshold=0.5
        )


def make_library(folder: Path) -> Path:
    """Seven files: three without a genre."""
    folder.mkdir()
    for name, kind in (
        *(("a.flac", "flac"), ("b.mp3", "mp3-2.3"), ("c.m4a", "m4a-bare"), ("d.ogg", "ogg"), ("e.mp3", "mp3-bare")),
        *(("f.wav", "wav-bare"), ("g.wma", "wma")),
    ):
        (folder / name).write_bytes(tagged(kind))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of each file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def genres(folder: Path) -> dict[str, tuple[str, ...]]:
    """Genres of each file of a folder."""
    return {path.name: read_tags(path).genres for path in sorted(folder.iterdir())}


def planned(paths: Sequence[Path], ear: Ear, **options: Any) -> list[PlanRow]:
    """Rows of a plan for files, heard by an ear."""
    with HeardMemory() as memory, Journal() as journal:
        rows = make_plan([str(path) for path in paths], ear, memory, journal, PlanOptions(**options), settings="x")  # type: ignore[arg-type]
        return list(rows)


def applied(rows: Sequence[PlanRow], **options: Any) -> list[Written | Left]:
    """What became of the files into which rows were written."""
    wanted = [
        Wanted(row.path, row.set, row.sound_sha256, row.tags_sha256, row.model, row.model_sha256)
        for row in rows
        if row.write
    ]
    with Journal() as journal:
        return list(write_files(journal, journal.begin("apply"), wanted, WriteOptions(**options)))


def taken_back(**which: Any) -> list[Written | Left]:
    """What became of the files whose changes were taken back: all, or those that are asked for."""
    with Journal() as journal:
        return list(undo(journal, journal.changes(state="done", **which), WriteOptions()))
