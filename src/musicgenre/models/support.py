"""Whether a sound is like the music that a head was fitted on: an answer needs support, not confidence alone.

A linear classifier is as sure of what is far from everything as of what it knows. Real music keeps the network's
embedding near a few dozen directions; speech, tones and noise leave them. What lies outside these directions is the
distance here, and beyond a limit the track gets no answer. Nor does a sound that stands still, as a tone or steady
noise does, nor a track that is likelier among music at large than among the genres (`musicgenre.models.at_large`).
NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import BundleError
from musicgenre.models.discriminant import Linear

Float64 = NDArray[np.float64]

Unsupported = Literal["unlike the training music", "not music"]
"""Why there is no support: the second where hardly a tag is heard either."""

MOST_AXES = 50
TRACKS_PER_AXIS = 2  # fewer tracks than that give an axis for every oddity of theirs
VALUES_PER_AXIS = 2  # of fewer values, nothing would lie outside the axes

LEAST_TAGS = 1.5
"""Expected number of MusiCNN's 50 tags below which an unsupported track is called no music: speech and tones have 1.0
to 1.5, music 1.5 to 2."""

RIGHT_ANSWERS_LOST = 0.02
"""Share of the right answers that the limit may cost."""

FEWEST_RIGHT = 20
"""Right answers without which no limit is set: the last of a handful says nothing of the next track."""

CHANGE_SHARE = 2 / 3
"""Of the change of the training track that changes least: what changes less than that stands still."""

FEWEST_TO_CHANGE = 3
"""Segments without which nothing is said of change."""

_SMALLEST_SCALE = 1e-6  # an output that never changes must not be divided by 0
_DIGITS = 4  # of each number in a file: the distance stays within a thousandth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Support:
    """What the embedding of the training music looks like.

    Parameters
    ----------
    centre, scale : ndarray, shape (width,)
        Mean and spread of each output over the training segments.
    axes : ndarray, shape (n_axes, width)
        Orthonormal directions in which standardised training segments spread.
    limit : float
        Largest distance of a track that gets an answer; infinite where too few tracks could tell one.
    least_tags : float
        Expected number of tags below which an unsupported track is called no music.
    ceilings : mapping of str to tuple of float
        For a tag, the largest mean probability that goes with each label: more of it speaks against that label.
    least_change : float
        How much the segments of a track differ at least (`change`); 0 where nothing is asked.
    ratio : Linear or None
        Weights (width, n_labels) and bias (n_labels,) that give the logarithm of how much likelier a mean embedding is
        in each label than in music at large; None where that is not known.
    least_ratio : float
        The smallest such logarithm, of the likeliest label, with which an answer is given.

    An embedding may have more values than `width`: then those in front are meant.
    """

    centre: Float64
    scale: Float64
    axes: Float64
    limit: float = inf
    least_tags: float = LEAST_TAGS
    ceilings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    least_change: float = 0.0
    ratio: Linear | None = None
    least_ratio: float = -inf

    def distance(self, embedding: ArrayLike) -> float:
        """How far the segments of a track, shape (n_segments, width), lie outside the axes: root mean square."""
        standard = self._standard(embedding)
        outside = (standard**2).sum(axis=1) - ((standard @ self.axes.T) ** 2).sum(axis=1)
        return float(np.sqrt(max(0.0, outside.mean())))

    def change(self, embedding: ArrayLike) -> float:
        """How much the segments of a track differ from each other: root mean square of the standardised spread."""
        standard = self._standard(embedding)
        around = ((standard - standard.mean(axis=0)) ** 2).sum()
        return float(np.sqrt(around / max(1, len(standard) - 1)))

    def log_ratio(self, embedding: ArrayLike) -> float:
        """How much likelier, as a logarithm, a track is in its likeliest label than in music at large."""
        if self.ratio is None:
            return inf
        mean = np.asarray(embedding, dtype=np.float64)[:, : self.centre.size].mean(axis=0)
        return float(self.ratio.logits(mean).max())

    def is_steady(self, embedding: ArrayLike) -> bool:
        """Whether a track stands still as no music does; never of fewer than three segments."""
        return len(np.asarray(embedding)) >= FEWEST_TO_CHANGE and self.change(embedding) < self.least_change

    def is_far(self, embedding: ArrayLike) -> bool:
        """Whether a track lies beyond the limit, where no music was."""
        return self.distance(embedding) > self.limit

    def is_strange(self, embedding: ArrayLike) -> bool:
        """Whether a track is far or steady: then nothing that is heard of it counts."""
        return self.is_steady(embedding) or self.is_far(embedding)

    def problem(self, embedding: ArrayLike, tags: Mapping[str, float], label: int) -> Unsupported | None:
        """Tell why an answer has no support, or None where it has.

        Parameters
        ----------
        embedding : array_like, shape (n_segments, width)
            Of the heard segments.
        tags : mapping of str to float
            Mean probability of every tag.
        label : int
            Number of the most probable label.
        """
        if self.is_steady(embedding):
            return "not music"
        if self.is_far(embedding):
            return "not music" if sum(tags.values()) < self.least_tags else "unlike the training music"

        for tag, most in self.ceilings.items():
            if tags[tag] > most[label]:
                return "unlike the training music"
        return "unlike the training music" if self.log_ratio(embedding) < self.least_ratio else None

    def as_values(self) -> dict[str, Any]:
        """Give it as plain values, as heads hold it."""
        values: dict[str, Any] = {
            **({} if self.limit == inf else {"limit": self.limit}),
            "least_tags": self.least_tags,
            "ceilings": {tag: list(most) for tag, most in self.ceilings.items()},
            "centre": _rounded(self.centre),
            "scale": _rounded(self.scale),
            "axes": [_rounded(axis) for axis in self.axes],
        }
        if self.least_change:
            values["least_change"] = self.least_change
        if self.ratio is not None:
            weights = [_rounded(row) for row in self.ratio.weights]
            values["ratio"] = {"weights": weights, "bias": _rounded(self.ratio.bias), "least": self.least_ratio}
        return values

    @property
    def asks_more(self) -> bool:
        """Whether it asks for more than the first versions of it knew (change, a ratio), or has no limit."""
        return self.least_change > 0 or self.ratio is not None or self.limit == inf

    @classmethod
    def from_values(cls, values: object, where: str, *, n_labels: int) -> Support:
        """Read it from a head.

        Parameters
        ----------
        values : object
            What `as_values` gave.
        where : str
            The file, for messages.
        n_labels : int
            Number of labels of the head.

        Raises
        ------
        BundleError
            When it is damaged.
        """
        try:
            parts: Mapping[str, Any] = dict(values)  # type: ignore[call-overload]  # refused below
            ratio = parts.get("ratio")
            linear, least_ratio = None, -inf
            if ratio is not None:
                linear = Linear(np.array(ratio["weights"], np.float64), np.array(ratio["bias"], np.float64))
                least_ratio = float(ratio["least"])
            support = cls(
                centre=np.array(parts["centre"], np.float64),
                scale=np.array(parts["scale"], np.float64),
                axes=np.array(parts["axes"], np.float64),
                limit=float(parts["limit"]) if "limit" in parts else inf,
                least_tags=float(parts["least_tags"]),
                ceilings={str(tag): tuple(map(float, most)) for tag, most in parts["ceilings"].items()},
                least_change=float(parts.get("least_change", 0.0)),
                ratio=linear,
                least_ratio=least_ratio,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(where, f"{type(error).__name__}: {error}") from error

        width = support.centre.size
        fits = support.centre.shape == support.scale.shape == (width,) and support.axes.shape[1:] == (width,)
        numbers = [support.least_tags, support.least_change]
        if "limit" in parts:
            numbers.append(support.limit)
        for most in support.ceilings.values():
            fits = fits and len(most) == n_labels
            numbers += most
        arrays = [support.centre, support.scale, support.axes]
        if support.ratio is not None:
            weights, bias = support.ratio.weights, support.ratio.bias
            fits = fits and weights.shape == (width, n_labels) and bias.shape == (n_labels,)
            arrays += [weights, bias]
            numbers.append(support.least_ratio)
        are_finite = all(map(isfinite, numbers)) and all(np.isfinite(array).all() for array in arrays)
        if not (fits and width and are_finite and (support.scale > 0).all()):
            raise _damaged(where, "its parts do not fit together")
        return support

    def _standard(self, embedding: ArrayLike) -> Float64:
        """The embedding in units of the training music's spread, shape (n_segments, width)."""
        values = np.asarray(embedding, dtype=np.float64)[:, : self.centre.size]
        return np.asarray((values - self.centre) / self.scale)


def n_axes_for(n_tracks: int) -> int:
    """How many axes so many training tracks give."""
    return min(MOST_AXES, n_tracks // TRACKS_PER_AXIS)


def fit_support(segments: Sequence[ArrayLike], *, n_axes: int | None = None) -> Support:
    """Fit all but the limit, which must come from tracks that the fit has not seen.

    Parameters
    ----------
    segments : sequence of array_like, each of shape (n_segments, width)
        Embedding of every training track.
    n_axes : int, optional
        As many as so many tracks give, unless said otherwise: distances outside of fewer axes are larger. Never more
        than half as many as an embedding has values.
    """
    stacked = np.concatenate([np.asarray(part, dtype=np.float64) for part in segments])
    centre, scale = stacked.mean(axis=0), np.maximum(stacked.std(axis=0), _SMALLEST_SCALE)
    standard = (stacked - centre) / scale

    # The directions of the largest spread; eigh gives the smallest first.
    n_axes = n_axes_for(len(segments)) if n_axes is None else n_axes
    *_, vectors = np.linalg.eigh(standard.T @ standard)
    axes = vectors.T[::-1][: min(n_axes, len(centre) // VALUES_PER_AXIS)]
    support = Support(centre=centre, scale=scale, axes=axes)
    changes = [support.change(part) for part in segments if len(np.asarray(part)) >= FEWEST_TO_CHANGE]
    least_change = _floor(CHANGE_SHARE * min(changes)) if changes else 0.0
    return replace(support, least_change=least_change)


def at_limit(support: Support, limit: float) -> Support:
    """Give it the limit, rounded up to three digits."""
    return replace(support, limit=float(np.ceil(limit * 1000) / 1000))


def at_least_ratio(support: Support, ratio: Linear, least: float) -> Support:
    """Give it a ratio and its limit, rounded down to three digits."""
    return replace(support, ratio=ratio, least_ratio=_floor(least))


def _floor(value: float) -> float:
    return float(np.floor(value * 1000) / 1000)


def _rounded(values: Float64) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _damaged(where: str, reason: str) -> BundleError:
    return BundleError(
        f"{where} has a damaged support ({reason})",
        valid="centre, scale, axes, limit, least_tags and ceilings that fit together",
        next_step="Get, teach or export the model anew",
    )
