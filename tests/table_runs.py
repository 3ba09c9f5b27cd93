"""Small trainings on a table of labelled rows, and what their run folders say."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from musicgenre.data.manifest import Manifest
from musicgenre.features.representations.table import COLUMNS
from musicgenre.training.checkpoint import read_safetensors
from tests.labelled_music import make_table

SPLIT = ["protocol.options={test_size: 0.34, validation_size: 0.17}"]
TABLE = [*SPLIT, "training.epochs=8", "training.learning_rate=0.01", "data.labels=[]"]


@pytest.fixture
def table(tmp_path: Path) -> Manifest:
    """Thirty-six labelled rows."""
    return make_table(tmp_path / "table.csv", COLUMNS)


def curves(run: Path) -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def losses(run: Path) -> list[tuple[str, str]]:
    return [(row["train_loss"], row["validation_loss"]) for row in curves(run)]


def weights(run: Path) -> dict[str, np.ndarray]:
    return read_safetensors(run / "model.safetensors")[0]


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(np.array_equal(first[name], second[name]) for name in first)
