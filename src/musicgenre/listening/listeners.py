"""What listeners of exported models share: the bundle, how it cuts tracks, and how it hears them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre.bundle.ensemble import load_ensemble
from musicgenre.bundle.load import load_bundle, read_card
from musicgenre.bundle.store import ensure_bundle
from musicgenre.errors import BundleError
from musicgenre.features.published.musicnn.published import PUBLISHED
from musicgenre.listening.answer import Answer, TimelineSegment, ranked
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import Ear, Heard, Hearer, Outputs, Source
from musicgenre.listening.track_hearing import TrackEar
from musicgenre.models.head import list_taught, load_head
from musicgenre.models.pooling import pool_scores, pool_tag_scores

if TYPE_CHECKING:
    from musicgenre.bundle.ensemble import EnsembleBundle
    from musicgenre.bundle.load import Bundle
    from musicgenre.features.base import TrackSound
    from musicgenre.models.head import GenreHead


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
        return Judgement(pool_scores(probabilities, card.scoring), probabilities, np.zeros(0))


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
        return Judgement(np.zeros(0), probabilities, pool_tag_scores(probabilities, self._bundle.card.scoring))

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


Float64 = NDArray[np.float64]


class EnsembleListener:
    """Several exported classifiers in one bundle. Their timeline has the longest steps that one of them takes.

    Parameters
    ----------
    bundle : EnsembleBundle
        The models.
    """

    tag_names: tuple[str, ...] = ()
    style_tags: frozenset[str] = frozenset()
    tag_threshold = 1.0

    def __init__(self, bundle: EnsembleBundle) -> None:
        card = bundle.card
        self.name = card.name
        self.sha256 = card.sha256
        self.labels = tuple(card.labels)
        self.unsure_threshold = card.unsure_threshold
        self._bundle = bundle
        self._members = tuple(ClassifierListener(member) for member in bundle.members)
        steps_s = [member.framing.hop_s for member in self._members]
        self._slowest = steps_s.index(max(steps_s))
        self.framing = self._members[self._slowest].framing

    def ear(self, coverage: Coverage) -> Hearer:
        """Make an ear that hears for every member; members that cut tracks alike hear together."""
        return _EnsembleEar(self._members, coverage, self._slowest)

    def judge(self, heard: Heard) -> Judgement:
        """Mix what the members say of the whole track, and what they say of each step of the timeline."""
        alone = [member.judge(part) for member, part in zip(self._members, heard.members, strict=True)]
        scores = np.stack([judgement.scores[None] for judgement in alone])
        timeline = np.stack(
            [
                _at(member.framing, part.indices, judgement, [self.framing.times_s(index) for index in heard.indices])
                for member, part, judgement in zip(self._members, heard.members, alone, strict=True)
            ]
        )
        return Judgement(self._bundle.probabilities(scores)[0], self._bundle.probabilities(timeline), np.zeros(0))


class _EnsembleEar:
    """Hears a track once for all members that cut it alike."""

    def __init__(self, members: Sequence[ClassifierListener], coverage: Coverage, slowest: int) -> None:
        self._n_members, self._slowest = len(members), slowest
        alike: dict[tuple[Framing, bool], dict[int, ClassifierListener]] = {}
        for number, member in enumerate(members):
            alike.setdefault((member.framing, member.hears_tracks), {})[number] = member
        self._ears = [
            (tuple(group), (_track_ear if hears_tracks else _ear)(framing, coverage, group))
            for (framing, hears_tracks), group in alike.items()
        ]

    def hear(self, source: Source, *, sample_rate_hz: int | None = None) -> Heard:
        """Hear one track; parameters and errors are those of `Ear.hear`."""
        parts: dict[int, Heard] = {}
        for numbers, ear in self._ears:
            heard = ear.hear(source, sample_rate_hz=sample_rate_hz)
            for number in numbers:
                parts[number] = Heard(_own(heard.outputs, number), heard.indices, heard.duration_s, heard.warnings)
        members = tuple(parts[number] for number in range(self._n_members))
        shown = members[self._slowest]
        warnings = tuple(dict.fromkeys(warning for part in members for warning in part.warnings))
        return Heard({}, shown.indices, shown.duration_s, warnings, members)


def _ear(framing: Framing, coverage: Coverage, group: dict[int, ClassifierListener]) -> Hearer:
    def run(rows: Float32) -> Outputs:
        return _together({number: member.hear(rows) for number, member in group.items()})

    return Ear(framing, coverage, run)


def _track_ear(framing: Framing, coverage: Coverage, group: dict[int, ClassifierListener]) -> Hearer:
    def run(track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> Outputs:
        heard = {number: member.hear_track(track, starts_s, segment_s) for number, member in group.items()}
        return _together(heard)

    return TrackEar(framing, coverage, run)


def _together(outputs: dict[int, Outputs]) -> Outputs:
    return {f"{number}/{name}": values for number, own in outputs.items() for name, values in own.items()}


def _own(outputs: Outputs, number: int) -> Outputs:
    prefix = f"{number}/"
    return {name.removeprefix(prefix): values for name, values in outputs.items() if name.startswith(prefix)}


def _at(
    framing: Framing, indices: Sequence[int], judgement: Judgement, steps_s: Sequence[tuple[float, float]]
) -> Float64:
    """What a member says of each step: its segments that overlap it, or the whole track where it heard none of it."""
    starts_s, ends_s = np.array([framing.times_s(index) for index in indices]).T
    rows = []
    for start_s, end_s in steps_s:
        touching = (starts_s < end_s) & (ends_s > start_s)
        rows.append(judgement.timeline[touching].mean(axis=0) if touching.any() else judgement.scores)
    return np.stack(rows)


def load_listener(model: str, *, threads: int | None = None) -> Listener:
    """Load a model by name or path.

    Parameters
    ----------
    model : str
        ``default``, the name of a taught head or of a published tagger (``mtt-musicnn``), or the path of a bundle or
        head file.
    threads : int, optional
        Threads one inference may use; all cores by default.

    Raises
    ------
    BundleError
        When the model does not exist, is damaged or needs something that is not installed.
    """
    path = Path(model)
    if path.suffix == ".onnx":
        return _exported(path, threads)
    if model in PUBLISHED and model not in list_taught():
        return TagListener(load_bundle(_published_bundle(model), threads=threads))
    head = load_head(model)
    return HeadListener(load_bundle(ensure_bundle(head.bundle_name), threads=threads), head)


def _exported(path: Path, threads: int | None) -> Listener:
    if read_card(path).kind == "ensemble":
        return EnsembleListener(load_ensemble(path, threads=threads))
    bundle = load_bundle(path, threads=threads)
    return TagListener(bundle) if bundle.card.names_tags else ClassifierListener(bundle)


def _published_bundle(name: str) -> Path:
    """Where a published tagger is; an error that names the command which provides it."""
    try:
        return ensure_bundle(name)
    except BundleError as error:
        raise BundleError(
            error.problem,
            valid=error.valid,
            next_step=f"Get it with: musicgenre bundles get {name}. {error.next_step}",
        ) from error
