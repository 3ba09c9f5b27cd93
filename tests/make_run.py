"""Make small run folders with known scores, as training leaves them behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre.data.manifest import Manifest, Track, write_manifest
from musicgenre.runs.predictions import Predictions, write_predictions

LABELS = ("blues", "jazz", "pop")


def make_predictions(
    answers: Mapping[str, tuple[str, Sequence[str]]], labels: Sequence[str] = LABELS, confidence: float = 0.8
) -> Predictions:
    """Build predictions from track id -> (true label, answer of each segment)."""
    rows = [(track, true, number, said) for track, (true, all_) in answers.items() for number, said in enumerate(all_)]
    others = (1 - confidence) / (len(labels) - 1)
    return Predictions(
        labels=tuple(labels),
        track_ids=tuple(track for track, _, _, _ in rows),
        starts_s=np.array([3.0 * number for _, _, number, _ in rows]),
        truth=np.array([labels.index(true) for _, true, _, _ in rows], dtype=np.intp),
        scores=np.array([[confidence if label == said else others for label in labels] for _, _, _, said in rows]),
    )


def random_answers(
    seed: int, n_tracks: int = 60, n_segments: int = 3, right: float = 0.7, labels: Sequence[str] = LABELS
) -> dict[str, tuple[str, list[str]]]:
    """Answers that are right with a given probability; equal track ids and labels for every seed."""
    random = np.random.default_rng(seed)
    answers = {}
    for number in range(n_tracks):
        true = labels[number % len(labels)]
        said = [true if random.random() < right else str(random.choice(labels)) for _ in range(n_segments)]
        answers[f"{true}.{number:05d}"] = (true, said)
    return answers


def make_run(
    folder: Path,
    test: Mapping[str, tuple[str, Sequence[str]]],
    *,
    labels: Sequence[str] = LABELS,
    seed: int = 0,
    fold: int | None = None,
    protocol: str = "track",
    recipe: str = "tiny",
    **info: Any,
) -> Path:
    """Write a run folder whose test (and validation) predictions are the given answers."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    predictions = make_predictions(test, labels)
    for part in ("test", "validation"):
        write_predictions(predictions, folder / f"predictions_{part}.csv")
    content = {
        "format_version": 1,
        "recipe": recipe,
        "systems": ["E3"],
        "labels": list(labels),
        "seed": seed,
        "fold": fold,
        "protocol": protocol,
        "status": "finished",
        "parameters": 1234,
        **info,
    }
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "logs" / "metrics.csv").write_text(
        "epoch,train_loss,validation_loss,train_accuracy,validation_accuracy\n0,2.0,2.1,0.2,0.2\n1,1.0,1.5,0.6,\n",
        encoding="utf-8",
    )
    tracks = [_track(folder, track_id, true, "test") for track_id, (true, _) in test.items()]
    tracks += [_track(folder, f"train-{label}", label, "train") for label in labels]
    write_manifest(Manifest(path=None, tracks=tuple(tracks)), folder / "manifest.csv")
    return folder


def make_group(folder: Path, children: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write several run folders and the group.json above them; the values are arguments of :func:`make_run`."""
    for name, arguments in children.items():
        make_run(folder / name, **arguments)
    group = {"format_version": 1, "children": list(children)}
    (folder / "group.json").write_text(json.dumps(group), encoding="utf-8")
    return folder


def _track(folder: Path, track_id: str, label: str, split: str) -> Track:
    return Track(
        track_id=track_id,
        path=(folder / f"{track_id}.wav").resolve(),
        label=label,
        labels=(label,),
        split=split,
        fold=None,
        group=track_id,
        augmented=False,
        source_id=track_id,
        columns={},
    )


def pair(folder: Path, **second: object) -> tuple[Path, Path]:
    """Two runs on the same tracks that answer differently."""
    one = make_run(folder / "one", random_answers(1, right=0.6), recipe="first")
    other = make_run(folder / "other", random_answers(2, right=0.6), recipe="second", **second)  # type: ignore[arg-type]
    return one, other
