"""The kinds of models that listen: each hears a track and builds its answer from what its networks said.

`HeadListener` (MusiCNN with a genre head), `ClassifierListener` (an exported network), `EnsembleListener` (several
of them) and `StyleListener` (Discogs-EffNet) name one genre; `TagListener` names any number of tags. `load_listener`
knows which a model is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre.audio import Level, LevelChoice, choose_level
from musicgenre.bundle.container import MOST_MODEL_MB
from musicgenre.bundle.ears import load_ears
from musicgenre.bundle.ensemble import load_ensemble
from musicgenre.bundle.load import load_bundle, open_bundle
from musicgenre.bundle.stages import ears_sha256
from musicgenre.bundle.store import ensure_bundle, is_bundle_name
from musicgenre.bundle.versions import current_bundle
from musicgenre.errors import BundleError
from musicgenre.features.published.essentia.published import STYLE_MARK
from musicgenre.features.published.musicnn.published import PUBLISHED
from musicgenre.listening.answer import UNSURE, Answer, Reason, TimelineSegment, ranked
from musicgenre.listening.doubts import SHORT_S, shortcomings
from musicgenre.listening.framing import Coverage, Float32, Framing
from musicgenre.listening.hearing import Ear, Heard, Hearer, Outputs, Source
from musicgenre.listening.sections import find_sections
from musicgenre.listening.track_hearing import LONGEST_S, TrackEar
from musicgenre.models.head import list_taught, load_head
from musicgenre.models.pooling import pool_scores, pool_tag_scores
from musicgenre.models.support import Unsupported

if TYPE_CHECKING:
    from musicgenre.bundle.card import BundleCard
    from musicgenre.bundle.ensemble import EnsembleBundle
    from musicgenre.bundle.load import Bundle
    from musicgenre.features.base import TrackSound
    from musicgenre.models.head import GenreHead

Float64 = NDArray[np.float64]

# A graph takes all patches of a row at once: MusiCNN some 6 MB for each of 3 s, measured with 30 of them.
_LONGEST_ROW_S = 90.0


class Listener(Protocol):
    """A loaded model: hears tracks, and answers from what it heard.

    Attributes
    ----------
    name, sha256 : str
        What the model is called, and a checksum that changes with it.
    labels : tuple of str
        Genres it can name; none where it names tags.
    styles : tuple of str
        What it may name beside a genre; of a tagger, all its tags.
    level : Level or None
        What it wants tracks to be brought to. Of an ensemble: None, each member has its own.
    model_card : mapping of str to str
        What whoever uses its answers must know of it, terms that bind them above all; mostly nothing.
    caveats : tuple of str
        What is said with every answer, as that its confidence is not calibrated; mostly nothing.
    card : mapping
        All that its maker says of it, as plain values: licence, origin, measured scores ...
    """

    name: str
    sha256: str
    labels: tuple[str, ...]
    styles: tuple[str, ...]
    level: Level | None
    model_card: Mapping[str, str]
    caveats: tuple[str, ...]
    card: Mapping[str, Any]

    def ear(self, coverage: Coverage, level: LevelChoice = "model") -> Hearer:
        """Make what hears as much of a track as `coverage` says, at the level that `level` chooses."""
        ...

    def answer(self, path: str | None, heard: Heard, *, reject: bool = True) -> Answer:
        """Answer for a track from all that was heard of it; without `reject` never with `unsure`."""
        ...


def load_listener(model: str, *, threads: int | None = None, max_model_mb: int = MOST_MODEL_MB) -> Listener:
    """Load a model by name or path.

    Parameters
    ----------
    model : str
        `default`, the name of a taught head or of a published tagger (`mtt-musicnn`), the path of a bundle or head
        file, or that of a folder of versions (`musicgenre.bundle.versions`), of which the one in use is taken.
    threads : int, optional
        Threads one inference may use; all cores by default.
    max_model_mb : int
        How large a bundle's file may be, and how much memory it may need, in millions of bytes.

    Raises
    ------
    BundleError
        When the model does not exist, is damaged or needs something that is not installed.
    """
    path = current_bundle(model) or Path(model)
    if path.suffix == ".onnx":
        file = open_bundle(path, max_model_mb=max_model_mb)
        if file.card.kind == "ensemble":
            return EnsembleListener(load_ensemble(file, threads=threads, max_model_mb=max_model_mb))
        return _listener_of(load_bundle(file, threads=threads, max_model_mb=max_model_mb))

    # A head that somebody taught under the name of a published tagger is what they mean by that name.
    if is_bundle_name(model) and model not in list_taught():
        try:
            path = ensure_bundle(model)
        except BundleError as error:
            if model not in PUBLISHED:  # its terms come first: the error says so
                raise
            raise BundleError(
                error.problem,
                valid=error.valid,
                next_step=f"Get it with: musicgenre bundles get {model}. {error.next_step}",
            ) from error
        return _listener_of(load_bundle(path, threads=threads))

    head = load_head(model)
    return HeadListener(load_ears(head.bundle_name, threads=threads, max_model_mb=max_model_mb), head)


def _listener_of(bundle: Bundle) -> Listener:
    """Choose how a bundle of one model answers."""
    if not bundle.card.names_tags:
        return ClassifierListener(bundle)
    if all(STYLE_MARK in label for label in bundle.card.labels):
        return StyleListener(bundle)
    return TagListener(bundle)


class BundleListener:
    """What listeners share that hear with one bundle.

    Parameters
    ----------
    bundle : Bundle
        The model.
    """

    def __init__(self, bundle: Bundle) -> None:
        card = bundle.card
        self.bundle = bundle
        self.name = card.name
        self.sha256 = card.sha256
        self.styles: tuple[str, ...] = tuple(card.labels) if card.names_tags else ()
        self.level = card.hearing_level
        self.framing = Framing.of(card)
        self.model_card: Mapping[str, str] = _card_to_show(card)
        self.caveats = card.caveats
        self.card: Mapping[str, Any] = _all_said(card)

    def ear(self, coverage: Coverage, level: LevelChoice = "model") -> Hearer:
        """Make an ear that brings segments, or one that brings the whole track too where the model wants it."""
        wanted = choose_level(level, self.level)
        if self.bundle.hears_tracks:
            at_once_s = _at_once_s(self.bundle)
            return TrackEar(self.framing, coverage, self.bundle.run_track, level=wanted, at_once_s=at_once_s)
        return Ear(self.framing, coverage, self.bundle.run, level=wanted)


class HeadListener(BundleListener):
    """An embedding bundle (MusiCNN) with a genre head on top.

    Parameters
    ----------
    bundle : Bundle
        Gives `tags` (n, n_tags) and `embedding` (n, width).
    head : GenreHead
        Names the genre.

    Raises
    ------
    BundleError
        When the bundle has no embeddings.
    """

    def __init__(self, bundle: Bundle, head: GenreHead) -> None:
        card = bundle.card
        if card.kind != "embedding":
            raise BundleError(
                f"the head {head.name} cannot stand on {card.name}, which is a {card.kind}",
                valid="An embedding bundle such as msd-musicnn",
            )
        if head.ears_sha256 and head.ears_sha256 != ears_sha256(card):
            raise BundleError(
                f"the head {head.name} was taught on another {card.name} than the one here",
                valid=f"the published file with sha256 {head.ears_sha256}",
                next_step=f"Get that one with: musicgenre bundles get {card.name} --force, or teach the head again",
            )
        if head.bundle_sha256 not in ("", card.sha256):
            raise BundleError(
                f"the head {head.name} was taught on another bundle than {head.bundle_name} is now",
                next_step="Put the old one back, or teach the head again",
            )
        ceilings = set() if head.support is None else set(head.support.ceilings)
        if not ceilings <= set(card.tags):
            raise BundleError(
                f"the head {head.name} asks for the tags {', '.join(sorted(ceilings))}",
                valid=f"tags of {card.name}",
                next_step="Get or teach it anew",
            )
        super().__init__(bundle)
        # A head that was taught again on the same ears is another model, and so is one on other ears.
        self.name = head.name
        self.sha256 = hashlib.sha256(f"{card.sha256}{head.to_json()}".encode()).hexdigest()
        self.labels = tuple(head.labels)
        self.styles = tuple(head.style_tags)
        self.level = head.level
        ears = {"name": card.name, "licence": card.licence, "citation": card.citation, "origin": card.origin}
        self.card = {**head.card, "kind": "head", "unsure_threshold": head.unsure_threshold, "bundle": ears}
        if self.model_card:  # what binds is the network's; what it says of itself is not what the head says
            self.model_card = {**self.model_card, "name": head.name, "notes": f"A model taught on {card.name}."}
        self.support = head.support
        self._head = head

    def answer(self, path: str | None, heard: Heard, *, reject: bool = True) -> Answer:
        """Apply the head to all segments together and to each alone; tell the tags, and a style among them."""
        head = self._head
        segment_tags, embedding = heard.outputs["tags"], heard.outputs["embedding"]
        tags = ranked(self.bundle.card.tags, segment_tags.mean(axis=0, dtype=np.float64))

        # Tags are in the order of their probability: the first that is a style is the likeliest.
        style = None
        for tag, probability in tags.items():
            if tag in head.style_tags and probability >= head.tag_threshold:
                style = tag
                break

        scores = head.score(segment_tags, embedding)
        unsupported: Unsupported | None = None
        if head.support is not None:
            unsupported = head.support.problem(embedding, tags, int(scores.argmax()))
        return _genre_answer(
            self,
            path,
            heard,
            scores,
            head.timeline(segment_tags, embedding),
            unsure_threshold=head.unsure_threshold,
            reject=reject,
            needs_support=True,
            unsupported=unsupported,
            tags=tags,
            style=style,
        )


class ClassifierListener(BundleListener):
    """An exported classifier.

    Parameters
    ----------
    bundle : Bundle
        Gives `logits` (n, n_labels).

    Raises
    ------
    BundleError
        When the bundle is of another kind.
    """

    def __init__(self, bundle: Bundle) -> None:
        card = bundle.card
        if card.kind != "classifier":
            raise BundleError(
                f"{card.name} is no classifier but an {card.kind} bundle",
                valid="an exported classifier",
            )
        super().__init__(bundle)
        self.labels = tuple(card.labels)
        self.support = card.known_music

    def unsupported(self, heard: Heard, label: int) -> Unsupported | None:
        """Tell why an answer has no support, or None where it has, or needs none."""
        if self.support is None:
            return None
        return self.support.problem(heard.outputs[self.bundle.card.support["reads"]], {}, label)

    def probabilities(self, heard: Heard) -> tuple[Float64, Float64]:
        """Probabilities of the whole track (n_labels,), scored as in the run, and of every segment (n, n_labels)."""
        card = self.bundle.card
        segments = card.probabilities(heard.outputs["logits"])
        return pool_scores(segments, card.scoring), segments

    def answer(self, path: str | None, heard: Heard, *, reject: bool = True) -> Answer:
        """Let the segments' probabilities score together as the run did."""
        track, segments = self.probabilities(heard)
        return _genre_answer(
            self,
            path,
            heard,
            track,
            segments,
            unsure_threshold=self.bundle.card.unsure_threshold,
            reject=reject,
            needs_support=self.support is not None,
            unsupported=self.unsupported(heard, int(track.argmax())),
        )


class TagListener(BundleListener):
    """A published tagger (an embedding bundle, whose tags have no thresholds) or an exported one.

    Parameters
    ----------
    bundle : Bundle
        Gives `tags` or `logits` (n, n_tags).
    """

    labels: tuple[str, ...] = ()  # its labels are tags

    def answer(self, path: str | None, heard: Heard, *, reject: bool = True) -> Answer:
        """Let the segments' probabilities score together as the run did; choose the tags above their thresholds."""
        card = self.bundle.card
        if "tags" in heard.outputs:
            segments = heard.outputs["tags"].astype(np.float64)
        else:
            segments = card.probabilities(heard.outputs["logits"])
        tags = ranked(card.labels, pool_tag_scores(segments, card.scoring))

        thresholds = dict(zip(card.labels, card.thresholds, strict=False))  # there may be none at all
        chosen = tuple(tag for tag, score in tags.items() if tag in thresholds and score >= thresholds[tag])
        if heard.is_too_quiet:
            chosen = ()

        timeline = []
        for index, row in zip(heard.indices, segments, strict=True):
            start_s, end_s = self.framing.times_s(index)
            timeline.append(TimelineSegment(start_s, end_s, genre="", confidence=0.0, tags=ranked(card.labels, row)))

        return Answer(
            path=path,
            duration_s=heard.duration_s,
            heard_s=_heard_s(heard, self.framing),
            genre="",
            confidence=0.0,
            scores={},
            tags=tags,
            chosen=chosen,
            names_tags=True,
            timeline=tuple(timeline),
            warnings=heard.warnings + self.caveats,
            caveats=self.caveats,
            model=self.name,
            model_card=self.model_card,
        )


class StyleListener(BundleListener):
    """A published network of styles that belong to genres (Discogs-EffNet): its labels are `Genre---Style`.

    A genre is as probable as the likeliest of its styles. That is the least that "any of its styles" can be; the usual
    formula for it takes styles for independent, and a genre of a hundred styles would win by their number alone.

    Parameters
    ----------
    bundle : Bundle
        Gives `tags` (n, n_styles), probabilities.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        genres = [style.partition(STYLE_MARK)[0] for style in bundle.card.labels]
        self.labels = tuple(dict.fromkeys(genres))
        self._columns = [np.flatnonzero([genre == name for genre in genres]) for name in self.labels]

    def answer(self, path: str | None, heard: Heard, *, reject: bool = True) -> Answer:
        """Name the genre of the likeliest style of the track; the styles are its tags."""
        card = self.bundle.card
        segments = heard.outputs["tags"].astype(np.float64)
        track = segments.mean(axis=0)
        styles = ranked(card.labels, track)
        likeliest, probability = next(iter(styles.items()))

        return _genre_answer(
            self,
            path,
            heard,
            self._by_genre(track[np.newaxis])[0],
            self._by_genre(segments),
            unsure_threshold=card.unsure_threshold,
            reject=reject,
            tags=styles,
            style=likeliest if probability >= card.unsure_threshold else None,
        )

    def _by_genre(self, styles: Float64) -> Float64:
        """Probabilities of the genres, (n, n_styles) to (n, n_genres)."""
        return np.stack([styles[:, columns].max(axis=1) for columns in self._columns], axis=1)


class EnsembleListener:
    """Several exported classifiers in one bundle. Their timeline has the longest steps that one of them takes.

    An answer has no support where half or more of the members that know their training music find it unlike that.

    Parameters
    ----------
    bundle : EnsembleBundle
        The models.
    """

    def __init__(self, bundle: EnsembleBundle) -> None:
        card = bundle.card
        self.name = card.name
        self.sha256 = card.sha256
        self.labels = tuple(card.labels)
        self.styles: tuple[str, ...] = ()
        self.level: Level | None = None
        self.model_card: Mapping[str, str] = _card_to_show(card)
        self.caveats = card.caveats
        self.card: Mapping[str, Any] = _all_said(card)
        self._bundle = bundle
        self._members = tuple(map(ClassifierListener, bundle.members))
        steps_s = [member.framing.hop_s for member in self._members]
        self._slowest = steps_s.index(max(steps_s))
        self.framing = self._members[self._slowest].framing

    def ear(self, coverage: Coverage, level: LevelChoice = "model") -> Hearer:
        """Make an ear that hears for every member; members that cut tracks alike, at one level, hear together."""
        return _EnsembleEar(self._members, coverage, level, self._slowest)

    def answer(self, path: str | None, heard: Heard, *, reject: bool = True) -> Answer:
        """Mix what the members say of the whole track, and what they say of each step of the timeline."""
        steps_s = [self.framing.times_s(index) for index in heard.indices]
        tracks: list[Float64] = []
        timelines: list[Float64] = []

        for member, part in zip(self._members, heard.members, strict=True):
            track, segments = member.probabilities(part)
            starts_s, ends_s = np.array([member.framing.times_s(index) for index in part.indices]).T

            # Of each step it says what its segments say that overlap it; where it heard none of it, the whole track.
            said = []
            for start_s, end_s in steps_s:
                overlaps = (starts_s < end_s) & (ends_s > start_s)
                said.append(segments[overlaps].mean(axis=0) if overlaps.any() else track)
            tracks.append(track[np.newaxis])
            timelines.append(np.stack(said))

        scores = self._bundle.probabilities(np.stack(tracks))[0]
        n_asked, problems = 0, []
        for member, part in zip(self._members, heard.members, strict=True):
            n_asked += member.support is not None
            problem = member.unsupported(part, int(scores.argmax()))
            if problem is not None:
                problems.append(problem)
        return _genre_answer(
            self,
            path,
            heard,
            scores,
            self._bundle.probabilities(np.stack(timelines)),
            unsure_threshold=self._bundle.card.unsure_threshold,
            reject=reject,
            needs_support=n_asked > 0,
            unsupported=problems[0] if problems and 2 * len(problems) >= n_asked else None,
        )


class _EnsembleEar:
    """Hears a track once for all members that cut it alike."""

    def __init__(
        self, members: Sequence[ClassifierListener], coverage: Coverage, level: LevelChoice, slowest: int
    ) -> None:
        alike: dict[tuple[Framing, Level | None, bool, float], dict[str, Bundle]] = {}
        for number, member in enumerate(members):
            wanted = choose_level(level, member.level)
            key = (member.framing, wanted, member.bundle.hears_tracks, _at_once_s(member.bundle))
            alike.setdefault(key, {})[str(number)] = member.bundle

        self._slowest = slowest
        self._ears: list[Hearer] = []
        for (framing, wanted, hears_tracks, at_once_s), bundles in alike.items():
            network = _SideBySide(bundles)
            if hears_tracks:
                ear = TrackEar(framing, coverage, network.run_track, level=wanted, at_once_s=at_once_s)
                self._ears.append(ear)
            else:
                self._ears.append(Ear(framing, coverage, network.run, level=wanted))

    def hear(self, source: Source, *, sample_rate_hz: int | None = None) -> Heard:
        """Hear one track; parameters and errors are those of `Ear.hear`."""
        parts: dict[int, Heard] = {}
        for ear in self._ears:
            heard = ear.hear(source, sample_rate_hz=sample_rate_hz)
            for name, values in heard.outputs.items():  # under the members that cut the track so
                number, _, output = name.partition("/")
                part = parts.setdefault(int(number), replace(heard, outputs={}))
                part.outputs[output] = values

        # The duration is that of the member whose timeline is shown; what one of them noticed is true for all.
        members = tuple(parts[number] for number in sorted(parts))
        shown = members[self._slowest]
        warnings = tuple(dict.fromkeys(warning for part in members for warning in part.warnings))
        too_quiet = any(part.is_too_quiet for part in members)
        return Heard({}, shown.indices, shown.duration_s, warnings, too_quiet, members, shown.source_rate_hz)


class _SideBySide:
    """Runs several classifiers on the same sound; its outputs are those of each, under its number: `0/logits`."""

    def __init__(self, bundles: dict[str, Bundle]) -> None:
        self._bundles = bundles

    def run(self, rows: Float32) -> Outputs:
        return self._named(lambda bundle: bundle.run(rows))

    def run_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> Outputs:
        return self._named(lambda bundle: bundle.run_track(track, starts_s, segment_s))

    def _named(self, run: Callable[[Bundle], Outputs]) -> Outputs:
        """Run each, and name what it gives."""
        outputs = {}
        for number, bundle in self._bundles.items():
            for name, values in run(bundle).items():
                outputs[f"{number}/{name}"] = values
        return outputs


def _at_once_s(bundle: Bundle) -> float:
    """Up to which length a track is one row: all that stands in memory, or what a network in a graph has room for."""
    if bundle.card.hears != "whole":
        return 0.0
    return LONGEST_S if bundle.computes_features else _LONGEST_ROW_S


def _genre_answer(
    listener: HeadListener | ClassifierListener | EnsembleListener | StyleListener,
    path: str | None,
    heard: Heard,
    scores: Float64,
    segment_scores: Float64,
    *,
    unsure_threshold: float,
    reject: bool,
    needs_support: bool = False,
    unsupported: Unsupported | None = None,
    tags: dict[str, float] | None = None,
    style: str | None = None,
) -> Answer:
    """Put an answer together that names a genre: scores of the track (n_labels,) and of its segments (n, n_labels)."""
    by_genre = ranked(listener.labels, scores)
    best, confidence = next(iter(by_genre.items()))
    framing = listener.framing
    lacks = shortcomings(heard.duration_s, heard.source_rate_hz, framing.sample_rate_hz)

    # The reason that says most comes first: what is no music may well be of low confidence, too.
    reason: Reason | None = None
    if not reject:
        unsure_threshold = 0.0
    elif heard.is_too_quiet:
        reason = "too quiet"
    elif needs_support and heard.duration_s < min(SHORT_S, framing.shortest_samples / framing.sample_rate_hz):
        reason = "too short"
    elif unsupported is not None:
        reason = unsupported
    elif not confidence >= unsure_threshold:  # neither is one that is no number
        reason = "low confidence"
    if lacks and reason not in (None, "too quiet"):
        reason = lacks[0]  # what is missing in the track explains the rest

    timeline = []
    times_s = [framing.times_s(index) for index in heard.indices]
    for (start_s, end_s), row in zip(times_s, segment_scores, strict=True):
        likeliest = int(row.argmax())
        timeline.append(TimelineSegment(start_s, end_s, listener.labels[likeliest], float(row[likeliest])))

    return Answer(
        path=path,
        duration_s=heard.duration_s,
        heard_s=_heard_s(heard, framing),
        genre=best if reason is None else UNSURE,
        reason=reason,
        confidence=confidence,
        scores=by_genre,
        tags=tags or {},
        style=style,
        timeline=tuple(timeline),
        sections=find_sections(times_s, segment_scores, listener.labels, unsure_threshold=unsure_threshold),
        unsure_threshold=unsure_threshold,
        warnings=heard.warnings + listener.caveats,
        caveats=listener.caveats,
        model=listener.name,
        model_card=listener.model_card,
    )


def _all_said(card: BundleCard) -> dict[str, Any]:
    """The card as plain values, without what it tells machines alone: thousands of numbers."""
    values = card.as_values()
    for own in (values, *values["members"]):
        own.pop("support", None)
        own.pop("learnt_from", None)
    return values


def _card_to_show(card: BundleCard) -> dict[str, str]:
    """What is told with every answer of a model whose terms bind whoever uses its answers; else nothing."""
    if not card.terms:
        return {}
    shown = {"name": card.name, "sha256": card.sha256, "licence": card.terms, "citation": card.citation}
    return shown | {"origin": card.origin, "notes": card.notes}


def _heard_s(heard: Heard, framing: Framing) -> float:
    """How much was heard; a last segment that sticks out of the track counts as far as the track goes."""
    return min(heard.duration_s, len(heard.indices) * framing.hop_s)
