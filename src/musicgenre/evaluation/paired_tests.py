"""Paired tests whether two models differ on the same tracks: exact where tracks are few.

Where two models are equally good, what they said of a track could as well be exchanged. That holds on any number of
tracks; a bootstrap's share of draws, which varies too little on few of them, calls chance a difference too often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from musicgenre.evaluation.metrics import Float64, areas
from musicgenre.runs.predictions import Predictions

LEVEL = 0.05
"""Two models are said to differ where p is below it."""

_N_DRAWS = 10_000  # p is told in steps of 0.0001
_BLOCK = 500  # draws at a time: all of them of 10,000 tracks would take 800 MB
_N_DRAWS_OF_AREAS, _BLOCK_OF_AREAS = 1_000, 10  # every draw is another curve a tag
_SEED = 20_001
_TINY = 1e-9
"""What sums differ by in another order; and what divides where nothing was counted."""

_Seed = TypeVar("_Seed")


def mcnemar(differences: Float64) -> float:
    """Exact two-sided McNemar test; `differences` holds -1, 0 or 1 a track."""
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**n))  # integers: exact for any n


def sign_flips(differences: Float64) -> float:
    """Two-sided permutation test: each track's difference could as well have had the other sign."""
    varying = differences[differences != 0]
    return float(exchange_test(len(varying), lambda exchanged: ((1 - 2 * exchanged) @ varying)[None])[0])


def macro_f1_test(first: Sequence[Predictions], second: Sequence[Predictions], track_ids: Sequence[str]) -> float:
    """Give p of the difference in macro F1 of two models (`exchange_test`).

    Parameters
    ----------
    first, second : sequence of Predictions
        Answers to tracks, one entry a seed; their labels are the same, in any order.
    track_ids : sequence of str
        The tracks that count.
    """
    labels = first[0].labels
    counts = [[_counts_by_track(seed, labels, track_ids) for seed in seeds] for seeds in (first, second)]
    pairs = _pairs_of_seeds(counts[0], counts[1])
    varying = np.any([(one != other).any(axis=(0, 2)) for one, other in pairs], axis=0)

    def difference(exchanged: Float64) -> Float64:
        total = np.zeros(len(exchanged))
        for one, other in pairs:
            moved = exchanged @ (other - one)[:, varying]  # (2, n_draws, n_labels), as both below
            of_first, of_second = one.sum(axis=1)[:, None] + moved, other.sum(axis=1)[:, None] - moved
            total += _mean_f1(*of_second) - _mean_f1(*of_first)
        return total[None] / len(pairs)

    return float(exchange_test(int(varying.sum()), difference)[0])


def areas_test(presence: Float64, first: Sequence[Float64], second: Sequence[Float64]) -> tuple[float, float]:
    """Give p of the differences in the mean areas under both curves of two taggers (`exchange_test`).

    Ranks among the tracks are exchanged: areas ask for nothing else, and two taggers may score on different scales.

    Parameters
    ----------
    presence : ndarray, shape (n_tracks, n_tags)
        1 or 0; NaN where unknown. Every tag can be measured.
    first, second : sequence of ndarray, shape (n_tracks, n_tags) each
        Scores, one entry a seed.

    Returns
    -------
    (float, float)
        Of the areas under the ROC curves, and of those under the precision-recall curves.
    """
    pairs = _pairs_of_seeds([_ranks(scores) for scores in first], [_ranks(scores) for scores in second])
    varying = np.any([(one != other).any(axis=1) for one, other in pairs], axis=0)
    truth = np.concatenate([presence, presence])

    def difference(exchanged: Float64) -> Float64:
        moved = np.zeros((len(presence), len(exchanged)))
        moved[varying] = exchanged.T
        # every track counts once on each side: as the one tagger ranked it, or as the other did
        of_first, of_second = np.concatenate([1 - moved, moved]), np.concatenate([moved, 1 - moved])
        total = np.zeros((2, len(exchanged)))
        for one, other in pairs:
            ranks = np.concatenate([one, other])
            for tag in range(ranks.shape[1]):
                total += areas(truth[:, tag], ranks[:, tag], of_second)
                total -= areas(truth[:, tag], ranks[:, tag], of_first)
        return np.asarray(total / (len(pairs) * presence.shape[1]))

    found = exchange_test(int(varying.sum()), difference, n_draws=_N_DRAWS_OF_AREAS, block=_BLOCK_OF_AREAS)
    return float(found[0]), float(found[1])


def exchange_test(
    n_tracks: int, difference: Callable[[Float64], Float64], *, n_draws: int = _N_DRAWS, block: int = _BLOCK
) -> Float64:
    """Two-sided permutation test: where two models do not differ, what they said of a track could be exchanged.

    Parameters
    ----------
    n_tracks : int
        Tracks of which the two said different things: of others an exchange changes nothing.
    difference : callable
        Takes 1 where a track is exchanged and 0 where not, shape (n, n_tracks); gives the differences of the two in
        every draw, one measure a row, shape (n_measures, n).
    n_draws : int
        Up to so many ways to exchange, all of them are tried, and p is exact; else so many are drawn.
    block : int
        Draws at a time.

    Returns
    -------
    ndarray, shape (n_measures,)
        The share of ways in which a difference is at least as large as it is, without regard to its sign.
    """
    observed = np.abs(difference(np.zeros((1, n_tracks)))) - _TINY  # (n_measures, 1)
    is_exact = n_tracks < n_draws.bit_length()  # 2 ** n_tracks ways are no more than n_draws
    n_ways = 2**n_tracks if is_exact else n_draws
    random = np.random.default_rng(_SEED)
    n_as_large = np.zeros(len(observed))
    for start in range(0, n_ways, block):
        ways = np.arange(start, min(start + block, n_ways))
        if is_exact:  # the bits of a number say which tracks
            exchanged = (ways[:, None] >> np.arange(n_tracks)) & 1
        else:
            exchanged = random.integers(0, 2, size=(len(ways), n_tracks))
        n_as_large += (np.abs(difference(exchanged.astype(np.float64))) >= observed).sum(axis=1)

    if is_exact:
        return n_as_large / n_ways
    return (1 + n_as_large) / (1 + n_ways)  # no number of draws shows that a difference is impossible


def _pairs_of_seeds(first: Sequence[_Seed], second: Sequence[_Seed]) -> list[tuple[_Seed, _Seed]]:
    """Pair seeds; where the two have unequal numbers each is taken as often as all others, so that means stay."""
    n_pairs = math.lcm(len(first), len(second))
    return [(first[number % len(first)], second[number % len(second)]) for number in range(n_pairs)]


def _counts_by_track(tracks: Predictions, labels: Sequence[str], track_ids: Sequence[str]) -> Float64:
    """Right answers, and answers and truths together, of every track by label, shape (2, n_tracks, n_labels)."""
    place = {track_id: number for number, track_id in enumerate(track_ids)}
    rows = np.array([row for row, track_id in enumerate(tracks.track_ids) if track_id in place], dtype=np.intp)
    places = np.array([place[tracks.track_ids[row]] for row in rows], dtype=np.intp)
    column = np.array([labels.index(label) for label in tracks.labels], dtype=np.intp)
    truth, said = column[tracks.truth[rows]], column[tracks.predicted[rows]]

    counts = np.zeros((2, len(track_ids), len(labels)))
    np.add.at(counts[0], (places, truth), truth == said)
    for answers in (truth, said):
        np.add.at(counts[1], (places, answers), 1.0)
    return counts


def _mean_f1(right: Float64, counted: Float64) -> Float64:
    """Macro F1 of counts by label, shape (n_draws, n_labels) each; 0 of a label that is neither true nor said."""
    return np.asarray((2 * right / np.maximum(counted, _TINY)).mean(axis=1))


def _ranks(scores: NDArray[np.floating]) -> Float64:
    """Rank of every row in its column, from 1 on; equal ones share the mean of their ranks."""
    ranks = np.empty(scores.shape)
    for column, values in enumerate(scores.T):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks[:, column] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
