"""What a head hears with: an embedding bundle by name or by path, or both MusiCNNs side by side."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre.bundle.container import MOST_MODEL_MB
from musicgenre.bundle.load import Bundle, Float32, load_bundle
from musicgenre.bundle.store import DEFAULT_NAMES, ensure_bundle
from musicgenre.errors import BundleError

BOTH = "both"
"""The two MusiCNNs as one: their embeddings one behind the other, the tags of the first."""

_AGAIN = "Get both anew: musicgenre bundles get --force"


class BothBundles(Bundle):
    """Two embedding bundles that hear the same segments.

    Parameters
    ----------
    first, second : Bundle
        The tags are those of `first`; embeddings of shapes (n, a) and (n, b) become one of (n, a + b).

    Raises
    ------
    BundleError
        When one gives no embedding, or they cut sound in different ways.
    """

    def __init__(self, first: Bundle, second: Bundle) -> None:
        cuts = []
        for card in (first.card, second.card):
            if card.kind != "embedding":
                raise BundleError(f"{card.name} gives no embedding: it is a {card.kind}", next_step=_AGAIN)
            cuts.append((card.sample_rate_hz, card.segment_samples, card.hop_samples, card.level, card.hears))
        if cuts[0] != cuts[1]:
            raise BundleError(
                f"{first.card.name} and {second.card.name} hear different segments",
                next_step=_AGAIN,
            )
        checksum = hashlib.sha256(f"{first.card.sha256}{second.card.sha256}".encode()).hexdigest()
        self.card = replace(first.card, name=BOTH, sha256=checksum)
        self._both = (first, second)

    @property
    def hears_tracks(self) -> bool:
        """Whether it wants the whole track; MusiCNN never does."""
        return False

    @property
    def computes_features(self) -> bool:
        """Whether Python computes what the graph reads; of MusiCNN the graph does."""
        return False

    def run(self, rows: NDArray[np.floating]) -> dict[str, Float32]:
        """Run both on segments; parameters and errors are those of `Bundle.run`."""
        first, second = (bundle.run(rows) for bundle in self._both)
        return {"tags": first["tags"], "embedding": np.hstack([first["embedding"], second["embedding"]])}


def load_ears(name: str, *, threads: int | None = None, max_model_mb: int = MOST_MODEL_MB) -> Bundle:
    """Load what a head hears with.

    Parameters
    ----------
    name : str
        Name of a bundle in the cache, the path of one (`.onnx`) on this machine, or `both`.
    threads, max_model_mb
        As `load_bundle` takes them.

    Raises
    ------
    BundleError
        When it is not there, or damaged.
    """
    if name == BOTH:
        first, second = (load_bundle(ensure_bundle(single), threads=threads) for single in DEFAULT_NAMES)
        return BothBundles(first, second)
    path = Path(name)
    if path.suffix != ".onnx":
        return load_bundle(ensure_bundle(name), threads=threads)
    if name.startswith(("//", "\\\\")):  # whose head it is may be a stranger: nothing is fetched because it says so
        raise BundleError(
            f"{name} lies on another machine, and a taught model names none there", next_step="Copy it to this one"
        )
    return load_bundle(path, threads=threads, max_model_mb=max_model_mb)
