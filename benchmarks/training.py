"""Time an epoch of E3 and of C4, ours against the plain PyTorch loop of ``plain_loop.py``.

Run: python benchmarks/training.py [--rounds 3] [--epochs 4] [--threads 1]

Both sides start from the same weights and see the same inputs in the same batches, with the same batch size, number
format and threads; they take turns, and the fastest epoch of each counts (CPU time of the process, so that other work
on the machine disturbs it less). Ours is the whole ``fit_network``: Lightning, logs, best weights. Printed: the ratio,
the largest relative difference of the two loss curves, and the share of an epoch that training waits for batches.
Exit code 1 when a ratio is below 2, a curve differs by more than 5 %, or waiting takes 5 % or more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
N_CLASSES = 10


@dataclass(frozen=True)
class Case:
    """One system to train."""

    name: str
    model: str
    shape: tuple[int, ...]
    plain_shape: tuple[int, ...]
    n_train: int
    n_validation: int
    batch_size: int
    learning_rate: float
    weight_decay: float


CASES = (
    Case("E3", "mfcc-cnn", (130, 13), (1, 130, 13), 640, 96, 32, 1e-4, 0.0),
    Case("C4", "picture-cnn", (3, 224, 224), (3, 224, 224), 128, 32, 16, 1e-4, 1e-5),
)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    return parser.parse_args()


OPTIONS = arguments()
os.environ["OMP_NUM_THREADS"] = str(OPTIONS.threads)
sys.path.insert(0, str(ROOT / "benchmarks"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

import plain_loop  # noqa: E402
from musicgenre.data.rows import FeatureRows, Normalisation  # noqa: E402
from musicgenre.data.store import PartView  # noqa: E402
from musicgenre.models.registry import create_model  # noqa: E402
from musicgenre.runs.folder import RunFolder  # noqa: E402
from musicgenre.training.batches import Examples, Shuffled  # noqa: E402
from musicgenre.training.bookkeeper import Watch  # noqa: E402
from musicgenre.training.datamodule import StoreDataModule  # noqa: E402
from musicgenre.training.fit import Hardware, fit_network  # noqa: E402
from musicgenre.training.inputs import Normalise  # noqa: E402
from musicgenre.training.parts import Parts  # noqa: E402
from musicgenre.training.recipes import TrainingSection  # noqa: E402

PLAIN = {"mfcc-cnn": plain_loop.mfcc_cnn, "picture-cnn": plain_loop.picture_cnn}


def examples(case: Case, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise around a pattern of each class."""
    patterns = np.random.default_rng(0).normal(size=(N_CLASSES, *case.shape)).astype(np.float32)
    labels = np.arange(count) % N_CLASSES
    noise = np.random.default_rng(seed).normal(size=(count, *case.shape)).astype(np.float32)
    return 0.3 * patterns[labels] + noise, labels


def store_part(folder: Path, name: str, features: np.ndarray, labels: np.ndarray) -> PartView:
    """Lay a part out as the store does."""
    path = folder / f"{name}.npy"
    np.save(path, features)
    count = len(labels)
    rows = FeatureRows([path], features.shape[1:], features.dtype, np.zeros(count, np.int64), np.arange(count))
    ids = np.array([f"{name}-{number}" for number in range(count)])
    names = tuple(f"label-{number}" for number in range(N_CLASSES))
    sets = np.array(names)[labels]
    return PartView(rows, labels, ids, ids, np.zeros(count), np.zeros(count, np.bool_), names, sets)


def item_files(folder: Path, name: str, features: np.ndarray, labels: np.ndarray) -> plain_loop.ArrayFiles:
    """Lay a part out as the reports do."""
    paths = [folder / name / f"{number}.npy" for number in range(len(labels))]
    paths[0].parent.mkdir()
    for path, row in zip(paths, features, strict=True):
        np.save(path, row)
    return plain_loop.ArrayFiles(paths, labels.tolist())


def ours(case: Case, parts: Parts, start: dict[str, torch.Tensor], folder: Path) -> tuple[list[float], list[float]]:
    """Train our way; return training losses and CPU seconds of every epoch but the first, whose start is not seen."""
    torch.manual_seed(1)
    settings = TrainingSection(
        learning_rate=case.learning_rate,
        weight_decay=case.weight_decay,
        batch_size=case.batch_size,
        epochs=OPTIONS.epochs,
    )
    network = create_model(case.model, case.shape, N_CLASSES)
    network.load_state_dict(start)
    marks: list[float] = []
    run = RunFolder(folder)
    run.logs.mkdir(parents=True)
    data = StoreDataModule(parts, Normalise("none", len(case.shape)), settings)
    watch = Watch(
        epochs=lambda done, total: marks.append(time.process_time()),
        batches=lambda done, total: None,
        scores=lambda line: None,
    )
    fit_network(network, data, run, Hardware(), watch=watch)
    return run.read_metrics("train_loss"), np.diff(marks).tolist()


def plain(
    case: Case,
    files: tuple[plain_loop.ArrayFiles, plain_loop.ArrayFiles],
    start: dict[str, torch.Tensor],
    order: Callable[[int], np.ndarray],
) -> tuple[list[float], list[float]]:
    """Train the plain way from the same weights."""
    torch.manual_seed(1)
    model = PLAIN[case.model](N_CLASSES)
    values = list(start.values())
    if case.model == "mfcc-cnn":  # ours runs the frames along the width
        values = [value.transpose(2, 3) if value.ndim == 4 else value for value in values]
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    return plain_loop.fit(
        model,
        *files,
        lambda epoch: order(epoch).tolist(),
        batch_size=case.batch_size,
        learning_rate=case.learning_rate,
        weight_decay=case.weight_decay,
        epochs=OPTIONS.epochs,
    )


def measure(case: Case, folder: Path) -> bool:
    """Run both sides in turns and print a line; tell whether every promise is kept."""
    x, y = examples(case, case.n_train, 1)
    x_validation, y_validation = examples(case, case.n_validation, 2)
    none = Normalisation(np.zeros(1), np.ones(1), None)
    validation = store_part(folder, "validation", x_validation, y_validation)
    parts = Parts(store_part(folder, "train", x, y), validation, validation, none)
    shape = (-1, *case.plain_shape)
    files = (
        item_files(folder, "plain-train", x.reshape(shape), y),
        item_files(folder, "plain-validation", x_validation.reshape(shape), y_validation),
    )
    torch.manual_seed(0)
    start = create_model(case.model, case.shape, N_CLASSES).state_dict()
    order = Shuffled(Examples(parts.train), seed=0).rows
    best_ours, best_plain, difference, waiting = np.inf, np.inf, 0.0, 0.0
    for turn in range(OPTIONS.rounds):
        run = folder / f"run-{turn}"
        our_losses, our_seconds = ours(case, parts, {k: v.clone() for k, v in start.items()}, run)
        plain_losses, plain_seconds = plain(case, files, start, order)
        best_ours, best_plain = min(best_ours, *our_seconds), min(best_plain, *plain_seconds)
        gap = np.abs(np.array(our_losses) - plain_losses) / plain_losses
        difference = max(difference, float(gap.max()))
        waiting = max(waiting, float(np.median(RunFolder(run).read_metrics("waiting_share"))))
    ratio = best_plain / best_ours
    print(
        f"{case.name}: plain {best_plain:.2f} s, ours {best_ours:.2f} s an epoch, ratio {ratio:.2f}; "
        f"losses {' '.join(f'{loss:.3f}' for loss in our_losses)}, within {100 * difference:.2f} %; "
        f"waiting {100 * waiting:.2f} %"
    )
    return ratio >= 2.0 and difference <= 0.05 and waiting < 0.05


def main() -> int:
    """Measure every case."""
    torch.set_num_threads(OPTIONS.threads)
    print(f"torch {torch.__version__}, {OPTIONS.threads} threads, {OPTIONS.rounds} rounds of {OPTIONS.epochs} epochs")
    kept = []
    for case in CASES:
        if OPTIONS.only in (None, case.name):
            with tempfile.TemporaryDirectory() as folder:
                kept.append(measure(case, Path(folder)))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
