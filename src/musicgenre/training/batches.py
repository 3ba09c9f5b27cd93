"""Mini-batches straight from the store, without a worker process and without a line of Python an example."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgenre.data.store import PartView

Rows = NDArray[np.int64]
Change = Callable[[NDArray[np.float32], Rows, int], NDArray[np.float32]]
"""Turns raw features (batch, ...) of the given rows in the given epoch into what the model reads."""

_READ_AHEAD = 4


class Batches:
    """Iterate over one part of the store in mini-batches of (features, targets), see :meth:`PartView.truth`.

    A part that fits is held in memory as one tensor and batches are gathered from it; a larger one is read from the
    memory-mapped files by a thread that stays a few batches ahead.

    Parameters
    ----------
    part : PartView
        The rows.
    batch_size : int
        Rows a batch; the last one may be smaller.
    shuffle : bool
        Draw a new order every epoch, from ``seed`` and the epoch's number alone. Then a last batch that would leave
        a process less than two rows is left out: batch-norm could not take it.
    epoch : callable
        Tells the number of the epoch.
    rank, world : int
        This process takes every ``world``-th row of each batch.
    in_memory_mb : int
        Size up to which the part is held in memory.
    change : callable, optional
        Augmentation of the waveform, done by the thread.

    Attributes
    ----------
    waited_s : float
        Seconds the training has waited for batches so far.
    """

    def __init__(
        self,
        part: PartView,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: Callable[[], int] = int,
        rank: int = 0,
        world: int = 1,
        in_memory_mb: int = 2048,
        change: Change | None = None,
    ) -> None:
        self.part = part
        self.batch_size = batch_size
        self.shuffle, self.seed, self.epoch = shuffle, seed, epoch
        self.rank, self.world = rank, world
        self.change = change
        self.waited_s = 0.0
        size_mb = np.prod(part.features.shape, dtype=np.float64) * part.features.dtype.itemsize / 2**20
        self._held = (
            _laid_out(torch.from_numpy(part.features[:])) if size_mb <= in_memory_mb and change is None else None
        )

    def __len__(self) -> int:
        return len(self._groups(np.arange(len(self.part), dtype=np.int64)))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        made = self._made(self.epoch())
        batches = made if self._held is not None else read_ahead(made, _READ_AHEAD)
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

    def order(self, epoch: int) -> Rows:
        """Order of the rows in an epoch."""
        rows = np.arange(len(self.part), dtype=np.int64)
        return np.random.default_rng([self.seed, epoch]).permutation(rows) if self.shuffle else rows

    def _groups(self, rows: Rows) -> list[Rows]:
        groups = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        if self.shuffle and len(groups) > 1 and len(groups[-1]) < 2 * self.world <= self.batch_size:
            groups.pop()
        return [group[self.rank :: self.world] for group in groups]

    def _made(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self._groups(self.order(epoch)):
            where = torch.from_numpy(rows)
            if self._held is not None:
                features = self._held[where].float()
                if features.ndim == 4:
                    features = features.permute(0, 3, 1, 2)
            else:
                raw = self.part.features[rows].astype(np.float32, copy=False)
                features = torch.from_numpy(raw if self.change is None else self.change(raw, rows, epoch))
            yield features, torch.from_numpy(self.part.truth(rows))


def _laid_out(features: Tensor) -> Tensor:
    """Put the colours of pictures last in memory, as convolutions want them: once here, not at every step."""
    return features.permute(0, 2, 3, 1).contiguous() if features.ndim == 4 else features


def read_ahead(source: Iterator[tuple[Tensor, Tensor]], depth: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Let a thread draw from ``source``, at most ``depth`` batches ahead; its errors are raised here."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        pending = deque(pool.submit(next, source, None) for _ in range(depth))
        while (item := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, source, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
