"""What every card must hold to: types and ranges, value by value, so that no bundle answers by a damaged number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Any, get_args

from musicgenre.errors import BundleError
from musicgenre.features.segments import SHORTEST_HOP_S

_MOST_SAMPLES = 2**31 - 1
_LARGEST = 1e6
Check = tuple[Callable[[Any], bool], str]


def check_card(card: Any, choices: Mapping[str, Any]) -> None:
    """Refuse a card that says what no model can mean.

    Parameters
    ----------
    card : BundleCard
        The card; `musicgenre.bundle.card` asks for this check.
    choices : mapping
        Values that stand in a `Literal`, by the name of the field.

    Raises
    ------
    BundleError
        Naming the field, its value and what is valid.
    """
    for name, choice in choices.items():
        _require(card, name, (get_args(choice).__contains__, ", ".join(get_args(choice))))
    for name, check in _CHECKS.items():
        _require(card, name, check)
    shortest = ceil(SHORTEST_HOP_S * card.sample_rate_hz)
    _require(card, "hop_samples", _integer(shortest, _MOST_SAMPLES))
    _require(card, "lead_samples", _integer(0, (card.segment_samples - 1) // 2))
    for name in ("thresholds", "tag_scales", "tag_biases"):
        lengths = (0, len(card.labels))
        _require(card, name, (lambda values: len(values) in lengths, "none, or a number a label"))  # noqa: B023
    if card.kind == "embedding" and card.tags != card.labels:
        raise BundleError(f"the card of {card.name!r} has other labels than tags", valid="The same, for an embedding")
    if len(card.tag_scales) != len(card.tag_biases):
        raise BundleError(
            f"the card of {card.name!r} has {len(card.tag_scales)} tag_scales and {len(card.tag_biases)} tag_biases",
            valid="As many of one as of the other",
        )


def _require(card: Any, name: str, check: Check) -> None:
    value = getattr(card, name)
    holds, valid = check
    if not holds(value):
        shown = repr(value)
        raise BundleError(
            f"the card of {card.name!r} says {name}={shown if len(shown) <= 80 else f'{shown[:77]}...'}", valid=valid
        )


def _integer(least: int, most: int) -> Check:
    return (
        lambda value: isinstance(value, int) and _is_number(value, least, most),
        f"a whole number from {least} to {most}",
    )


def _is_number(value: object, least: float = -_LARGEST, most: float = _LARGEST) -> bool:
    """Tell a number from what only looks like one to Python: True, NaN, infinity, ten thousand digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _numbers(least: float = -_LARGEST) -> Check:
    said = f"numbers from {least:g} to {_LARGEST:g}"
    return (lambda values: _is_list(values) and all(_is_number(value, least) for value in values), said)


def _number(least: float) -> Check:
    return (lambda value: _is_number(value, least), f"a number from {least:g} to {_LARGEST:g}")


def _is_list(values: object) -> bool:
    return isinstance(values, tuple)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_names(values: Any) -> bool:
    """Tell names that differ and can be shown on a line from anything else."""
    shown = _is_list(values) and all(isinstance(name, str) and name.isprintable() and name.strip() for name in values)
    return shown and len(set(values)) == len(values)


def _are_mappings(values: Iterable[object]) -> bool:
    return _is_list(values) and all(isinstance(value, Mapping) for value in values)


_TEXT: Check = (_is_text, "text")
_MAPPING: Check = (lambda value: isinstance(value, Mapping), "names with values")
_MAPPINGS: Check = (_are_mappings, "a list of names with values")
_CHECKS: dict[str, Check] = {
    "name": (lambda value: _is_text(value) and bool(value.strip()), "a name"),
    "labels": (lambda value: bool(value) and _are_names(value), "printable names that differ, one at least"),
    "tags": (_are_names, "printable names that differ"),
    "sample_rate_hz": _integer(1_000, 768_000),  # what audio is decoded to
    "segment_samples": _integer(1, _MOST_SAMPLES),
    "temperature": _number(1e-6),
    "unsure_threshold": _number(0),
    "thresholds": _numbers(),
    "tag_scales": _numbers(1e-9),
    "tag_biases": _numbers(),
    **dict.fromkeys(("licence", "citation", "origin", "notes", "extra", "sha256"), _TEXT),
    **dict.fromkeys(("front_end", "source_sha256"), _MAPPING),
    **dict.fromkeys(("scores", "weights"), _MAPPINGS),
}
