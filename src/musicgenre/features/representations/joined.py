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
from musicgenre.features.base import Float32, Representation, TrackSound, fit_length, segment_samples
from musicgenre.features.registry import create_representation, register, representation_from_settings

_WHOLE = "whole_track"
_EXTRAS = ("", "features", "train", "pretrained")
"""Each holds those in front of it."""


@dataclass(frozen=True)
class Part:
    """One representation inside a joined one; `whole_track` says that it describes more than the segment."""

    representation: Representation
    whole_track: bool

    def settings(self) -> dict[str, Any]:
        """Return the representation's settings; parts of the segment have no further key."""
        settings = self.representation.settings()
        if self.whole_track:
            settings[_WHOLE] = True
        return settings


@register("joined")
class Joined(Representation):
    """Values of all parts in order, shape (sum of their sizes,).

    Parameters
    ----------
    parts : sequence of mapping
        Each with `name` and that representation's options. Those with a segment length share it, and the others (the
        table) describe the same segment. `whole_track: true` makes a part describe the whole track, whatever segment
        it meets; one with a segment length of its own is then averaged over the track.

    Attributes
    ----------
    parts : tuple of Part
        The parts.
    reads : str
        `"track"` where a part describes the whole track or the parts hear different rates, else `"waveform"`.
    sample_rate_hz : int
        Rate at which tracks are cut: that of the first part that describes the segment.
    columns : tuple of str
        Names of all values, where every part has names for its own; else none.
    blocks : tuple of Block
        Where each part lies in the vector, and along which of its axes it is normalised.
    extra : str
        The extra that computes all parts.
    """

    name = "joined"
    row_axis = 0

    def __init__(self, *, parts: Sequence[Mapping[str, Any]]) -> None:
        if not parts:
            raise UsageError("parts is empty", valid="A list of representations, each with its name and options")
        self.parts = tuple(_part(part) for part in parts)
        everything = [part.representation for part in self.parts]
        of_segment = [part.representation for part in self.parts if not part.whole_track]

        lengths_s = sorted({part.segment_s for part in of_segment if part.segment_s is not None})
        if len(lengths_s) > 1:
            raise UsageError(
                f"the parts read segments of {lengths_s} s",
                valid="One segment length",
                next_step=f"Give them the same segment_s, or mark one with {_WHOLE}: true",
            )
        if lengths_s:
            self.segment_s = lengths_s[0]

        rates_hz = {part.sample_rate_hz for part in everything}
        if len(of_segment) < len(everything) or len(rates_hz) > 1:
            self.reads = "track"
        # Tracks are cut for the part that has a segment length; the table takes whatever comes out.
        cut_for = [part for part in of_segment if part.segment_s is not None] or of_segment or everything
        self.sample_rate_hz = cut_for[0].sample_rate_hz

        self.blocks = tuple(Block(part.shape(), part.row_axis) for part in everything)
        self.is_network = any(part.is_network for part in everything)
        self.extra = max((part.extra for part in everything), key=_EXTRAS.index)
        if all(part.columns for part in everything):
            self.columns = tuple(name for part in everything for name in part.columns)

    @property
    def weight_cards(self) -> tuple[str | Mapping[str, Any], ...]:
        """Cards of the published weights that the parts use."""
        return tuple(card for part in self.parts for card in part.representation.weight_cards)

    def shape(self) -> tuple[int, ...]:
        """(n_values,)."""
        return (sum(math.prod(block.shape) for block in self.blocks),)

    def make_ready(self) -> None:
        """Let every part fetch what it needs."""
        for part in self.parts:
            part.representation.make_ready()

    def compute(self, waveform: Float32) -> Float32:
        """Compute every part from `waveform`, shape (n_samples,): the whole track and its only segment.

        Parts of another rate hear it resampled; `compute_track` lets them hear the file itself.
        """
        return self.compute_track(TrackSound.of_waveform(waveform, self.sample_rate_hz), [0.0], None)[0]

    def compute_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> list[Float32]:
        """Compute the vectors of the segments that begin at `starts_s`; see `Representation.compute_track`."""
        length_s = segment_s if self.segment_s is None else self.segment_s
        by_part = [_arrays(part, track, starts_s, length_s) for part in self.parts]

        rows = []
        for arrays in zip(*by_part, strict=True):  # those of one segment
            rows.append(np.concatenate([array.reshape(-1) for array in arrays]))
        return rows

    def settings(self) -> dict[str, Any]:
        """Return the settings of every part."""
        return super().settings() | {"parts": [part.settings() for part in self.parts]}


def _part(part: Mapping[str, Any]) -> Part:
    """Make a part of what a recipe or stored settings say of it."""
    if "name" not in part:
        raise UsageError(f"a part without a name: {dict(part)}", valid="Each part names its representation")
    whole = part.get(_WHOLE, False)
    if not isinstance(whole, bool):
        raise UsageError(f"{_WHOLE}={whole!r}", valid="true or false")

    options = {key: value for key, value in part.items() if key != _WHOLE}
    # Stored settings have a version, which must be today's; a recipe has none.
    made = representation_from_settings(options) if "version" in options else create_representation(**options)

    if made.reads in ("file", "track"):
        raise UsageError(
            f"the representation {made.name} cannot be a part: it reads the {made.reads} itself",
            valid="Representations of a waveform",
            next_step="Name the parts of a joined one here" if made.reads == "track" else "",
        )
    return Part(made, whole)


def _arrays(part: Part, track: TrackSound, starts_s: Sequence[float], length_s: float | None) -> list[Float32]:
    """One array of a part for every segment."""
    made = part.representation
    if part.whole_track:
        return [track.whole(made)] * len(starts_s)

    waveform = track.at(made.sample_rate_hz)
    if length_s is None:
        return [made.compute(waveform)] * len(starts_s)

    n_samples = segment_samples(made.sample_rate_hz, length_s)
    arrays = []
    for start_s in starts_s:
        first = round(start_s * made.sample_rate_hz)  # seconds: every part counts samples of its own rate
        piece = fit_length(waveform[first : first + n_samples], n_samples)
        arrays.append(made.compute(piece))
    return arrays
