"""A small library of real files with tags, and an ear that says what it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musicgenre.filetags.music_file import read_tags
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
