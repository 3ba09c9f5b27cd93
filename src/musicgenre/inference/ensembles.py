"""Listeners of ensembles: every model hears a track in its own way, then they answer together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from musicgenre.inference._bundle_listener import Judgement
from musicgenre.inference.framing import Coverage, Float32, Framing
from musicgenre.inference.hearing import Ear, Heard, Hearer, Outputs, Source
from musicgenre.inference.listeners import ClassifierListener
from musicgenre.inference.track_hearing import TrackEar

if TYPE_CHECKING:
    from musicgenre.bundle.ensemble import EnsembleBundle
    from musicgenre.features.track_sound import TrackSound

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
