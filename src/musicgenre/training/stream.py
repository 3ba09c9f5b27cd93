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
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from musicgenre.features.base import needing
from musicgenre.training.order import Examples, Rows


class Multiplexed:
    """Rows in the order in which randomly multiplexed streams yield them: an order of ``training/order.py``.

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
