"""Several representations of the same segment, one after the other in a flat vector.

For networks that hear a spectrogram and know something else too: classical features (A8), the embedding of the whole
track (B9). Each part hears the track at its own rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musicgenre.data.rows import Block
from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, Representation, TrackSound, fit_length, make_ready, segment_samples
from musicgenre.features.registry import create_representation, register, representation_from_settings

VERSION = 1
_WHOLE = "whole_track"
_EXTRAS = ("features", "train", "pretrained")


@dataclass(frozen=True)
class Part:
    """One representation inside a joined one; ``whole_track`` says that it describes more than the segment."""

    representation: Representation
    whole_track: bool

    def settings(self) -> dict[str, Any]:
        """Return the representation's settings; parts of the segment have no further key."""
        return {**self.representation.settings(), **({_WHOLE: True} if self.whole_track else {})}


@register("joined")
class Joined:
    """Values of all parts in order, shape (sum of their sizes,).

    Parameters
    ----------
    parts : sequence of mapping
        Each with ``name`` and that representation's options. Those with a segment length share it, and the others
        (the table) describe the same segment. ``whole_track: true`` makes a part describe the whole track, whatever
        segment it meets; one with a segment length of its own is then averaged over the track.

    Attributes
    ----------
    parts : tuple of Part
        The parts.
    reads : str
        ``"track"`` where a part describes the whole track or the parts hear different rates, else ``"waveform"``.
    sample_rate_hz : int
        Rate at which tracks are cut: that of the first part that describes the segment.
    blocks : tuple of Block
        Where each part lies in the vector, and along which of its axes it is normalised.
    """

    name = "joined"
    row_axis: int | None = 0

    def __init__(self, *, parts: Sequence[Mapping[str, Any]]) -> None:
        if not parts:
            raise UsageError("parts is empty", valid="A list of representations, each with its name and options")
        self.parts = tuple(_part(part) for part in parts)
        of_segment = [part.representation for part in self.parts if not part.whole_track]
        lengths_s = sorted({part.segment_s for part in of_segment if part.segment_s is not None})
        if len(lengths_s) > 1:
            raise UsageError(
                f"the parts read segments of {lengths_s} s",
                valid="One segment length",
                next_step=f"Give them the same segment_s, or mark one with {_WHOLE}: true",
            )
        rates_hz = {part.representation.sample_rate_hz for part in self.parts}
        self.reads = "track" if len(of_segment) < len(self.parts) or len(rates_hz) > 1 else "waveform"
        self.segment_s: float | None = lengths_s[0] if lengths_s else None
        cut_by = [part for part in of_segment if part.segment_s is not None] or of_segment
        self.sample_rate_hz = cut_by[0].sample_rate_hz if cut_by else self.parts[0].representation.sample_rate_hz
        self.blocks = tuple(Block(part.representation.shape(), part.representation.row_axis) for part in self.parts)

    def shape(self) -> tuple[int, ...]:
        """(n_values,)."""
        return (sum(math.prod(block.shape) for block in self.blocks),)

    def compute(self, waveform: Float32) -> Float32:
        """Compute every part from ``waveform``, shape (n_samples,): the whole track and its only segment.

        Parts of another rate hear it resampled; :meth:`compute_track` lets them hear the file itself.
        """
        return self.compute_track(TrackSound.of_waveform(waveform, self.sample_rate_hz), [0.0], None)[0]

    def compute_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> list[Float32]:
        """Compute the vectors of the segments that begin at ``starts_s``; see `TrackRepresentation`."""
        length_s = segment_s if self.segment_s is None else self.segment_s
        columns = [self._arrays(part, track, starts_s, length_s) for part in self.parts]
        return [np.concatenate([array.reshape(-1) for array in row]) for row in zip(*columns, strict=True)]

    @property
    def weight_cards(self) -> tuple[str | Mapping[str, Any], ...]:
        """Names of the cards of the published weights that the parts use."""
        return tuple(name for part in self.parts for name in getattr(part.representation, "weight_cards", ()))

    @property
    def extra(self) -> str:
        """The extra that computes all parts: each of these holds those in front of it."""
        return max((getattr(part.representation, "extra", _EXTRAS[0]) for part in self.parts), key=_EXTRAS.index)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all values, where every part has names for its own; else none."""
        named = [tuple(getattr(part.representation, "columns", ())) for part in self.parts]
        return tuple(name for names in named for name in names) if all(named) else ()

    def make_ready(self) -> None:
        """Let every part fetch what it needs."""
        for part in self.parts:
            make_ready(part.representation)

    def settings(self) -> dict[str, Any]:
        """Return the settings of every part."""
        return {"name": self.name, "version": VERSION, "parts": [part.settings() for part in self.parts]}

    def _arrays(
        self, part: Part, track: TrackSound, starts_s: Sequence[float], length_s: float | None
    ) -> list[Float32]:
        """One array of a part for every segment."""
        if part.whole_track:
            return [track.whole(part.representation)] * len(starts_s)
        rate_hz = part.representation.sample_rate_hz
        waveform = track.at(rate_hz)
        if length_s is None:
            return [part.representation.compute(waveform)] * len(starts_s)
        n_samples = segment_samples(rate_hz, length_s)
        pieces = (waveform[first : first + n_samples] for first in (round(start * rate_hz) for start in starts_s))
        return [part.representation.compute(fit_length(piece, n_samples)) for piece in pieces]


def _part(part: Mapping[str, Any]) -> Part:
    if "name" not in part:
        raise UsageError(f"a part without a name: {dict(part)}", valid="Each part names its representation")
    whole = part.get(_WHOLE, False)
    if not isinstance(whole, bool):
        raise UsageError(f"{_WHOLE}={whole!r}", valid="true or false")
    options = {key: value for key, value in part.items() if key != _WHOLE}
    made = representation_from_settings(options) if "version" in options else create_representation(**options)
    reads = getattr(made, "reads", "waveform")
    if reads in ("file", "track"):
        raise UsageError(
            f"the representation {made.name} cannot be a part: it reads the {reads} itself",
            valid="Representations of a waveform",
            next_step="Name the parts of a joined one here" if reads == "track" else "",
        )
    return Part(made, whole)
