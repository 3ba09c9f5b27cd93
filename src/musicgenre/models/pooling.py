"""How the segments of one track score together, when a run is scored and when its bundle answers. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import DataError
from musicgenre.models.discriminant import softmax

Pooling = Literal["mean", "max", "vote"]
"""How the segments of one track score together."""

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
TAG_POOLINGS: tuple[Pooling, ...] = ("mean", "max")

_TIE_BREAKER = 1e-3
"""Weight of the mean score beside whole votes: too small to outweigh one vote, enough to decide between equals."""


def pooled(scores: NDArray[np.floating[Any]], how: Pooling) -> NDArray[np.float64]:
    """Let the segments of one track score together.

    Parameters
    ----------
    scores : ndarray, shape (n_segments, n_labels)
        Probabilities of every segment.
    how : {"mean", "max", "vote"}
        Mean of the probabilities; their maximum, scaled to a sum of 1; or the share of segments that voted for the
        label (equal votes are decided by the mean).

    Returns
    -------
    ndarray, shape (n_labels,)
    """
    mean = np.asarray(scores.mean(axis=0), dtype=np.float64)
    if how == "mean":
        return mean
    if how == "max":
        highest = scores.max(axis=0)
        total = float(highest.sum())
        return np.asarray(highest / total, dtype=np.float64) if total > 0 else mean
    votes = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) + _TIE_BREAKER * mean
    return np.asarray(votes / votes.sum())


def pooled_tags(scores: NDArray[np.floating[Any]], how: Pooling) -> NDArray[np.float64]:
    """Let the segments of one track score its tags together: mean or maximum of every tag's probability.

    Parameters
    ----------
    scores : ndarray, shape (n_segments, n_tags)
        Probabilities of every segment.
    how : {"mean", "max"}
        A vote would need one answer a segment, and tags have any number.

    Returns
    -------
    ndarray, shape (n_tags,)
    """
    return np.asarray(scores.max(axis=0) if how == "max" else scores.mean(axis=0), dtype=np.float64)


SMALLEST = 1e-6
"""Probabilities below this count as this: one model's certainty must not outweigh all others."""

Array = NDArray[np.float64]


class Mixture(Protocol):
    """What makes one answer of several."""

    def __call__(self, members: Array) -> Array:
        """Take members to the probabilities of the mixture, shape (n_tracks, n_labels)."""
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
        if self.weights.ndim != 1 or (self.weights < 0).any() or abs(self.weights.sum() - 1.0) > 1e-6:
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

    Raises
    ------
    DataError
        If their shapes disagree, or a value is not finite.
    """

    def __init__(self, coefficients: ArrayLike, intercepts: ArrayLike) -> None:
        self.coefficients = _numbers(coefficients, "coefficients")
        self.intercepts = _numbers(intercepts, "intercepts")
        if self.coefficients.ndim != 2 or self.intercepts.shape != self.coefficients.shape[:1]:
            raise DataError(
                f"a regression cannot have coefficients of shape {self.coefficients.shape} and intercepts of shape "
                f"{self.intercepts.shape}",
                valid="(n_labels, n_models * n_labels) and (n_labels,)",
            )

    def __call__(self, members: Array) -> Array:
        """Mix."""
        return softmax(evidence(members) @ self.coefficients.T + self.intercepts)

    def settings(self) -> dict[str, Any]:
        """Give coefficients and intercepts."""
        return {"coefficients": self.coefficients.tolist(), "intercepts": self.intercepts.tolist()}


def evidence(members: Array) -> Array:
    """Log-probabilities with mean 0 over the labels, shape (n_tracks, n_models * n_labels)."""
    logs = np.log(np.maximum(members, SMALLEST))
    centred = logs - logs.mean(axis=2, keepdims=True)
    return np.concatenate(list(centred), axis=1)


def mixture_from_settings(settings: Mapping[str, Any], n_models: int, n_labels: int) -> Mixture:
    """Make a mixture again.

    Raises
    ------
    DataError
        The settings are no mixture of ``n_models`` models over ``n_labels`` labels.
    """
    made: Weighted | Stacked
    wanted: tuple[int, ...]
    if "coefficients" in settings:
        made = Stacked(settings["coefficients"], settings.get("intercepts", ()))
        array, wanted = made.coefficients, (n_labels, n_models * n_labels)
    else:
        made = Weighted(settings.get("weights", ()))
        array, wanted = made.weights, (n_models,)
    if array.shape != wanted:
        raise DataError(f"{n_models} models over {n_labels} labels cannot be mixed by {array.shape} numbers")
    return made


def _numbers(values: ArrayLike, name: str) -> Array:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        shown = repr(values)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise DataError(f"{name} {shown} are no table of numbers") from error
    if not np.isfinite(array).all():
        raise DataError(f"{name} hold values that are not finite")
    return array
