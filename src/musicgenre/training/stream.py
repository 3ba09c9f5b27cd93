"""Streaming: a few tracks are open at a time, and what they yield is multiplexed at random (D3), by pescador.

A stream here yields row numbers, not features: features are gathered a batch at a time, from the memory-mapped store,
so that a stream costs some microseconds an example and no memory. Shards, which cannot be read at will, are read whole
and mixed in a buffer.

pescador's own pool is not used for the many tracks: to open one of `n` it touches all `n` probabilities, and it
copies the whole pool when it starts, so that an epoch's cost would grow with `n` squared. Its mux gets as many
chains as streams are active instead, and all chains take their next track from one shuffled list, which draws the
same way.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from musicgenre._parallel import OrderedPool
from musicgenre.data.shard_places import Shard, read_or_fail
from musicgenre.data.shards import ShardSet
from musicgenre.data.store import PartView
from musicgenre.errors import DataError, needing
from musicgenre.training.batches import Batch, EpochBatches, Examples, Rows, count_batches, read_ahead
from musicgenre.training.recipes import StreamSection

Yielded = TypeVar("Yielded")

Example = tuple[int, NDArray[Any]]
"""Number of a row of the training part, and its features."""


class Multiplexed:
    """Rows in the order in which randomly multiplexed streams yield them: an order of `training/batches.py`.

    One stream a track, `active` of them open; each step draws one of the open streams. A stream that ends gives way
    to one of a track that still has examples, drawn at random. The order depends on the seed, the epoch and these
    settings alone: not on batch size, workers or devices.

    Parameters
    ----------
    examples : Examples
        What to stream.
    active : int
        Streams open at a time. More than there are tracks opens all of them, with a warning.
    seed : int
        Of the training.
    rate : float, optional
        Mean number of examples that a stream yields before it gives way (1 + Poisson); what is left of the track comes
        later in the epoch. `None`: all of them.
    n_examples : int, optional
        Examples in an epoch; by default each once. A longer epoch goes through all of them again, a shorter one stops.

    Raises
    ------
    MissingExtraError
        pescador is not installed.
    """

    def __init__(
        self,
        examples: Examples,
        active: int,
        seed: int,
        *,
        rate: float | None = None,
        n_examples: int | None = None,
    ) -> None:
        with needing("streaming", "stream"):
            import pescador

        self._pescador: Any = pescador
        self.examples, self.seed, self.rate = examples, seed, rate
        self.n_examples = n_examples or len(examples)
        self.active = min(active, examples.n_tracks)
        if active > self.active:
            warnings.warn(
                f"training.stream.active={active}, but the training part has {self.active} tracks: all are open",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return self.n_examples

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the module."""
        return {name: value for name, value in self.__dict__.items() if name != "_pescador"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Undo `__getstate__`."""
        import pescador

        self.__dict__.update(state, _pescador=pescador)

    def rows(self, epoch: int) -> Iterator[int]:
        """Yield the rows of an epoch one by one."""
        return itertools.islice(_again_and_again(self._once, epoch), self.n_examples)

    def chunks(self, epoch: int, size: int) -> Iterator[Rows]:
        """Yield the rows of an epoch, `size` at a time."""
        rows = self.rows(epoch)
        while len(chunk := np.fromiter(itertools.islice(rows, size), np.int64)):
            yield chunk

    def _once(self, epoch: int, number: int) -> Iterator[int]:
        """Yield every example once."""
        rng = np.random.default_rng([self.seed, epoch, number])
        tracks = _Tracks(self._pescador.Streamer, *self.examples.by_track(rng), self.rate, rng)
        chains = [self._pescador.ChainMux(tracks.streams) for _ in range(self.active)]

        # A mux copies its random state whenever it starts, so the same one would repeat itself every epoch: it is made
        # anew, with a state of its own. It takes NumPy's older generator only, and no seed but a plain int.
        state = np.random.RandomState(int(rng.integers(2**32)))
        mux = self._pescador.StochasticMux(chains, self.active, rate=None, mode="exhaustive", random_state=state)
        return iter(mux.iterate())


class _Tracks:
    """Tracks that wait for their turn; every chain of the mux takes its streams from here."""

    def __init__(self, streamer: Any, rows: Rows, starts: Rows, rate: float | None, rng: np.random.Generator) -> None:
        # plain lists: single numbers of an array are slow to read
        self._streamer = streamer
        self._rows = rows.tolist()
        self._next, self._end = starts[:-1].tolist(), starts[1:].tolist()
        self._rate, self._rng = rate, rng
        self._waiting: list[int] = rng.permutation(len(self._next)).tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Tracks:
        """Stay one: pescador copies what it is about to run, and the chains must share their tracks."""
        return self

    def streams(self) -> Iterator[Any]:
        """Yield one stream a track for as long as tracks wait."""
        while self._waiting:
            track = self._waiting.pop()
            begin, stop = self._next[track], self._end[track]
            if self._rate is not None:
                stop = min(stop, begin + 1 + int(self._rng.poisson(self._rate - 1)))
            yield self._streamer(self._rows[begin:stop])

            if stop < self._end[track]:  # what is left of it waits again, somewhere in the list
                self._next[track] = stop
                place = int(self._rng.integers(len(self._waiting) + 1))
                self._waiting.append(track)
                self._waiting[place], self._waiting[-1] = track, self._waiting[place]


class ShardBatches(EpochBatches):
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
        As in `musicgenre.training.batches.Batches`. Every process reads all shards and takes its rows.
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
        self._shared = (shards.shape, str(shards.dtype))
        if settings.workers:
            self._pool = OrderedPool(read_or_fail, self._shared, settings.workers)

    def __len__(self) -> int:
        return count_batches(self.n_examples, self.batch_size, self.world, training=True)

    def gather(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        examples = itertools.islice(_again_and_again(self._once, epoch), self.n_examples)
        for _ in range(len(self)):
            batch = list(itertools.islice(examples, self.batch_size))[self.rank :: self.world]
            positions, rows = zip(*batch, strict=True)
            features = np.stack(rows).astype(np.float32, copy=False)
            targets = self.part.truth(np.array(positions, np.int64))
            yield torch.from_numpy(features), torch.from_numpy(targets)

    def _once(self, epoch: int, number: int) -> Iterator[Example]:
        """Yield every example once; those of a shard that is passed over are missing."""
        # the order of these draws decides the order of the examples: keep it, so that old runs can be repeated
        rng = np.random.default_rng([self.seed, epoch, number])
        drawn = np.zeros(len(self.part), np.bool_)
        drawn[self.examples.by_track(rng)[0]] = True
        order = rng.permutation(len(self.shards.streamed))
        streamed = [self.shards.streamed[index] for index in order]
        mixing = random.Random(int(rng.integers(2**63)))
        mixed = self._shuffle(self.settings.buffer, initial=self.settings.buffer, rng=mixing)

        n_yielded = 0
        for example in mixed(self._examples(streamed, drawn, rng)):
            n_yielded += 1
            yield example

        # without an error here the epoch would go round for ever
        if not n_yielded:
            raise DataError(
                f"none of the {len(streamed)} shards of {self.shards.place.base} could be read",
                next_step="Copy the shards again, or write them again with 'musicgenre shard'",
            )

    def _examples(
        self, streamed: list[Shard], drawn: NDArray[np.bool_], rng: np.random.Generator
    ) -> Iterator[Example]:
        """Yield the examples of shards that are drawn, shard after shard, those of one in random order."""
        wanted = ((self.shards.place.where(shard.file), shard) for shard in streamed)
        read: Iterator[Any] = (read_or_fail(self._shared, item) for item in wanted)
        if self._pool is not None:
            read = self._pool.run(wanted)

        for shard, found in read_ahead(read, 1):
            if isinstance(found, DataError):
                if self.settings.bad_shards == "stop":
                    raise DataError(
                        found.problem,
                        valid=found.valid,
                        next_step=f"{found.next_step}; or go on without it: --set training.stream.bad_shards=skip",
                    )
                if shard.file not in self._skipped:  # once a training, not once an epoch
                    self._skipped.add(shard.file)
                    warnings.warn(
                        f"passed over {shard.n_rows} examples: {found.problem}; others are repeated in their place",
                        stacklevel=2,
                    )
                continue

            positions = self._positions[shard.part][shard.first_row : shard.first_row + shard.n_rows]
            own: Rows = np.flatnonzero((positions >= 0) & drawn[positions])
            for row in rng.permutation(own):
                yield int(positions[row]), found[row].copy()  # a view would keep the whole shard in memory


def _again_and_again(once: Callable[[int, int], Iterator[Yielded]], epoch: int) -> Iterator[Yielded]:
    """Yield what `once(epoch, 0)` yields, then what `once(epoch, 1)` does, and so on without end."""
    for number in itertools.count():
        yield from once(epoch, number)
