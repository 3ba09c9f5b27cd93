"""Music at large, as MSD MusiCNN hears it: what the genres of a taught head are held against.

A head of two genres takes all music for one of the two. Whether a track is of them at all is asked as in speaker
verification: how much likelier is it in a genre than in music at large? Both are normal distributions that share one
covariance, that within the ten genres of GTZAN, so that the logarithm of the ratio is linear in the mean embedding.
It is the relative Mahalanobis distance of J. Ren et al., A simple fix to Mahalanobis distance for improving near-OOD
detection, 2021. `music_at_large.json` beside this file holds it; `scripts/fit_music_at_large.py` fits it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from musicgenre.models.discriminant import Linear

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MusicAtLarge:
    """Where music lies: a mean embedding `@ axes + offset` has a mean of 0, and within a genre unit covariance.

    Parameters
    ----------
    axes : ndarray, shape (width, n_axes)
    offset : ndarray, shape (n_axes,)
    """

    axes: Float64
    offset: Float64

    def ratio(self, features: Float64, labels: NDArray[np.intp], n_labels: int) -> Linear:
        """Fit how much likelier a track is in each label than in music at large.

        Parameters
        ----------
        features : ndarray, shape (n_tracks, width)
            Mean embeddings; of wider ones the values in front are taken.
        labels : ndarray of int, shape (n_tracks,)
            Each of 0..n_labels - 1 at least once.
        n_labels : int

        Returns
        -------
        Linear
            Gives the logarithm of the ratio, by label.
        """
        places = features[:, : len(self.axes)] @ self.axes + self.offset
        centres = np.stack([places[labels == label].mean(axis=0) for label in range(n_labels)])
        bias = centres @ self.offset - (centres**2).sum(axis=1) / 2
        return Linear(self.axes @ centres.T, bias)


@cache
def load_music_at_large() -> MusicAtLarge:
    """Load the distribution that comes with this package."""
    text = resources.files("musicgenre.models").joinpath("music_at_large.json").read_text(encoding="utf-8")
    content = json.loads(text)
    return MusicAtLarge(np.array(content["axes"], np.float64), np.array(content["offset"], np.float64))
