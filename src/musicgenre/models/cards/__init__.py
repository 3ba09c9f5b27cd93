"""The cards of published weights: what they hear, whose work they are, how their file is recognised.

One file here a source, each with a tuple ``CARDS``; needs neither torch nor NumPy.
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musicgenre.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightCard:
    """One published set of weights.

    Parameters
    ----------
    name : str
        Unique among all cards, as ``vgg19/imagenet``.
    model : str
        Name of the network it fits, as ``create_model`` or ``create_representation`` takes it.
    file : str
        Name of the published file, or of the model on its hub.
    url : str
        The usual address; empty where there is none.
    sha256 : str
        Checksum of the file, or the digits it is published with; empty where none is published.
    reads : str
        What goes in, in words.
    sample_rate_hz : int or None
        Rate of the sound it was trained on; ``None`` for pictures.
    window_s : float or None
        Length of the sound it was trained on in seconds; ``None``: any, or pictures.
    classes : int
        Outputs of its last layer; 0 where it has none.
    licence, origin, citation : str
        Terms of use, what it was trained on and by whom, and the paper.
    """

    name: str
    model: str
    file: str
    url: str
    sha256: str
    reads: str
    sample_rate_hz: int | None
    window_s: float | None
    classes: int
    licence: str
    origin: str
    citation: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self)


def list_cards(pattern: str = "*") -> list[WeightCard]:
    """Cards whose name matches the shell pattern, sorted by name."""
    found = [
        card
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        for card in importlib.import_module(f"{__name__}.{module.name}").CARDS
    ]
    names = [card.name for card in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"the weight card {twice!r} exists twice", valid="Names are unique")
    return sorted((card for card in found if fnmatch.fnmatch(card.name, pattern)), key=lambda card: card.name)
