"""Which examples an epoch has, and in which order they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre.data.rows import draw_example
from musicgenre.data.store import PartView
from musicgenre.errors import DataError

Rows = NDArray[np.int64]
Kind = Literal["all", "fresh"]


class Order(Protocol):
    """Rows of a part, epoch by epoch; the same for the same epoch."""

    def __len__(self) -> int:
        """Examples in an epoch."""
        ...

    def chunks(self, epoch: int, size: int) -> Iterator[Rows]:
        """Yield the rows of an epoch, ``size`` at a time; the last chunk may be smaller."""
        ...


class Examples:
    """The examples of a part that take part in an epoch.

    Parameters
    ----------
    part : PartView
        The rows.
    kind : {"all", "fresh"}
        ``all``: every row; ``fresh``: one row a track, drawn anew for every epoch.
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
            The rows of track ``t`` are ``rows[starts[t] : starts[t + 1]]``.
        """
        shuffled = rng.permutation(self.n_rows)
        rows = shuffled[np.argsort(self.track_of[shuffled], kind="stable")].astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.track_of))]).astype(np.int64)
        if self.kind == "fresh":
            return rows[starts[:-1]], np.arange(self.n_tracks + 1, dtype=np.int64)
        return rows, starts


class InOrder:
    """Every row, as it stands; an :class:`Order`.

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
        """Yield the rows, ``size`` at a time."""
        return in_chunks(np.arange(self.n_rows, dtype=np.int64), size)


class Shuffled:
    """A new order every epoch, from the seed and the epoch's number alone; an :class:`Order`.

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
        rng = np.random.default_rng([self.seed, epoch])
        if self.examples.kind == "all":
            return rng.permutation(np.arange(len(self), dtype=np.int64))
        return rng.permutation(self.examples.by_track(rng)[0])

    def chunks(self, epoch: int, size: int) -> Iterator[Rows]:
        """Yield the rows, ``size`` at a time."""
        return in_chunks(self.rows(epoch), size)


def in_chunks(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut rows into pieces of ``size``."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def one_a_track(part: PartView, seed: int) -> PartView:
    """Keep one row of every track, the same whenever it is drawn (:func:`~musicgenre.data.rows.draw_example`)."""
    by_track: dict[str, list[int]] = {}
    for row in np.lexsort((part.starts_s, part.track_ids)):
        by_track.setdefault(str(part.track_ids[row]), []).append(int(row))
    chosen = [rows[draw_example(seed, track_id, len(rows))] for track_id, rows in by_track.items()]
    return part.take(np.sort(np.array(chosen, np.int64)))
