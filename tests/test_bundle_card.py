from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from musicgenre.bundle import BundleCard
from musicgenre.bundle.card import FORMAT_VERSION
from musicgenre.errors import BundleError

CARD = BundleCard(
    name="tiny",
    kind="classifier",
    labels=("blues", "Música"),
    sample_rate_hz=8_000,
    segment_samples=800,
    hop_samples=400,
    scores=({"metric": "accuracy", "value": 0.5},),
    front_end={"n_fft": 512},
)


def test_json_round_trip() -> None:
    assert BundleCard.from_json(CARD.to_json(), "x") == CARD


@pytest.mark.parametrize("mixture", [0, 7, "mean", [1.0]])
def test_a_mixture_that_is_none_is_refused(mixture: Any) -> None:
    values = json.loads(CARD.to_json()) | {"mixture": mixture}
    with pytest.raises(BundleError, match="tiny"):
        BundleCard.from_json(json.dumps(values), "x")


def test_unknown_keys_of_the_same_format_are_left_alone() -> None:
    values = json.loads(CARD.to_json()) | {"colour": "blue"}
    assert BundleCard.from_json(json.dumps(values), "x") == CARD


def test_a_newer_format_is_refused_even_if_it_looks_quite_different() -> None:
    with pytest.raises(BundleError, match=f"bundle format {FORMAT_VERSION + 1}.*reads formats up to {FORMAT_VERSION}"):
        BundleCard.from_json(json.dumps({"format_version": FORMAT_VERSION + 1}), "song.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"format_version": 1, "name": "\\ud800"}', "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "no format version"),
        ('{"format_version": 1}', "damaged"),
        ('{"format_version": "1"}', "no format version"),
        ('{"format_version": true}', "no format version"),
        ('{"format_version": 0}', "no format version"),
    ],
)
def test_damaged_cards(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        BundleCard.from_json(text, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate_hz": 0},
        {"segment_samples": 0},
        {"hop_samples": -1},
        {"hop_samples": 79},
        {"lead_samples": 800},
        {"kind": "magic"},
        {"activation": "relu"},
        {"labels": ()},
        {"labels": ("a", "a")},
        {"temperature": 0.0},
        {"unsure_threshold": None},
        {"unsure_threshold": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-320},
        {"temperature": True},
        {"temperature": 10**400},
        {"sample_rate_hz": 8_000.5},
        {"sample_rate_hz": 10**12},
        {"hop_samples": 400.0},
        {"hop_samples": True},
        {"segment_samples": 10**12},
        {"lead_samples": 1.5},
        {"lead_samples": 400},
        {"thresholds": (0.5,)},
        {"thresholds": (0.5, float("nan"))},
        {"thresholds": (0.5, True)},
        {"thresholds": None},
        {"thresholds": "ab"},
        {"tag_scales": (1.0, 1.0)},
        {"tag_scales": (1.0, -1.0), "tag_biases": (0.0, 0.0)},
        {"tag_scales": (1.0, 1.0), "tag_biases": (0.0, float("inf"))},
        {"tag_biases": (0.0, 0.0)},
        {"labels": (1, 2)},
        {"labels": ("a", None)},
        {"labels": ("a", "")},
        {"labels": ("a", "b\n")},
        {"labels": (["a"], "b")},
        {"labels": "ab"},
        {"tags": None},
        {"kind": "embedding"},
        {"kind": ["classifier"]},
        {"name": 5},
        {"name": ""},
        {"licence": 5},
        {"extra": ("features",)},
        {"front_end": "mel"},
        {"weights": ("a",)},
        {"weights": {"a": 1}},
        {"scores": 5},
        {"source_sha256": None},
    ],
)
def test_impossible_cards(change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="|".join(change) + "|other labels than tags"):
        replace(CARD, **change)


def test_a_refused_card_names_the_value_and_what_is_valid() -> None:
    with pytest.raises(BundleError, match=r"of 'tiny' says temperature=nan\. Valid: a number from 1e-06 to 1e\+06"):
        replace(CARD, temperature=float("nan"))


def test_a_card_says_what_must_be_known_of_every_answer() -> None:
    (unfitted,) = CARD.caveats
    assert "not calibrated" in unfitted
    for fitted in ({"temperature": 1.3}, {"unsure_threshold": 0.4}):
        assert replace(CARD, **fitted).caveats == ()  # type: ignore[arg-type]
    tagger = replace(CARD, task="multi_label", activation="sigmoid", thresholds=(0.5, 0.5))
    assert "not calibrated" in tagger.caveats[0]
    assert replace(tagger, tag_scales=(1.1, 0.9), tag_biases=(0.0, 0.1)).caveats == ()
    published = replace(CARD, kind="embedding", tags=CARD.labels)
    assert published.caveats == ()

    leaky = replace(CARD, scores=({"leaky": False}, {"leaky": True}), temperature=2.0)
    assert leaky.caveats[0].startswith("LEAKY MODEL") and len(leaky.caveats) == 1


@pytest.mark.parametrize(
    "changes",
    [{"members": ["one"]}, {"mixture": 5}, {"members": [{"format_version": "1"}]}, {"mixture": {"floor": 0}}],
)
def test_what_only_ensembles_have(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"members|mixture"):
        BundleCard.from_json(json.dumps(CARD.as_values() | changes), "x")


def test_a_floor_of_stacking_asks_for_a_reader_that_knows_it() -> None:
    member = CARD.as_values()
    mixture = {"coefficients": [[0.0] * 4] * 2, "intercepts": [0.0, 0.0]}
    before = replace(CARD, kind="ensemble", members=(member, member), mixture=mixture)
    assert json.loads(before.to_json())["format_version"] == 1
    assert json.loads(replace(before, mixture={**mixture, "floor": 0.05}).to_json())["format_version"] == 4
    with pytest.raises(BundleError, match="damaged mixture"):
        replace(before, mixture={**mixture, "floor": [0.05, 0.1]})
