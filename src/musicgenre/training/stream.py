"""Streaming: a few tracks are open at a time, and what they yield is multiplexed at random (D3), by pescador.

A stream here yields row numbers, not features: features are gathered a batch at a time, from the memory-mapped store,
so that a stream costs some microseconds an example and no memory.

pescador's own pool is not used for the many tracks: to open one of ``n`` it touches all ``n`` probabilities, and it
copies the whole pool when it starts, so that an epoch's cost would grow with ``n`` squared. Its mux gets as many
chains as streams are active instead, and all chains take their next track from one shuffled list, which draws the
same way.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgenre._parallel import OrderedPool
from musicgenre.data.rows import Features
from musicgenre.data.shard_places import Shard, read_or_fail
from musicgenre.data.shards import ShardSet, open_shards
from musicgenre.data.splits import protocol_of
from musicgenre.data.store import PartView
from musicgenre.data.targets import tag_targets
from musicgenre.errors import DataError, RecipeError, UsageError, needing
from musicgenre.features.registry import representation_from_settings
from musicgenre.training.batches import Clocked, Examples, Rows, count_batches, read_ahead
from musicgenre.training.material import MANIFEST_SPLIT, Material, check_task, representation_of
from musicgenre.training.parts import LEAKY
from musicgenre.training.recipes import Recipe, StreamSection


class Multiplexed:
    """Rows in the order in which randomly multiplexed streams yield them: an order of ``training/batches.py``.

    One stream a track, ``active`` of them open; each step draws one of the open streams. A stream that ends gives way
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
        later in the epoch. ``None``: all of them.
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
        """Undo :meth:`__getstate__`."""
        import pescador

        self.__dict__.update(state, _pescador=pescador)

    def rows(self, epoch: int) -> Iterator[int]:
        """Yield the rows of an epoch one by one."""
        passes = (self._once(epoch, number) for number in itertools.count())
        return itertools.islice(itertools.chain.from_iterable(passes), self.n_examples)

    def chunks(self, epoch: int, size: int) -> Iterator[Rows]:
        """Yield the rows of an epoch, ``size`` at a time."""
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
            begin, end = self._next[track], self._end[track]
            stop = end if self._rate is None else min(end, begin + 1 + int(self._rng.poisson(self._rate - 1)))
            yield self._streamer(self._rows[begin:stop])
            if stop < end:  # what is left of it waits again, somewhere in the list
                self._next[track] = stop
                place = int(self._rng.integers(len(self._waiting) + 1))
                self._waiting.append(track)
                self._waiting[place], self._waiting[-1] = track, self._waiting[place]


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


def material_of_shards(recipe: Recipe, where: Path | str, *, folds: int = 0) -> Material:
    """Open shards for a recipe; tracks, split, copies and features are what was written into them.

    Parameters
    ----------
    recipe : Recipe
        Must ask for what the shards hold.
    where : Path or str
        See :func:`~musicgenre.data.shards.open_shards`.
    folds : int
        Must be 0: shards have one split.

    Raises
    ------
    RecipeError
        The recipe reads another representation, other labels, left out tracks or augmented copies.
    UsageError
        Folds, or a protocol that deals single segments.
    """
    if folds or recipe.protocol.name == LEAKY:
        asked = "--folds" if folds else f"the protocol {LEAKY}"
        raise UsageError(
            f"{asked} cannot be had from shards: they have one split", next_step="Train from the manifest"
        )
    shards = open_shards(where)
    check_task(recipe, shards.manifest)
    _check(recipe, shards)
    record = protocol_of(shards.manifest)
    protocol = record.protocol if record else MANIFEST_SPLIT
    targets = tag_targets(shards.manifest, recipe.data.targets, recipe.data.labels) if recipe.is_tagging else None
    representation = representation_from_settings(shards.representation)
    return Material(shards.manifest, shards, protocol, representation, recipe, targets=targets)


def _check(recipe: Recipe, shards: ShardSet) -> None:
    section = recipe.representation
    wanted = representation_of(recipe, shards.manifest)
    hop_s = wanted.segment_s if section.hop_s is None else section.hop_s
    asked = {**wanted.settings(), "hop_s": hop_s, "dtype": section.dtype}
    held = {**shards.representation, "hop_s": shards.hop_s, "dtype": str(shards.dtype)}
    different = [key for key in {**asked, **held} if asked.get(key) != held.get(key)]
    if different:
        key = different[0]
        raise RecipeError(
            f"the recipe {recipe.name} reads {key}={asked.get(key)!r}, but the shards {shards.place.base} hold "
            f"{key}={held.get(key)!r}",
            next_step="Write shards of this recipe: musicgenre shard MANIFEST --recipe NAME",
        )
    if recipe.data.labels and not recipe.is_tagging and set(recipe.data.labels) != set(shards.labels):
        raise RecipeError(
            f"the recipe {recipe.name} names other labels than the shards", valid=f"data.labels={list(shards.labels)}"
        )
    held_tracks = set(shards.everything.track_ids.tolist())
    if present := [name for name in recipe.data.exclude if name in held_tracks]:
        raise RecipeError(f"the recipe {recipe.name} leaves out {present[0]}, which the shards hold")
    if recipe.augmentation.online.waveform is not None:
        raise RecipeError("augmentation.online.waveform needs the sound, and shards hold features", valid="none")
    if bool(recipe.augmentation.offline.copies) != bool(shards.everything.augmented.any()):
        raise RecipeError(
            f"the recipe {recipe.name} has augmentation.offline.copies={recipe.augmentation.offline.copies}, "
            "and the shards were written otherwise",
            next_step="Write shards of this recipe: musicgenre shard MANIFEST --recipe NAME",
        )
