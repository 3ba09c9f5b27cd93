"""Configurations of transformers: whatever they say makes a network that hears, or an error of ours."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

from musicgenre.features.published.transformers.hearing import Wanted
from musicgenre.features.published.transformers.hub import CONFIG, PROCESSOR, find_model
from musicgenre.features.published.transformers.load import build, load
from tests.attack.base import BrokenPromiseError, Target
from tests.attack.mutations import Mutation, cut, flipped, odd_integer, odd_json_file, odd_text, overwritten
from tests.tiny_transformers import FAMILIES, make_model

_SEGMENT_S = 2.0


def transformers(folder: Path) -> list[Target]:
    """The descriptions of a tiny model of each family, and, more seldom, its weights."""
    found = []
    for family in FAMILIES:
        model = make_model(folder, family)
        for name in (CONFIG, PROCESSOR):
            found.append(Target.of_folder(model, name, _DESCRIPTIONS, hear, name=f"{family} {name}"))
        weights = "*.bin" if family == "mert" else "*.safetensors"
        found.append(Target.of_folder(model, weights, _WEIGHTS, hear, name=f"{family} weights"))
    return found


def hear(path: Path) -> None:
    """Hear noise with a model, without its weights first.

    Raises
    ------
    BrokenPromiseError
        What is heard has another shape than it said it would have.
    """
    published = find_model(str(path.parent))
    wanted = Wanted(segment_s=_SEGMENT_S)
    with torch.device("meta"):
        shape = build(published.config, published.processor, wanted).shape()

    hearing = load(published, wanted)
    torch.manual_seed(0)
    with torch.inference_mode():
        heard = hearing(0.1 * torch.randn(1, round(_SEGMENT_S * hearing.sample_rate_hz)))
    if tuple(heard.shape) != (1, *shape):
        raise BrokenPromiseError(f"{tuple(heard.shape)} instead of {(1, *shape)}")


def odd_number(content: bytes, chance: random.Random) -> bytes:
    """Change one of the numbers of layers, widths and steps by less than an odd value does."""
    values = json.loads(content)
    inner = values.get("audio_config", values)
    key = chance.choice(sorted(key for key, value in inner.items() if isinstance(value, int | float | list)))
    number = chance.choice((0, -1, 1, 2, 3, 5, 7, 16, 100, 1_000, 10**6, 10**12, 0.5, 1e-9))
    inner[key] = [number] * len(inner[key]) if isinstance(inner[key], list) else number
    return json.dumps(values).encode()


_DESCRIPTIONS: tuple[Mutation, ...] = (odd_number, odd_number, odd_number, odd_json_file, odd_json_file, odd_text)
_WEIGHTS: tuple[Mutation, ...] = (flipped, cut, overwritten, odd_integer)
