"""Cards of published weights: unique, whole, and naming networks that exist."""

from __future__ import annotations

import json
import string

import pytest

from musicgenre.errors import UsageError
from musicgenre.models import cards
from musicgenre.models.cards import WeightCard, list_cards

CARDS = list_cards()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_is_whole(card: WeightCard) -> None:
    assert card.model and card.file and card.reads and card.licence and card.origin and card.citation
    assert not card.url or card.url.startswith("https://")
    assert set(card.sha256) <= set(string.hexdigits.lower())
    assert card.classes >= 0
    assert card.sample_rate_hz is None or card.sample_rate_hz >= 8_000
    assert WeightCard(**json.loads(json.dumps(card.as_dict()))) == card


def test_cards_are_found_by_pattern() -> None:
    assert [card.name for card in list_cards("vgg19/*")] == ["vgg19/imagenet"]
    assert [card.name for card in CARDS] == sorted(card.name for card in CARDS)
    assert list_cards("nothing-of-the-kind") == []


def test_a_name_given_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from musicgenre.models.cards import imagenet

    monkeypatch.setattr(imagenet, "CARDS", (CARDS[0], CARDS[0]))
    with pytest.raises(UsageError, match="exists twice"):
        cards.list_cards()
