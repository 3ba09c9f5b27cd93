"""Classify the 100 real tracks with the default model and write docs/results/front.md: scores and confusion matrices.

Run: python scripts/default_model_results.py [DATA]        DATA defaults to ../shared/data

The page that scripts/results.py writes begins with it. The head was fitted on 443 tracks; 40 of the 100 are among
them, so the two groups are never added up into one accuracy.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from musicgenre import Answer, Classifier
from musicgenre._files import write_text_atomic
from musicgenre.evaluation.metrics import wilson_interval
from musicgenre.listening.answer import UNSURE

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "front.md"

_INTRODUCTION = """The 100 tracks of gtzan-mini, `musicgenre classify` with its default model. The genre head was
fitted on published tag probabilities of 443 tracks; 40 of these 100 are among them (resampled differently) and are
kept apart. The other 60 were in no fit; how they came to be looked at more than once is told in
[genre-head.md](genre-head.md).
MusiCNN's own training songs may overlap GTZAN. Brackets are 95 % Wilson intervals; one fit, no seeds.
Command: `python scripts/default_model_results.py`, {day:%Y-%m-%d}.
"""


@dataclass(frozen=True)
class Heard:
    """One track with its true genre, the answer, and whether the head was fitted on it."""

    genre: str
    answer: Answer
    fitted: bool

    @property
    def best(self) -> str:
        """The most probable genre, sure or not."""
        return next(iter(self.answer.scores))


def hear(data: Path, coverage: str | None) -> list[Heard]:
    """Classify every track."""
    fitted = {Path(line).stem for line in (data / "gtzan-tables/splits/train_filtered.txt").read_text().split()}
    classifier = Classifier(coverage=coverage)
    paths = sorted((data / "gtzan-mini" / "genres").glob("*/*.wav"))
    return [Heard(path.parent.name, classifier.classify(path), path.stem in fitted) for path in paths]


def share(right: int, total: int) -> str:
    """A share with its Wilson interval."""
    low, high = wilson_interval(right, total)
    return f"{right / total:.3f} [{low:.3f}, {high:.3f}] ({right} of {total})"


def scores(name: str, tracks: list[Heard]) -> str:
    """One line of the table."""
    answered = [track for track in tracks if track.answer.is_sure]
    right = sum(track.best == track.genre for track in tracks)
    right_answered = sum(track.best == track.genre for track in answered)
    cells = [share(right, len(tracks)), share(len(answered), len(tracks)), share(right_answered, len(answered))]
    return f"| {name} | " + " | ".join(cells) + " |"


def confusion(tracks: list[Heard], labels: tuple[str, ...]) -> str:
    """Rows are the truth, columns what was answered, the last column 'unsure'."""
    columns = (*labels, UNSURE)
    counts = np.zeros((len(labels), len(columns)), dtype=int)
    for track in tracks:
        counts[labels.index(track.genre), columns.index(track.answer.genre)] += 1
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [
        f"| **{label}** | " + " | ".join(str(n or "") for n in row) + " |"
        for label, row in zip(labels, counts, strict=True)
    ]
    return "\n".join(lines)


def page(data: Path) -> str:
    """Write the section."""
    labels = Classifier().labels
    default, full = hear(data, None), hear(data, "full")
    heard_s = default[0].answer.heard_s
    parts = [
        "## The default model on real tracks\n",
        _INTRODUCTION.format(day=datetime.now(UTC)),
        "| tracks | accuracy, every track | answered (not unsure) | accuracy of what was answered |",
        "|---|---|---|---|",
    ]
    for name, tracks in ((f"{heard_s:.0f} s heard (default)", default), ("everything heard", full)):
        for group, fitted in (("60 in no fit", False), ("40 that trained the head", True)):
            parts.append(scores(f"{group}, {name}", [track for track in tracks if track.fitted is fitted]))
    for title, fitted in (("The 60 tracks in no fit", False), ("The 40 tracks that trained the head", True)):
        chosen = [track for track in default if track.fitted is fitted]
        parts.append(f"\n{title}, default coverage (rows: truth; columns: answer):\n\n{confusion(chosen, labels)}")
    return "\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    write_text_atomic(PAGE, page(data))
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
