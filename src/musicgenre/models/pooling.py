"""How several answers become one: the segments of one track, and the models of an ensemble. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre._numbers import check_finite, log_probabilities, softmax
from musicgenre.errors import DataError

Pooling = Literal["mean", "max", "vote"]
"""How the segments of one track score together."""

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
TAG_POOLINGS: tuple[Pooling, ...] = ("mean", "max")

SMALLEST = 1e-6
"""Probabilities below this count as this: one model's certainty must not outweigh all others."""

_FLOOR_SHARE = 0.1
"""Of an even guess: what stacking takes for the least that a model can mean."""

_TIE_BREAKER = 1e-3
"""Weight of the mean score beside whole votes: too small to outweigh one vote, enough to decide between equals."""

_SUM_TOLERANCE = 1e-6
_SHOWN = 80  # characters of a value in a message

Array = NDArray[np.float64]


def pool_scores(scores: NDArray[np.floating[Any]], pooling: Pooling) -> Array:
    """Let the segments of one track score together.

    Parameters
    ----------
    scores : ndarray, shape (n_segments, n_labels)
        Probabilities of every segment.
    pooling : {"mean", "max", "vote"}
        Mean of the probabilities; their maximum, scaled to a sum of 1; or the share of segments that voted for the
        label (equal votes are decided by the mean).

    Returns
    -------
    ndarray, shape (n_labels,)
    """
    mean = np.asarray(scores.mean(axis=0), dtype=np.float64)
    if pooling == "mean":
        return mean

    if pooling == "max":
        # where every maximum is 0 there is nothing to scale
        highest = scores.max(axis=0)
        total = float(highest.sum())
        return np.asarray(highest / total, dtype=np.float64) if total > 0 else mean

    votes = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) + _TIE_BREAKER * mean
    return np.asarray(votes / votes.sum())


def pool_tag_scores(scores: NDArray[np.floating[Any]], pooling: Pooling) -> Array:
    """Let the segments of one track score its tags together: mean or maximum of every tag's probability.

    Parameters
    ----------
    scores : ndarray, shape (n_segments, n_tags)
        Probabilities of every segment.
    pooling : {"mean", "max"}
        A vote would need one answer per segment, and tags have any number.

    Returns
    -------
    ndarray, shape (n_tags,)
    """
    together = scores.max(axis=0) if pooling == "max" else scores.mean(axis=0)
    return np.asarray(together, dtype=np.float64)


class Mixture(Protocol):
    """What makes one answer of several."""

    def __call__(self, members: Array) -> Array:
        """Mix.

        Parameters
        ----------
        members : ndarray, shape (n_models, n_tracks, n_labels)
            Probabilities.

        Returns
        -------
        ndarray, shape (n_tracks, n_labels)
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Tell what `mixture_from_settings` makes it from again."""
        ...


class Weighted:
    """A weighted mean of the probabilities.

    Parameters
    ----------
    weights : array, shape (n_models,)
        Not negative, with sum 1.

    Raises
    ------
    DataError
        If they are not.
    """

    def __init__(self, weights: ArrayLike) -> None:
        self.weights = _numbers(weights, "weights")
        sums_to_1 = abs(self.weights.sum() - 1.0) <= _SUM_TOLERANCE
        if self.weights.ndim != 1 or (self.weights < 0).any() or not sums_to_1:
            raise DataError(f"models cannot be weighted by {weights!r}", valid="one number a model, 0 or more, sum 1")

    def __call__(self, members: Array) -> Array:
        """Mix."""
        return np.asarray(np.tensordot(self.weights, members, axes=1))

    def settings(self) -> dict[str, Any]:
        """Give the weights."""
        return {"weights": self.weights.tolist()}


class Stacked:
    """A multinomial logistic regression on the models' log-probabilities, each model's with mean 0 over the labels.

    Parameters
    ----------
    coefficients : array, shape (n_labels, n_models * n_labels)
    intercepts : array, shape (n_labels,)
    floor : float
        Probabilities below this count as this. Ensembles from before it was kept have the default.

    Raises
    ------
    DataError
        If their shapes disagree, a value is not finite, or the floor is no probability.
    """

    def __init__(self, coefficients: ArrayLike, intercepts: ArrayLike, floor: float = SMALLEST) -> None:
        self.coefficients = _numbers(coefficients, "coefficients")
        self.intercepts = _numbers(intercepts, "intercepts")
        self.floor = float(_numbers(floor, "the floor"))
        if not 0.0 < self.floor < 1.0:
            raise DataError(f"a regression cannot have the floor {self.floor:g}", valid="above 0, below 1")
        if self.coefficients.ndim != 2 or self.intercepts.shape != self.coefficients.shape[:1]:
            raise DataError(
                f"a regression cannot have coefficients of shape {self.coefficients.shape} and intercepts of shape "
                f"{self.intercepts.shape}",
                valid="(n_labels, n_models * n_labels) and (n_labels,)",
            )

    def __call__(self, members: Array) -> Array:
        """Mix."""
        return softmax(evidence(members, self.floor) @ self.coefficients.T + self.intercepts)

    def settings(self) -> dict[str, Any]:
        """Give coefficients, intercepts and floor."""
        return {
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
            "floor": self.floor,
        }


def stacking_floor(n_labels: int) -> float:
    """Give the probability below which stacking tells nothing apart.

    The share of trees that name a label is 0 where none of a few hundred does, which says little more than a share of
    one in a hundred; its logarithm must not say that it can never be.
    """
    return _FLOOR_SHARE / n_labels


def evidence(members: Array, floor: float = SMALLEST) -> Array:
    """Log-probabilities with mean 0 over the labels, shape (n_tracks, n_models * n_labels)."""
    logs = log_probabilities(members, smallest=floor)
    centred = logs - logs.mean(axis=2, keepdims=True)
    return np.concatenate(list(centred), axis=1)


def mixture_from_settings(settings: Mapping[str, Any], n_models: int, n_labels: int) -> Mixture:
    """Make a mixture again.

    Parameters
    ----------
    settings : mapping
        What its `settings` told.
    n_models, n_labels : int
        What it has to fit.

    Raises
    ------
    DataError
        The settings are no mixture of `n_models` models over `n_labels` labels.
    """
    mixture: Weighted | Stacked
    wanted: tuple[int, ...]
    if "coefficients" in settings:
        mixture = Stacked(settings["coefficients"], settings.get("intercepts", ()), settings.get("floor", SMALLEST))
        shape, wanted = mixture.coefficients.shape, (n_labels, n_models * n_labels)
    else:
        mixture = Weighted(settings.get("weights", ()))
        shape, wanted = mixture.weights.shape, (n_models,)

    if shape != wanted:
        raise DataError(f"{n_models} models over {n_labels} labels cannot be mixed by {shape} numbers")
    return mixture


def _numbers(values: ArrayLike, name: str) -> Array:
    """Take over numbers that somebody may have written by hand."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        # a whole table would fill the screen
        shown = repr(values)
        if len(shown) > _SHOWN:
            shown = f"{shown[: _SHOWN - 3]}..."
        raise DataError(f"{name} {shown} are no table of numbers") from error

    check_finite(array, name)
    return array
