"""The training loop of the reports' kind, in plain PyTorch: one file an item, three layers after each convolution.

``benchmarks/training.py`` runs it beside our training. It takes an order of the rows for every epoch, so that both
sides see the same batches; everything else is as such loops are usually written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class ArrayFiles(Dataset[tuple[Tensor, int]]):
    """One ``.npy`` file an item."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int]) -> None:
        self.paths = list(paths)
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor(np.load(self.paths[index]), dtype=torch.float32), int(self.labels[index])


class Given:
    """A sampler that hands out a given order."""

    def __init__(self) -> None:
        self.rows: Sequence[int] = ()

    def __iter__(self) -> Iterable[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def mfcc_cnn(n_classes: int) -> nn.Module:
    """E3 on (1, 130, 13)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 120, 2, padding=1),
        nn.BatchNorm2d(120),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Linear(1920, 64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, n_classes),
    )


def picture_cnn(n_classes: int) -> nn.Module:
    """C4 on (3, 224, 224)."""
    layers: list[nn.Module] = []
    before = 3
    for after in (8, 16, 32, 64, 128):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        before = after
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(6272, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, n_classes)
    )


def fit(
    model: nn.Module,
    train: ArrayFiles,
    validation: ArrayFiles,
    order: Callable[[int], Sequence[int]],
    *,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    epochs: int,
) -> tuple[list[float], list[float]]:
    """Train; return the training loss and the CPU seconds of every epoch."""
    sampler = Given()
    train_loader = DataLoader(train, batch_size=batch_size, sampler=sampler)  # type: ignore[arg-type]
    validation_loader = DataLoader(validation, batch_size=batch_size)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    losses, seconds = [], []
    for epoch in range(epochs):
        started = time.process_time()
        sampler.rows = order(epoch)
        model.train()
        running_loss, correct, total = 0.0, 0, 0
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(labels)
            correct += (outputs.argmax(dim=1) == labels).sum().item()
            total += len(labels)
        model.eval()
        validation_loss = 0.0
        with torch.no_grad():
            for inputs, labels in validation_loader:
                validation_loss += criterion(model(inputs), labels).item() * len(labels)
        losses.append(running_loss / total)
        seconds.append(time.process_time() - started)
    return losses, seconds
