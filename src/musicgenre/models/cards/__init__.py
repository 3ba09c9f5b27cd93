"""The cards of published weights: what they hear, whose work they are, how their file is recognised.

One file here a source, each with a tuple `CARDS`; needs neither torch nor NumPy.
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from musicgenre._text import nearest_name
from musicgenre.errors import UsageError

_NOT_KNOWN = "not known here: see the page of the model"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightCard:
    """One published set of weights.

    Parameters
    ----------
    name : str
        Unique among all cards, as `vgg19/imagenet`.
    model : str
        Name of the network it fits, as `create_model` or `create_representation` takes it.
    file : str
        Name of the published file, or of the model on its hub.
    url : str
        The usual address; empty where there is none.
    sha256 : str
        Checksum of the file, or the digits it is published with; empty where none is published.
    reads : str
        What goes in, in words.
    sample_rate_hz : int or None
        Rate of the sound it was trained on; `None` for pictures.
    window_s : float or None
        Length of the sound it was trained on in seconds; `None`: any, or pictures.
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
    """Cards whose name matches the shell pattern, sorted by name.

    Raises
    ------
    UsageError
        If two cards have one name.
    """
    found: dict[str, WeightCard] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        for card in importlib.import_module(f"{__name__}.{module.name}").CARDS:
            if card.name in found:
                raise UsageError(f"the weight card {card.name!r} exists twice", valid="Names are unique")
            found[card.name] = card

    return [found[name] for name in sorted(found) if fnmatch.fnmatch(name, pattern)]


def find_card(name: str) -> WeightCard:
    """Look a card up; raises `UsageError` where there is none of that name."""
    for card in list_cards():
        if card.name == name:
            return card

    near = nearest_name(name, [card.name for card in list_cards()])
    raise UsageError(
        f"there is no weight card {name!r}",
        valid=f"Nearest: {near}" if near else "",
        next_step="'musicgenre models' lists them",
    )


def cards_in_use(*users: Any) -> list[WeightCard]:
    """Cards of the published weights that representations and networks were made with, each once.

    Parameters
    ----------
    *users : Representation or nn.Module
        Those with an attribute `weight_cards` are asked, a network's parts too. It is a tuple of cards, names of
        cards, or mappings that `card_of` takes.

    Raises
    ------
    UsageError
        If a name is no card's.
    """
    found: dict[str, WeightCard] = {}
    for user in users:
        # a network lists itself among its parts
        parts = user.modules() if hasattr(user, "modules") else (user,)
        for part in parts:
            for told in getattr(part, "weight_cards", ()):
                if isinstance(told, WeightCard):
                    card = told
                elif isinstance(told, Mapping):
                    card = card_of(**told)
                else:
                    card = find_card(told)
                found[card.name] = card

    return list(found.values())


def card_of(
    *, name: str, model: str, sha256: str, reads: str, sample_rate_hz: int | None, window_s: float | None
) -> WeightCard:
    """Card of weights that lie here: a published one with their checksum, or one that knows no more than they say.

    A folder named as the last part of a published name is taken for that model, as it is where models are looked for.
    """
    for card in list_cards():
        if card.model == model and name in (card.name, card.name.rpartition("/")[2]):
            return replace(card, sha256=sha256)

    return WeightCard(
        name=name,
        model=model,
        file=name,
        url="",
        sha256=sha256,
        reads=reads,
        sample_rate_hz=sample_rate_hz,
        window_s=window_s,
        classes=0,
        licence=_NOT_KNOWN,
        origin=_NOT_KNOWN,
        citation=_NOT_KNOWN,
    )
