"""Make small run folders of taggers with known scores, as training leaves them behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre.data.manifest import Manifest, Track, write_manifest
from musicgenre.runs.predictions import TagPredictions, write_predictions

TAGS = ("drums", "flute", "slow")


def make_tag_predictions(
    seed: int, *, n_tracks: int = 60, skill: float = 0.7, soft: bool = False, prefix: str = "t", n_segments: int = 2
) -> TagPredictions:
    """Predictions whose truth depends on the prefix alone, and whose scores on ``seed`` too; a few values unknown."""
    truth_random, random = np.random.default_rng(len(prefix)), np.random.default_rng([seed, len(prefix)])
    truth = (truth_random.random((n_tracks, len(TAGS))) < (0.5, 0.3, 0.2)).astype(float)
    if soft:
        truth = 0.1 + 0.6 * truth + 0.1 * truth_random.random(truth.shape)
    truth[::9, 1] = np.nan
    noise = random.normal(size=(n_tracks, n_segments, len(TAGS)))
    logits = skill * (np.nan_to_num(truth)[:, None] - 0.5) * 2 + noise
    return TagPredictions(
        labels=TAGS,
        track_ids=tuple(f"{prefix}{number:03d}" for number in range(n_tracks) for _ in range(n_segments)),
        starts_s=np.tile(np.arange(n_segments) * 3.0, n_tracks),
        truth=np.repeat(truth, n_segments, axis=0),
        scores=(1 / (1 + np.exp(-logits))).reshape(-1, len(TAGS)),
        soft=soft,
    )


def make_tag_run(
    folder: Path, *, seed: int = 0, skill: float = 0.7, soft: bool = False, n_validation: int = 60, **info: Any
) -> Path:
    """Write a run folder of a tagger."""
    (folder / "logs").mkdir(parents=True)
    test = make_tag_predictions(seed, skill=skill, soft=soft)
    validation = make_tag_predictions(seed, skill=skill, soft=soft, prefix="val", n_tracks=n_validation)
    write_predictions(test, folder / "predictions_test.csv")
    write_predictions(validation, folder / "predictions_validation.csv")
    content = {
        "format_version": 1,
        "recipe": "tiny-tags",
        "systems": ["D6"],
        "task": "multi_label",
        "targets": "columns" if soft else "labels",
        "activation": "sigmoid",
        "labels": list(TAGS),
        "seed": seed,
        "fold": None,
        "protocol": "track",
        "status": "finished",
        "parameters": 1234,
        **info,
    }
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "logs" / "metrics.csv").write_text(
        "epoch,train_loss,validation_loss,validation_roc_auc,validation_pr_auc\n0,0.7,0.7,0.5,0.2\n1,0.5,0.6,0.7,0.4\n",
        encoding="utf-8",
    )
    train = [
        Track(f"train{n}", folder / f"{n}.wav", "", (TAGS[n % 3],), split="train",
              columns={f"target:{tag}": "0.3" for tag in TAGS})
        for n in range(3)
    ]  # fmt: skip
    tested = [Track(name, folder / f"{name}.wav", "", (), split="test") for name in dict.fromkeys(test.track_ids)]
    write_manifest(Manifest(None, (*train, *tested)), folder / "manifest.csv")
    return folder
