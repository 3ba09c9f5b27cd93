"""Compare two runs on the tracks that both were tested on: a difference counts only against the spread over tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.audio.names import printable
from musicgenre.errors import RunError
from musicgenre.evaluation._same_question import check_same_question
from musicgenre.evaluation.evaluate import Folds, by_seed, track_level
from musicgenre.evaluation.metrics import resample_ratio
from musicgenre.evaluation.protocols import is_leaky
from musicgenre.models.pooling import Pooling
from musicgenre.runs.predictions import Predictions
from musicgenre.runs.runs import open_runs

_N_FLIPS = 10_000
_BLOCK = 500
_SEED = 20_001


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How two runs differ on the same tracks.

    Parameters
    ----------
    first, second : str
        Names of the runs.
    protocol : str
        The protocol that both stand under.
    n_tracks : int
        Tracks that both were tested on.
    first_accuracy, second_accuracy : float
        Track-level accuracy on those, mean over seeds.
    n_seeds : (int, int)
        Number of seeds of each.
    difference, low, high : float
        Second minus first, with the 95 % interval of a paired bootstrap over tracks.
    p_value : float
        Probability of a difference at least as large if the two were equally good.
    test : str
        ``McNemar, exact`` where each has one seed, else ``sign flips over tracks``.
    only_first, only_second : float
        Tracks that only the first, and only the second, got right (shares of seeds add up).
    warnings : tuple of str
        What a reader must know.
    """

    first: str
    second: str
    protocol: str
    n_tracks: int
    first_accuracy: float
    second_accuracy: float
    n_seeds: tuple[int, int]
    difference: float
    low: float
    high: float
    p_value: float
    test: str
    only_first: float
    only_second: float
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Plain text for the terminal."""
        width = max(len(self.first), len(self.second))
        verdict = "the two differ" if self.low > 0 or self.high < 0 else "no difference can be told from chance"
        interval = f"95 % interval {self.low:+.3f} to {self.high:+.3f}, paired bootstrap over tracks"
        if self.low == self.high:  # a bootstrap cannot vary what is the same for every track
            interval = "the same on every track, so that nothing tells how far off it may be"
        seeds = f"{self.n_seeds[0]} and {self.n_seeds[1]} seeds"
        lines = [
            f"{self.second} against {self.first}",
            f"  protocol {self.protocol}, test part, {self.n_tracks} tracks that both answered, {seeds}",
            *(f"  ! {warning}." for warning in self.warnings),
            f"  {self.first:<{width}}  {self.first_accuracy:.3f} track-level accuracy",
            f"  {self.second:<{width}}  {self.second_accuracy:.3f} track-level accuracy",
            f"  difference               {self.difference:+.3f} ({interval})",
            f"  only the first right     {self.only_first:g} tracks; only the second right {self.only_second:g}",
            f"  p = {self.p_value:.4f} ({self.test}): {verdict}",
        ]
        return "\n".join(lines) + "\n"


def compare(first: str | Path, second: str | Path, *, how: Pooling | None = None) -> Comparison:
    """Compare two runs (or groups of runs) on the test tracks they share.

    Raises
    ------
    RunError
        The two share no test track, or disagree about protocol, labels or a track's label.
    """
    groups = [open_runs(Path(first)), open_runs(Path(second))]
    check_same_question(groups[0][0], groups[1][0])
    seeds = [by_seed(group) for group in groups]
    right = [_right_by_track(group, how or runs[0].scoring) for group, runs in zip(seeds, groups, strict=True)]
    shared = [track_id for track_id in right[0] if track_id in right[1]]
    _check_same_truth(seeds[0], seeds[1], shared)
    a, b = (np.array([group[track_id] for track_id in shared]) for group in right)
    differences = b - a
    low, high = np.quantile(resample_ratio(differences, np.ones(len(shared))), [0.025, 0.975])
    single = all(len(group) == 1 for group in seeds)
    return Comparison(
        first=printable(Path(first).resolve().name),
        second=printable(Path(second).resolve().name),
        protocol=groups[0][0].protocol,
        n_tracks=len(shared),
        first_accuracy=float(a.mean()),
        second_accuracy=float(b.mean()),
        n_seeds=(len(seeds[0]), len(seeds[1])),
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_value=mcnemar(differences) if single else sign_flips(differences),
        test="McNemar, exact" if single else "sign flips over tracks",
        only_first=float(np.abs(differences[differences < 0]).sum()),
        only_second=float(differences[differences > 0].sum()),
        warnings=_warnings(groups[0][0].protocol, len(shared), (len(right[0]), len(right[1]))),
    )


def mcnemar(differences: NDArray[np.float64]) -> float:
    """Exact two-sided McNemar test; ``differences`` holds -1, 0 or 1 a track."""
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**n))  # integers: exact for any n


def sign_flips(differences: NDArray[np.float64]) -> float:
    """Two-sided permutation test: each track's difference could as well have had the other sign."""
    observed = abs(float(differences.sum()))
    random = np.random.default_rng(_SEED)
    extreme = 0
    for _ in range(_N_FLIPS // _BLOCK):
        signs = random.integers(0, 2, size=(_BLOCK, len(differences))) * 2 - 1
        extreme += int((np.abs(signs @ differences) >= observed - 1e-9).sum())
    return (1 + extreme) / (1 + _N_FLIPS)


def _right_by_track(seeds: dict[int, Folds], how: Pooling) -> dict[str, float]:
    """Share of seeds that answered each track rightly."""
    answers: dict[str, list[bool]] = {}
    for folds in seeds.values():
        tracks = track_level(folds, how)
        for track_id, right in zip(tracks.track_ids, (tracks.predicted == tracks.truth).tolist(), strict=True):
            answers.setdefault(track_id, []).append(right)
    return {track_id: float(np.mean(right)) for track_id, right in answers.items()}


def _check_same_truth(first: dict[int, Folds], second: dict[int, Folds], shared: Sequence[str]) -> None:
    if not shared:
        raise RunError("the two runs share no test track", next_step="Train both on the same manifest and split")
    truths = [_truth(folds) for seeds in (first, second) for folds in seeds.values()]
    for track_id in shared:
        labels = {truth[track_id] for truth in truths if track_id in truth}
        if len(labels) > 1:
            raise RunError(f"track {track_id!r} has different labels in the two runs: {', '.join(sorted(labels))}")


def _truth(folds: Sequence[Predictions]) -> dict[str, str]:
    return {
        track_id: fold.labels[int(label)]
        for fold in folds
        for track_id, label in zip(fold.track_ids, fold.truth, strict=True)
    }


def _warnings(protocol: str, n_shared: int, n_each: tuple[int, int]) -> tuple[str, ...]:
    found = []
    if is_leaky(protocol):
        found.append("LEAKY PROTOCOL: neither number measures how well new tracks are recognised")
    if n_shared < max(n_each):
        found.append(f"only {n_shared} tracks are shared, of {n_each[0]} and {n_each[1]}")
    return tuple(found)
