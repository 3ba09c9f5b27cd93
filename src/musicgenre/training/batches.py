"""Mini-batches straight from the store, without a worker process and without a line of Python an example.

First comes which rows an epoch has and in which order, then what gathers their features.
"""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgenre._parallel import OrderedPool
from musicgenre.data.rows import Change, draw_example, read_rows
from musicgenre.data.store import PartView
from musicgenre.errors import DataError

READ_AHEAD = 4
"""Batches that wait for the training: enough to bridge a slow read, few enough to cost little memory."""

Item = TypeVar("Item")
Rows = NDArray[np.int64]
Kind = Literal["all", "fresh"]

Batch = tuple[Tensor, Tensor]
"""Features (batch, *shape) and targets."""

Augment = Callable[[Tensor, Tensor], Batch]
"""Takes normalised features (batch, *shape) and class numbers (batch,) to new ones; targets may become shares."""


class Examples:
    """The examples of a part that take part in an epoch.

    Parameters
    ----------
    part : PartView
        The rows.
    kind : {"all", "fresh"}
        `all`: every row; `fresh`: one row per track, drawn anew for every epoch.

    Raises
    ------
    DataError
        If the part is empty.
    """

    def __init__(self, part: PartView, kind: Kind = "all") -> None:
        self.kind = kind
        self.n_rows = len(part)
        if not self.n_rows:
            raise DataError("the training part has no examples")
        self.track_of: Rows = np.unique(part.track_ids, return_inverse=True)[1].astype(np.int64)
        self.n_tracks = int(self.track_of.max()) + 1

    def __len__(self) -> int:
        return self.n_tracks if self.kind == "fresh" else self.n_rows

    def by_track(self, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Draw the rows of one epoch, track after track, those of a track in random order.

        Returns
        -------
        rows : ndarray of int64, shape (n,)
        starts : ndarray of int64, shape (n_tracks + 1,)
            The rows of track `t` are `rows[starts[t] : starts[t + 1]]`.
        """
        # a stable sort of shuffled rows leaves those of a track shuffled, without a step of Python a track
        shuffled = rng.permutation(self.n_rows)
        rows = shuffled[np.argsort(self.track_of[shuffled], kind="stable")].astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.track_of))]).astype(np.int64)

        if self.kind == "fresh":
            return rows[starts[:-1]], np.arange(self.n_tracks + 1, dtype=np.int64)
        return rows, starts


class Order(Protocol):
    """Rows of a part, epoch by epoch; the same for the same epoch."""

    def __len__(self) -> int:
        """Examples in an epoch."""
        ...

    def chunks(self, epoch: int, size: int) -> Iterator[Rows]:
        """Yield the rows of an epoch, `size` at a time; the last chunk may be smaller."""
        ...


class InOrder:
    """Every row, as it stands; an `Order`.

    Parameters
    ----------
    n_rows : int
        How many there are.
    """

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows

    def chunks(self, epoch: int, size: int) -> Iterator[Rows]:
        """Yield the rows, `size` at a time."""
        return in_chunks(np.arange(self.n_rows, dtype=np.int64), size)


class Shuffled:
    """A new order every epoch, from the seed and the epoch's number alone; an `Order`.

    Parameters
    ----------
    examples : Examples
        What to shuffle.
    seed : int
        Of the training.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples, self.seed = examples, seed

    def __len__(self) -> int:
        return len(self.examples)

    def rows(self, epoch: int) -> Rows:
        """All rows of an epoch."""
        # nothing is carried from epoch to epoch: a resumed training finds the order it would have had
        rng = np.random.default_rng([self.seed, epoch])
        if self.examples.kind == "all":
            return rng.permutation(np.arange(len(self), dtype=np.int64))
        return rng.permutation(self.examples.by_track(rng)[0])

    def chunks(self, epoch: int, size: int) -> Iterator[Rows]:
        """Yield the rows, `size` at a time."""
        return in_chunks(self.rows(epoch), size)


def in_chunks(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut rows into pieces of `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def one_a_track(part: PartView, seed: int) -> PartView:
    """Keep one row of every track, the same whenever it is drawn (`musicgenre.data.rows.draw_example`)."""
    by_track: dict[str, list[int]] = {}
    for row in np.lexsort((part.starts_s, part.track_ids)):
        by_track.setdefault(str(part.track_ids[row]), []).append(int(row))

    chosen = [rows[draw_example(seed, track_id, len(rows))] for track_id, rows in by_track.items()]
    return part.take(np.sort(np.array(chosen, np.int64)))


class EpochBatches(ABC):
    """Mini-batches of one epoch after another, and the seconds that whoever iterates has waited for them.

    Attributes
    ----------
    epoch : callable
        Tells the number of the epoch.
    waited_s : float
        Seconds so far.
    """

    epoch: Callable[[], int]
    waited_s = 0.0
    _pool: OrderedPool | None = None
    _is_in_memory = False

    def __iter__(self) -> Iterator[Batch]:
        batches = self.gather(self.epoch())
        if not self._is_in_memory:
            batches = read_ahead(batches, READ_AHEAD)

        # only the time until a batch is there counts, not what is done with it
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

    def close(self) -> None:
        """End the processes that read."""
        if self._pool is not None:
            self._pool.close()

    @abstractmethod
    def gather(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""


class Batches(EpochBatches):
    """Iterate over one part of the store in mini-batches of (features, targets), see `PartView.truth`.

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
        This process takes every `world`-th row of each batch.
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
        self._shared = (part.features, change)
        self._held: Tensor | None = None

        # what changes every epoch is not held: it is computed while it is read
        size_mb = np.prod(part.features.shape, dtype=np.float64) * part.features.dtype.itemsize / 2**20
        if size_mb <= in_memory_mb and change is None:
            self._held = torch.from_numpy(part.features[:])
            if self._held.ndim == 4:
                # colours of pictures last in memory, as convolutions want them: once here, not at every step
                self._held = self._held.permute(0, 2, 3, 1).contiguous()
        elif workers:
            self._pool = OrderedPool(read_rows, self._shared, workers)
        self._is_in_memory = self._held is not None

    def __len__(self) -> int:
        return count_batches(len(self.order), self.batch_size, self.world, self.training)

    def gather(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, from memory or from the files."""
        chunks = itertools.islice(self.order.chunks(epoch, self.batch_size), len(self))
        groups = (rows[self.rank :: self.world] for rows in chunks)
        if self._held is not None:
            for rows in groups:
                features = self._held[torch.from_numpy(rows)].float()
                if features.ndim == 4:
                    # pictures are (n, colours, height, width) to a model, whatever lies beside what in memory
                    features = features.permute(0, 3, 1, 2)
                yield features, torch.from_numpy(self.part.truth(rows))
            return

        # each item carries its rows along: results of the processes then need no bookkeeping here
        wanted = ((rows, epoch) for rows in groups)
        found: Iterator[tuple[Rows, NDArray[np.float32]]] = (read_rows(self._shared, item) for item in wanted)
        if self._pool is not None:
            found = self._pool.run(wanted)
        for rows, raw in found:
            yield torch.from_numpy(raw), torch.from_numpy(self.part.truth(rows))


def count_batches(n_examples: int, batch_size: int, world: int, training: bool) -> int:
    """Count the batches of an epoch; see `Batches` for the one that is left out."""
    n_full, n_left = divmod(n_examples, batch_size)
    # a batch size below two rows a process cannot be met by any batch: then none is left out
    is_too_small = training and n_full > 0 and n_left < 2 * world <= batch_size
    return n_full if n_left == 0 or is_too_small else n_full + 1


def read_ahead(source: Iterator[Item], depth: int) -> Iterator[Item]:
    """Let a thread draw from `source`, at most `depth` items ahead; its errors are raised here."""
    # one thread draws, so that a generator is never entered twice at a time
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        pending = deque(pool.submit(next, source, None) for _ in range(depth))
        while (item := pending.popleft().result()) is not None:
            pending.append(pool.submit(next, source, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
