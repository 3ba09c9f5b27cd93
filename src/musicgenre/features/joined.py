"""Several representations of the same segment, one after the other in a flat vector.

For networks that hear a spectrogram and know classical features too (A8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, Representation, fit_length, make_ready
from musicgenre.features.registry import create_representation, register, representation_from_settings
from musicgenre.features.segments import segment_samples

VERSION = 1


@register("joined")
class Joined:
    """Values of all parts in order, shape (sum of their sizes,).

    Parameters
    ----------
    parts : sequence of mapping
        Each with ``name`` and that representation's options. All at one rate; those with a segment length share it,
        and the others (the table) describe the same segment.
    """

    name = "joined"
    row_axis: int | None = 0

    def __init__(self, *, parts: Sequence[Mapping[str, Any]]) -> None:
        if not parts:
            raise UsageError("parts is empty", valid="A list of representations, each with its name and options")
        self.parts = [_part(part) for part in parts]
        rates = sorted({part.sample_rate_hz for part in self.parts})
        lengths_s = sorted({part.segment_s for part in self.parts if part.segment_s is not None})
        if len(rates) > 1 or len(lengths_s) > 1:
            raise UsageError(
                f"the parts read {rates} Hz and segments of {lengths_s} s", valid="One rate and one segment length"
            )
        self.sample_rate_hz = rates[0]
        self.segment_s: float | None = lengths_s[0] if lengths_s else None

    def shape(self) -> tuple[int, ...]:
        """(n_values,)."""
        return (sum(math.prod(part.shape()) for part in self.parts),)

    def compute(self, waveform: Float32) -> Float32:
        """Compute every part from ``waveform``, shape (n_samples,), cut or zero-padded to the segment."""
        if self.segment_s is not None:
            waveform = fit_length(waveform, segment_samples(self.sample_rate_hz, self.segment_s))
        return np.concatenate([part.compute(waveform).reshape(-1) for part in self.parts])

    @property
    def weight_cards(self) -> tuple[str, ...]:
        """Names of the cards of the published weights that the parts use."""
        return tuple(name for part in self.parts for name in getattr(part, "weight_cards", ()))

    def make_ready(self) -> None:
        """Let every part fetch what it needs."""
        for part in self.parts:
            make_ready(part)

    def settings(self) -> dict[str, Any]:
        """Return the settings of every part."""
        return {"name": self.name, "version": VERSION, "parts": [part.settings() for part in self.parts]}


def _part(part: Mapping[str, Any]) -> Representation:
    if "name" not in part:
        raise UsageError(f"a part without a name: {dict(part)}", valid="Each part names its representation")
    if "version" in part:
        return representation_from_settings(part)
    return create_representation(part["name"], **{key: value for key, value in part.items() if key != "name"})
