"""A bundle of several classifiers that answer together; each cuts tracks and computes features in its own way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre.bundle._container import read_sealed
from musicgenre.bundle._joined import prefix_of, taken_out
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.load import Bundle, bundle_of
from musicgenre.errors import BundleError
from musicgenre.models.discriminant import logits_of, softmax


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleBundle:
    """A loaded ensemble. Safe to share between threads.

    Parameters
    ----------
    card : BundleCard
        What it says, and how the members answer together.
    members : tuple of Bundle
        The classifiers.
    """

    card: BundleCard
    members: tuple[Bundle, ...]

    def probabilities(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mix what the members say.

        Parameters
        ----------
        members : ndarray, shape (n_models, n, n_labels)
            Probabilities of tracks or of segments, in the order of each member's own labels.

        Returns
        -------
        ndarray, shape (n, n_labels)
            Calibrated probabilities, in the order of the ensemble's labels.
        """
        aligned = [
            scores[:, [bundle.card.labels.index(label) for label in self.card.labels]]
            for bundle, scores in zip(self.members, members, strict=True)
        ]
        mixed = self.card.mix(np.stack(aligned))
        return mixed if self.card.temperature == 1.0 else softmax(logits_of(mixed) / self.card.temperature)


def load_ensemble(path: str | os.PathLike[str], *, threads: int | None = None) -> EnsembleBundle:
    """Load an ensemble.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.
    threads : int, optional
        Rows that each member may run at a time; as many as there are cores by default.

    Raises
    ------
    BundleError
        When the file is missing, no ensemble, too new, or damaged.
    MissingExtraError
        When the front end of a member needs packages that are not installed.
    """
    content, card = read_sealed(Path(path))
    if card.kind != "ensemble":
        raise BundleError(f"{path} is no ensemble but one {card.kind}", next_step="Use musicgenre.bundle.load_bundle")
    members = (
        bundle_of(taken_out(content, n, str(path)), own, f"{own.name} in {path}", threads=threads, prefix=prefix_of(n))
        for n, own in enumerate(card.member_cards)
    )
    return EnsembleBundle(card, tuple(members))
