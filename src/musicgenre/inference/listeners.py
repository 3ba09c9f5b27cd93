"""Listeners: what turns tracks into scores. One for MusiCNN with a genre head, one for exported classifiers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

from musicgenre.errors import BundleError
from musicgenre.inference._bundle_listener import BundleListener, Judgement
from musicgenre.inference.framing import Coverage, Float32, Framing
from musicgenre.inference.hearing import Ear, Heard, Hearer, Outputs
from musicgenre.models.pooling import pooled

if TYPE_CHECKING:
    from musicgenre.bundle.load import Bundle
    from musicgenre.models.head import GenreHead


class Listener(Protocol):
    """A loaded model: hears tracks, and judges what it heard."""

    name: str
    sha256: str
    labels: tuple[str, ...]
    tag_names: tuple[str, ...]
    framing: Framing
    unsure_threshold: float
    style_tags: frozenset[str]
    tag_threshold: float

    def ear(self, coverage: Coverage) -> Hearer:
        """Make what hears as much of a track as ``coverage`` says."""
        ...

    def judge(self, heard: Heard) -> Judgement:
        """Turn all that was heard of a track into one judgement."""
        ...


class HeadListener:
    """An embedding bundle (MusiCNN) with a genre head on top."""

    def __init__(self, bundle: Bundle, head: GenreHead) -> None:
        card = bundle.card
        if card.kind != "embedding":
            raise BundleError(
                f"the head {head.name} cannot stand on {card.name}, which is a {card.kind}",
                valid="An embedding bundle such as msd-musicnn",
            )
        self.name = head.name
        self.sha256 = hashlib.sha256(f"{card.sha256}{head.to_json()}".encode()).hexdigest()
        self.labels = tuple(head.labels)
        self.tag_names = tuple(card.tags)
        self.framing = Framing(card.sample_rate_hz, card.segment_samples, card.hop_samples, card.lead_samples)
        self.unsure_threshold = head.unsure_threshold
        self.style_tags = frozenset(head.style_tags)
        self.tag_threshold = head.tag_threshold
        self._bundle = bundle
        self._head = head

    def ear(self, coverage: Coverage) -> Hearer:
        """Make an ear that brings segments."""
        return Ear(self.framing, coverage, self.hear)

    def hear(self, rows: Float32) -> Outputs:
        """Give ``tags`` (n, n_tags) and ``embedding`` (n, width)."""
        return self._bundle.run(rows)

    def judge(self, heard: Heard) -> Judgement:
        """Apply the head to all segments together and to each alone."""
        tags, embedding = heard.outputs["tags"], heard.outputs["embedding"]
        return Judgement(
            self._head.score(tags, embedding),
            self._head.timeline(tags, embedding),
            tags.mean(axis=0, dtype=np.float64),
        )


class ClassifierListener(BundleListener):
    """An exported classifier: logits for every segment, and those of the track."""

    tag_names: tuple[str, ...] = ()
    style_tags: frozenset[str] = frozenset()
    tag_threshold = 1.0

    def __init__(self, bundle: Bundle) -> None:
        card = bundle.card
        if card.kind != "classifier":
            raise BundleError(
                f"{card.name} is no classifier but an {card.kind} bundle",
                valid="an exported classifier",
            )
        super().__init__(bundle)
        self.labels = tuple(card.labels)
        self.unsure_threshold = card.unsure_threshold

    def judge(self, heard: Heard) -> Judgement:
        """Let the segments' probabilities score together as the run did."""
        card = self._bundle.card
        probabilities = card.probabilities(heard.outputs["logits"])
        return Judgement(pooled(probabilities, card.scoring), probabilities, np.zeros(0))
