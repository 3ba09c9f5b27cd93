"""Cards of published weights: unique, whole, and naming networks that exist."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from musicgenre._files import sha256_of
from musicgenre.errors import UsageError
from musicgenre.exporting.export import export_run
from musicgenre.features.registry import create_representation
from musicgenre.models import cards
from musicgenre.models.cards import WeightCard, cards_in_use, find_card, list_cards
from musicgenre.models.imagenet import cards_of
from musicgenre.models.registry import create_model
from musicgenre.training.train import train
from tests.labelled_music import make_collection
from tests.published_imagenet import write_published
from tests.tiny_transformers import make_model

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


class User:
    """Something made with published weights."""

    def __init__(self, *weight_cards: str | WeightCard) -> None:
        self.weight_cards = weight_cards


def test_cards_in_use_are_gathered_once_each() -> None:
    own = replace(find_card("msd-musicnn"), name="our/own")
    found = cards_in_use(User("msd-musicnn"), object(), User("vgg19/imagenet", "msd-musicnn"), User(own))
    assert [card.name for card in found] == ["msd-musicnn", "vgg19/imagenet", "our/own"]
    with pytest.raises(UsageError, match=r"no weight card 'vgg19/imagnet'\. Nearest: vgg19/imagenet"):
        cards_in_use(User("vgg19/imagnet"))


def test_networks_and_their_parts_are_asked() -> None:
    inner = create_model("embedding-mlp", (200,), 3)
    assert cards_in_use(nn.Sequential(nn.Identity(), inner)) == []
    inner.weight_cards = ("mtt-vgg",)
    assert [card.name for card in cards_in_use(nn.Sequential(nn.Identity(), inner))] == ["mtt-vgg"]


@pytest.mark.parametrize(
    ("weights", "names"),
    [("none", ()), ("imagenet", ("vgg19/imagenet",)), ("a/vgg19-dcbb9e9d.pth", ("vgg19/imagenet",))],
)
def test_imagenet_weights_name_their_card(weights: str, names: tuple[str, ...]) -> None:
    assert cards_of(weights, "vgg19") == names


def test_files_of_ones_own_have_a_card_with_their_checksum(tmp_path: Path) -> None:
    file, _ = write_published(tmp_path, "squeezenet-1.1")
    own = file.rename(tmp_path / "own.pth")
    network = create_model("squeezenet-1.1", (3, 32, 32), 2, weights=str(own))
    (card,) = cards_in_use(network)
    assert (card.name, card.model, card.sha256) == ("own.pth", "squeezenet-1.1", sha256_of(own))
    assert "not known" in card.licence and not card.url
    vggish = create_representation("vggish", output="quantised", weights=str(own), pca=str(own))
    assert [card.sha256 for card in cards_in_use(vggish)] == [sha256_of(own)]
    assert cards_in_use(create_representation("vggish", weights="none")) == []
    named = create_representation("vggish", weights="somewhere/vggish-10086976.pth")
    assert [card.name for card in cards_in_use(named)] == ["vggish/published"]


def test_representations_name_their_cards() -> None:
    parts = [{"name": "musicnn", "model": "mtt-vgg"}, {"name": "musicnn", "weights": "none"}]
    assert [card.name for card in cards_in_use(create_representation("joined", parts=parts))] == ["mtt-vgg"]
    assert cards_in_use(create_representation("mfcc")) == []


def test_weights_that_lie_here_have_a_card_too() -> None:
    told = {"model": "transformer", "sha256": "ab", "reads": "mono sound", "sample_rate_hz": 16_000, "window_s": 10.0}
    known = cards.card_of(name="facebook/wav2vec2-base", **told)
    assert known.sha256 == "ab" and known.licence == "Apache-2.0"
    ours = cards.card_of(name="my-folder", **told)
    assert ours.sha256 == "ab" and "not known" in ours.licence and not ours.url
    folder = cards.card_of(name="MERT-v1-95M", **told)
    assert folder.name == "m-a-p/MERT-v1-95M" and folder.sha256 == "ab" and "not for commercial use" in folder.licence
    assert not cards.card_of(name="imagenet", **told).url, "the last part of a card's name, but of another network's"


@pytest.mark.parametrize("source", ["squeezenet-1.1/imagenet", "wav2vec2"])
def test_the_card_travels_from_weights_to_run_and_bundle(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    settings = ["data.labels=[]", "training.epochs=1", "protocol.options={test_size: 0.34, validation_size: 0.17}"]
    if source == "wav2vec2":
        recipe = "hubert-linear-probe"
        settings += [f"representation.options.model={make_model(tmp_path, source)}"]
        settings += ["representation.options.segment_s=3.0"]
    else:
        recipe = "picture-squeezenet-scratch"
        fake, _ = write_published(tmp_path, "squeezenet-1.1")
        monkeypatch.setattr("musicgenre.models.imagenet.find_weights", lambda *_: fake)
        settings += ["model.options.weights=imagenet", "representation.options={segment_s: 3.0, size: 64}"]
    run = train(recipe, make_collection(tmp_path / "music"), output=tmp_path / "run", overrides=settings)
    (told,) = json.loads((run / "run.json").read_text("utf-8"))["weights"]
    (kept,) = export_run(run).card.weights
    assert told == dict(kept) and told["name"] == source and told["licence"] and told["sha256"]
