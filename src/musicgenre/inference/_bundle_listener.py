"""What listeners of exported models share: the bundle, how it cuts tracks, and how it hears them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from musicgenre.inference.framing import Coverage, Float32, Framing
from musicgenre.inference.hearing import Ear, Hearer, Outputs
from musicgenre.inference.track_hearing import TrackEar

if TYPE_CHECKING:
    from musicgenre.bundle.load import Bundle
    from musicgenre.features.track_sound import TrackSound


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a listener says about the heard segments of one track.

    Attributes
    ----------
    scores : ndarray, shape (n_labels,)
        Calibrated probabilities of the whole track.
    timeline : ndarray, shape (n_segments, n_labels)
        Probabilities of every segment alone.
    tags : ndarray, shape (n_tags,)
        Mean tag probabilities; empty without tags.
    """

    scores: NDArray[np.float64]
    timeline: NDArray[np.float64]
    tags: NDArray[np.float64]


class BundleListener:
    """A listener that hears with one bundle and no head of its own.

    Parameters
    ----------
    bundle : Bundle
        The model.
    """

    def __init__(self, bundle: Bundle) -> None:
        card = bundle.card
        self.name = card.name
        self.sha256 = card.sha256
        self.framing = Framing(
            card.sample_rate_hz,
            card.segment_samples,
            card.hop_samples,
            card.lead_samples,
            repeat_short=card.kind == "embedding",
        )
        self._bundle = bundle

    def ear(self, coverage: Coverage) -> Hearer:
        """Make an ear that brings segments, or one that brings the whole track too where the model wants it."""
        if self.hears_tracks:
            return TrackEar(self.framing, coverage, self.hear_track)
        return Ear(self.framing, coverage, self.hear)

    def hear(self, rows: Float32) -> Outputs:
        """Give what the bundle says of rows of samples, shape (n, segment_samples)."""
        return self._bundle.run(rows)

    @property
    def hears_tracks(self) -> bool:
        """Whether the model knows the whole track: :meth:`hear_track` is asked then, not :meth:`hear`."""
        return self._bundle.hears_tracks

    def hear_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> Outputs:
        """Give ``logits`` (n, n_labels) of the segments that begin at ``starts_s`` in a track."""
        return self._bundle.run_track(track, starts_s, segment_s)
