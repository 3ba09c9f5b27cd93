"""Taggers: models that say of every tag how likely it is, and name those that reach their threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from musicgenre.inference._bundle_listener import BundleListener, Judgement
from musicgenre.inference.answer import Answer, TimelineSegment, ranked
from musicgenre.inference.hearing import Heard, Outputs
from musicgenre.models.pooling import pooled_tags

if TYPE_CHECKING:
    from musicgenre.bundle.load import Bundle


class TagListener(BundleListener):
    """A published tagger (an embedding bundle, whose tags have no thresholds) or an exported one.

    Parameters
    ----------
    bundle : Bundle
        The model.
    """

    labels: tuple[str, ...] = ()
    unsure_threshold = 0.0
    style_tags: frozenset[str] = frozenset()
    tag_threshold = 1.0

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.tag_names = tuple(bundle.card.labels)
        self.tag_thresholds = tuple(bundle.card.thresholds)

    def judge(self, heard: Heard) -> Judgement:
        """Let the segments' probabilities score together as the run did."""
        probabilities = self._probabilities(heard.outputs)
        return Judgement(np.zeros(0), probabilities, pooled_tags(probabilities, self._bundle.card.scoring))

    def _probabilities(self, outputs: Outputs) -> NDArray[np.float64]:
        if "tags" in outputs:
            return outputs["tags"].astype(np.float64)
        return self._bundle.card.probabilities(outputs["logits"])


def tag_answer(listener: TagListener, path: str | None, heard: Heard, judgement: Judgement) -> Answer:
    """Put an answer together that names tags and no genre."""
    names = listener.tag_names
    thresholds = dict(zip(names, listener.tag_thresholds, strict=False))
    tags = ranked(names, judgement.tags)
    framing = listener.framing
    timeline = tuple(
        TimelineSegment(*framing.times_s(index), genre="", confidence=0.0, tags=ranked(names, row))
        for index, row in zip(heard.indices, judgement.timeline, strict=True)
    )
    return Answer(
        path=path,
        duration_s=heard.duration_s,
        heard_s=min(heard.duration_s, len(heard.indices) * framing.hop_s),
        genre="",
        confidence=0.0,
        scores={},
        tags=tags,
        chosen=tuple(tag for tag, score in tags.items() if tag in thresholds and score >= thresholds[tag]),
        names_tags=True,
        timeline=timeline,
        warnings=heard.warnings,
        model=listener.name,
    )
