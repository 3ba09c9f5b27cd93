"""Mini-batches from shards: read front to back, mixed in a buffer, on the way never more than a few shards."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgenre.data._pool import OrderedPool
from musicgenre.data.rows import Features
from musicgenre.data.shards import Shard, ShardSet, read_or_fail
from musicgenre.data.store import PartView
from musicgenre.errors import DataError
from musicgenre.features.base import needing
from musicgenre.training.batches import Clocked, count_batches, read_ahead
from musicgenre.training.order import Examples, Rows
from musicgenre.training.recipes import StreamSection

_READ_AHEAD = 4

Example = tuple[int, NDArray[Any]]


class ShardBatches(Clocked):
    """Iterate over the training part of a shard set in mini-batches of (features, targets).

    The shards come in a new order every epoch, the rows of one shard in a new order, and a buffer mixes what lies
    near. All that is drawn from the seed and the epoch in one place: workers fetch and decode whole shards, so that
    they change nothing but the pace.

    Parameters
    ----------
    shards : ShardSet
        Where the features are.
    part : PartView
        The rows of the training part that take part.
    examples : Examples
        Which of them an epoch has.
    batch_size, epoch, rank, world
        As in :class:`~musicgenre.training.batches.Batches`. Every process reads all shards and takes its rows.
    seed : int
        Of the training.
    settings : StreamSection
        The recipe's section.

    Attributes
    ----------
    waited_s : float
        Seconds the training has waited for batches so far.
    """

    def __init__(
        self,
        shards: ShardSet,
        part: PartView,
        examples: Examples,
        batch_size: int,
        *,
        seed: int,
        settings: StreamSection,
        epoch: Callable[[], int] = int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        with needing("reading shards", "stream"):
            import webdataset

        self._shuffle: Any = webdataset.shuffle
        self.shards, self.part, self.examples = shards, part, examples
        self.batch_size, self.seed, self.settings = batch_size, seed, settings
        self.epoch, self.rank, self.world = epoch, rank, world
        self.n_examples = settings.epoch_examples or len(examples)
        self._positions = shards.positions(part)
        self._skipped: set[str] = set()
        shared = (shards.shape, str(shards.dtype))
        self._read = lambda wanted: read_or_fail(shared, wanted)
        self._pool = OrderedPool(read_or_fail, shared, settings.workers) if settings.workers else None

    def __len__(self) -> int:
        return count_batches(self.n_examples, self.batch_size, self.world, training=True)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self._clocked(read_ahead(self._made(self.epoch()), _READ_AHEAD))

    def close(self) -> None:
        """End the processes that read."""
        if self._pool is not None:
            self._pool.close()

    def _made(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        passes = (self._once(epoch, number) for number in itertools.count())
        found = itertools.islice(itertools.chain.from_iterable(passes), self.n_examples)
        for _ in range(len(self)):
            batch = list(itertools.islice(found, self.batch_size))[self.rank :: self.world]
            features = np.stack([row for _, row in batch]).astype(np.float32, copy=False)
            rows = np.array([position for position, _ in batch], np.int64)
            yield torch.from_numpy(features), torch.from_numpy(self.part.truth(rows))

    def _once(self, epoch: int, number: int) -> Iterator[Example]:
        """Yield every example once; those of a shard that is passed over are missing."""
        rng = np.random.default_rng([self.seed, epoch, number])
        drawn = self._drawn(rng)
        streamed = [self.shards.streamed[index] for index in rng.permutation(len(self.shards.streamed))]
        mixed = self._shuffle(self.settings.buffer, initial=self.settings.buffer, rng=_random(rng))
        n_yielded = 0
        for example in mixed(self._examples(streamed, drawn, rng)):
            n_yielded += 1
            yield example
        if not n_yielded:
            raise DataError(
                f"none of the {len(streamed)} shards of {self.shards.place.base} could be read",
                next_step="Copy the shards again, or write them again with 'musicgenre shard'",
            )

    def _drawn(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which rows of the part take part in this pass."""
        drawn = np.zeros(len(self.part), np.bool_)
        drawn[self.examples.by_track(rng)[0]] = True
        return drawn

    def _examples(
        self, streamed: list[Shard], drawn: NDArray[np.bool_], rng: np.random.Generator
    ) -> Iterator[Example]:
        for shard, rows in self._found(streamed):
            positions = self._positions[shard.part][shard.first_row : shard.first_row + shard.n_rows]
            wanted: Rows = np.flatnonzero((positions >= 0) & drawn[positions])
            for row in rng.permutation(wanted):
                yield int(positions[row]), rows[row].copy()  # a view would keep the whole shard in memory

    def _found(self, streamed: list[Shard]) -> Iterator[tuple[Shard, Features]]:
        """Read shards, one ahead; end with an error at one that cannot be used, or tell and go on, as set."""
        wanted = ((self.shards.place.where(shard.file), shard) for shard in streamed)
        read = map(self._read, wanted) if self._pool is None else self._pool.run(wanted)
        for shard, found in read_ahead(read, 1):
            if not isinstance(found, DataError):
                yield shard, found
            elif self.settings.bad_shards == "stop":
                raise DataError(
                    found.problem,
                    valid=found.valid,
                    next_step=f"{found.next_step}; or go on without it: --set training.stream.bad_shards=skip",
                )
            elif shard.file not in self._skipped:
                self._skipped.add(shard.file)
                warnings.warn(
                    f"passed over {shard.n_rows} examples: {found.problem}; others are repeated in their place",
                    stacklevel=2,
                )


def _random(rng: np.random.Generator) -> random.Random:
    return random.Random(int(rng.integers(2**63)))
