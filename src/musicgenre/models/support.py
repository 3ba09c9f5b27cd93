"""Whether a sound is like the music that a head was fitted on: an answer needs support, not confidence alone.

A linear classifier is as sure of what is far from everything as of what it knows. Real music keeps the network's
embedding near a few dozen directions; speech, tones and noise leave them. What lies outside these directions is the
distance here, and beyond a limit the track gets no answer. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from musicgenre.errors import BundleError

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
        Largest distance of a track that gets an answer.
    least_tags : float
        Expected number of tags below which an unsupported track is called no music.
    ceilings : mapping of str to tuple of float
        For a tag, the largest mean probability that goes with each label: more of it speaks against that label.
    """

    centre: Float64
    scale: Float64
    axes: Float64
    limit: float = inf
    least_tags: float = LEAST_TAGS
    ceilings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def distance(self, embedding: ArrayLike) -> float:
        """How far the segments of a track, shape (n_segments, width), lie outside the axes: root mean square."""
        standard = (np.asarray(embedding, dtype=np.float64) - self.centre) / self.scale
        outside = (standard**2).sum(axis=1) - ((standard @ self.axes.T) ** 2).sum(axis=1)
        return float(np.sqrt(max(0.0, outside.mean())))

    def is_far(self, embedding: ArrayLike) -> bool:
        """Whether a track lies beyond the limit, where no music was: then nothing that is heard of it counts."""
        return self.distance(embedding) > self.limit

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
        if self.is_far(embedding):
            return "not music" if sum(tags.values()) < self.least_tags else "unlike the training music"

        for tag, most in self.ceilings.items():
            if tags[tag] > most[label]:
                return "unlike the training music"
        return None

    def as_values(self) -> dict[str, Any]:
        """Give it as plain values, as heads hold it."""
        return {
            "limit": self.limit,
            "least_tags": self.least_tags,
            "ceilings": {tag: list(most) for tag, most in self.ceilings.items()},
            "centre": _rounded(self.centre),
            "scale": _rounded(self.scale),
            "axes": [_rounded(axis) for axis in self.axes],
        }

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
            support = cls(
                centre=np.array(parts["centre"], np.float64),
                scale=np.array(parts["scale"], np.float64),
                axes=np.array(parts["axes"], np.float64),
                limit=float(parts["limit"]),
                least_tags=float(parts["least_tags"]),
                ceilings={str(tag): tuple(map(float, most)) for tag, most in parts["ceilings"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(where, f"{type(error).__name__}: {error}") from error

        width = support.centre.size
        fits = support.centre.shape == support.scale.shape == (width,) and support.axes.shape[1:] == (width,)
        numbers = [support.limit, support.least_tags]
        for most in support.ceilings.values():
            fits = fits and len(most) == n_labels
            numbers += most
        arrays = (support.centre, support.scale, support.axes)
        are_finite = all(map(isfinite, numbers)) and all(np.isfinite(array).all() for array in arrays)
        if not (fits and width and are_finite and (support.scale > 0).all()):
            raise _damaged(where, "its parts do not fit together")
        return support


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
    return Support(centre=centre, scale=scale, axes=axes)


def at_limit(support: Support, limit: float) -> Support:
    """Give it the limit, rounded up to three digits."""
    return replace(support, limit=float(np.ceil(limit * 1000) / 1000))


def _rounded(values: Float64) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _damaged(where: str, reason: str) -> BundleError:
    return BundleError(
        f"{where} has a damaged support ({reason})",
        valid="centre, scale, axes, limit, least_tags and ceilings that fit together",
        next_step="Get, teach or export the model anew",
    )
