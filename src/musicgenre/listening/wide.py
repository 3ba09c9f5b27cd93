"""`--genres wide`: the default model with a vocabulary of families and genres, heard by both MusiCNN networks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from musicgenre.audio import LevelChoice, choose_level
from musicgenre.bundle.load import Bundle, load_bundle
from musicgenre.bundle.store import ensure_bundle
from musicgenre.errors import BundleError, UsageError
from musicgenre.listening.answer import Answer
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import Ear, Heard, Hearer, Outputs
from musicgenre.listening.listeners import HeadListener, Listener
from musicgenre.models.head import DEFAULT_HEAD
from musicgenre.models.wide import NETWORKS, Vocabulary, load_wide

# The second network's tags, beside the outputs of the first.
_SECOND_TAGS = "second_tags"


def widen(listener: Listener, *, threads: int | None = None) -> WideListener:
    """Give the default model the wide vocabulary.

    Parameters
    ----------
    listener : Listener
        The default model.
    threads : int, optional
        Threads one inference of the second network may use; all cores by default.

    Raises
    ------
    BundleError
        When the second network is not here.
    UsageError
        When it is another model.
    """
    if not isinstance(listener, HeadListener) or listener.name != DEFAULT_HEAD:
        raise UsageError(
            f"the wide vocabulary stands on the default model, not on {listener.name}",
            next_step="Leave --model out, or --genres wide",
        )
    return WideListener(listener, load_bundle(ensure_bundle(NETWORKS[1]), threads=threads), load_wide())


class WideListener:
    """The default model and a second network on the same segments, whose tags name more genres than the ten.

    Parameters
    ----------
    ten : HeadListener
        The default model.
    second : Bundle
        The other network.
    vocabulary : Vocabulary
        The tree, its thresholds and its rule.

    Raises
    ------
    BundleError
        When the second network hears other segments than the first, or the networks lack a tag of the vocabulary.
    """

    def __init__(self, ten: HeadListener, second: Bundle, vocabulary: Vocabulary) -> None:
        if Framing.of(second.card) != ten.framing:
            raise BundleError(
                f"{second.card.name} hears other segments than {ten.bundle.card.name}",
                next_step="Get both anew with: musicgenre bundles get --force",
            )
        tags = {NETWORKS[0]: set(ten.bundle.card.tags), NETWORKS[1]: set(second.card.tags)}
        for genre in vocabulary.genres:
            for network, thresholds in genre.tags.items():
                if missing := set(thresholds) - tags[network]:
                    raise BundleError(
                        f"{network} lacks the tags {', '.join(sorted(missing))}",
                        valid="the published network",
                        next_step="Get it anew with: musicgenre bundles get --force",
                    )
        self._ten, self._second, self._vocabulary = ten, second, vocabulary
        self.name = ten.name
        self.sha256 = hashlib.sha256(f"{ten.sha256}{second.card.sha256}{vocabulary}".encode()).hexdigest()
        self.labels = vocabulary.names
        self.styles: tuple[str, ...] = ()  # what they name is a genre here
        self.level = ten.level
        self.model_card = ten.model_card
        self.caveats = ten.caveats
        ears = {name: getattr(second.card, name) for name in ("name", "licence", "citation", "origin")}
        self.card: Mapping[str, Any] = {**ten.card, "second_bundle": ears}

    def ear(self, coverage: Coverage, level: LevelChoice = "model") -> Hearer:
        """Make an ear that brings every segment to both networks."""
        return Ear(self._ten.framing, coverage, self._run, level=choose_level(level, self.level))

    def answer(self, path: str | None, heard: Heard, *, reject: bool = True) -> Answer:
        """Let the head answer, then name the genres that its answer and the tags of both networks speak for."""
        ten = self._ten.answer(path, heard, reject=reject)
        support = self._ten.support
        is_strange = support is not None and support.is_strange(heard.outputs["embedding"])
        if reject and (is_strange or ten.reason in ("too quiet", "too short")):
            return replace(ten, style=None, genres=())  # nothing is there that a tag could name
        if reject and not ten.is_sure and support is not None and sum(ten.tags.values()) < support.least_tags:
            return replace(ten, style=None, genres=())  # as of speech that is near music: hardly a tag is heard

        second = heard.outputs[_SECOND_TAGS].mean(axis=0, dtype="float64")
        tags = {NETWORKS[0]: ten.tags, NETWORKS[1]: dict(zip(self._second.card.tags, second.tolist(), strict=True))}
        is_known = True
        if reject and support is not None:  # the reason may be another one that says more
            best = self._ten.labels.index(next(iter(ten.scores)))
            is_known = support.problem(heard.outputs["embedding"], ten.tags, best) is None
        leading, genres = self._vocabulary.choose(ten.scores, tags, is_sure=ten.is_sure, is_known=is_known)
        if not genres:
            return replace(ten, style=None, genres=())

        [confidence] = [genre.score for genre in genres if genre.name == leading]
        return replace(ten, genre=leading, reason=None, confidence=confidence, style=None, genres=genres)

    def _run(self, rows: Float32) -> Outputs:
        """What both networks say of the same rows."""
        return {**self._ten.bundle.run(rows), _SECOND_TAGS: self._second.run(rows)["tags"]}
