"""Mini-batches straight from the store, without a worker process and without a line of Python an example."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from musicgenre.data._pool import OrderedPool
from musicgenre.data.rows import Change, read_rows
from musicgenre.data.store import PartView
from musicgenre.training.order import InOrder, Order, Rows

Item = TypeVar("Item")

Batch = tuple[Tensor, Tensor]

_READ_AHEAD = 4


class Clocked:
    """Counts the seconds that whoever iterates has waited for batches: ``waited_s``."""

    waited_s = 0.0

    def _clocked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - begin
            if batch is None:
                return
            yield batch


class Batches(Clocked):
    """Iterate over one part of the store in mini-batches of (features, targets), see :meth:`PartView.truth`.

    A part that fits is held in memory as one tensor and batches are gathered from it; a larger one is read from the
    memory-mapped files by a thread, or by processes, that stay a few batches ahead.

    Parameters
    ----------
    part : PartView
        The rows.
    batch_size : int
        Rows a batch; the last one may be smaller.
    order : Order, optional
        Which rows come when; all of them as they stand by default.
    training : bool
        Leave out a last batch that would leave a process less than two rows: batch-norm could not take it.
    epoch : callable
        Tells the number of the epoch.
    rank, world : int
        This process takes every ``world``-th row of each batch.
    in_memory_mb : int
        Size up to which the part is held in memory.
    workers : int
        Processes that read; 0: a thread. They change nothing but the pace.
    change : callable, optional
        Augmentation of the waveform, done by the thread or the processes.

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
        order: Order | None = None,
        training: bool = False,
        epoch: Callable[[], int] = int,
        rank: int = 0,
        world: int = 1,
        in_memory_mb: int = 2048,
        workers: int = 0,
        change: Change | None = None,
    ) -> None:
        self.part = part
        self.batch_size = batch_size
        self.order = InOrder(len(part)) if order is None else order
        self.training, self.epoch = training, epoch
        self.rank, self.world = rank, world
        size_mb = np.prod(part.features.shape, dtype=np.float64) * part.features.dtype.itemsize / 2**20
        self._held = (
            _laid_out(torch.from_numpy(part.features[:])) if size_mb <= in_memory_mb and change is None else None
        )
        self._shared = (part.features, change)
        self._pool = OrderedPool(read_rows, self._shared, workers) if workers and self._held is None else None

    def __len__(self) -> int:
        return count_batches(len(self.order), self.batch_size, self.world, self.training)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        made = self._made(self.epoch())
        batches = made if self._held is not None else read_ahead(made, _READ_AHEAD)
        yield from self._clocked(batches)

    def close(self) -> None:
        """End the processes that read."""
        if self._pool is not None:
            self._pool.close()

    def _groups(self, epoch: int) -> Iterator[Rows]:
        chunks = itertools.islice(self.order.chunks(epoch, self.batch_size), len(self))
        return (rows[self.rank :: self.world] for rows in chunks)

    def _made(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self._held is not None:
            for rows in self._groups(epoch):
                where = torch.from_numpy(rows)
                features = self._held[where].float()
                if features.ndim == 4:
                    features = features.permute(0, 3, 1, 2)
                yield features, torch.from_numpy(self.part.truth(rows))
            return
        wanted = ((rows, epoch) for rows in self._groups(epoch))
        read = (read_rows(self._shared, item) for item in wanted) if self._pool is None else self._pool.run(wanted)
        for rows, raw in read:
            yield torch.from_numpy(raw), torch.from_numpy(self.part.truth(rows))


def count_batches(n_examples: int, batch_size: int, world: int, training: bool) -> int:
    """Count the batches of an epoch; see :class:`Batches` for the one that is left out."""
    full, rest = divmod(n_examples, batch_size)
    dropped = training and full and rest < 2 * world <= batch_size
    return full + (rest > 0 and not dropped)


def _laid_out(features: Tensor) -> Tensor:
    """Put the colours of pictures last in memory, as convolutions want them: once here, not at every step."""
    return features.permute(0, 2, 3, 1).contiguous() if features.ndim == 4 else features


def read_ahead(source: Iterator[Item], depth: int) -> Iterator[Item]:
    """Let a thread draw from ``source``, at most ``depth`` items ahead; its errors are raised here."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        pending = deque(pool.submit(next, source, None) for _ in range(depth))
        while (item := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, source, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
