"""Bundles, heads and indexes from strangers, with checksums that are right all the same."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre import Classifier
from musicgenre._onnx import GraphBuilder
from musicgenre._protobuf import bytes_field
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import _checksum, _split, save_bundle, seal
from musicgenre.embedding.file import EmbeddingSettings, TrackEmbeddings, write_embeddings
from musicgenre.embedding.similar import SimilarityIndex
from musicgenre.errors import MusicgenreError
from musicgenre.features.registry import create_representation
from musicgenre.models.head import GenreHead
from musicgenre.models.head import _checksum as head_checksum
from tests.attack.base import Target
from tests.attack.mutations import BINARY, ODD_VALUES, Mutation, cut, flipped, odd_json, scrambled_fields
from tests.toy import save_toy, save_toy_ears


def odd_card(content: bytes, chance: random.Random) -> bytes:
    """Change the card of a bundle and make its checksum right again."""
    bare, text = _split(content, "the bundle")
    return bare + _card_entry(bare, odd_json(json.loads(text or "{}"), chance))


def odd_front_end(content: bytes, chance: random.Random) -> bytes:
    """Change the front end on the card of a bundle and make its checksum right again."""
    bare, text = _split(content, "the bundle")
    values = json.loads(text or "{}")
    front = values.get("front_end") or {}
    key = chance.choice(sorted(front)) if front else "name"
    values["front_end"] = {**front, key: chance.choice((*ODD_VALUES, 2**30, 200_000, 10**9, 0.001))}
    return bare + _card_entry(bare, values)


def sealed_graph(content: bytes, chance: random.Random) -> bytes:
    """Change the graph of a bundle and make its checksum right again."""
    bare, text = _split(content, "the bundle")
    try:
        return seal(scrambled_fields(bare, chance), BundleCard.from_json(text or "", "the bundle"))
    except MusicgenreError:
        return scrambled_fields(bare, chance)


def odd_head(content: bytes, chance: random.Random) -> bytes:
    """Change a head and make its checksum right again."""
    values = odd_json(json.loads(content), chance)
    if isinstance(values, dict):
        values["sha256"] = head_checksum(values)
    return json.dumps(values).encode()


def odd_index(content: bytes, chance: random.Random) -> bytes:
    """Change the card of an index, or its arrays, in a whole `.npz` file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    name = chance.choice(sorted(arrays))
    if name == "card":
        card = odd_json(json.loads(bytes(arrays["card"])), chance)
        arrays["card"] = np.frombuffer(json.dumps(card).encode(), np.uint8)
    else:
        kind = chance.choice(("<f4", "<f2", "<i8", "u1", "<U3", "?", "<M8[s]"))
        odd = (
            np.zeros(0),
            arrays[name].reshape(-1),
            arrays[name][:1],
            arrays[name].view("u1"),
            np.zeros((2, 2, 2), kind),
        )
        arrays[name] = np.ascontiguousarray(chance.choice(odd))
        if arrays[name].dtype == np.float16:
            arrays[name] = arrays[name] * np.float16(chance.choice((np.nan, np.inf, 1, 0)))
    out = io.BytesIO()
    (np.savez if chance.random() < 0.5 else np.savez_compressed)(out, **arrays)
    return out.getvalue()


def _card_entry(bare: bytes, values: Any) -> bytes:
    if isinstance(values, dict):
        values["sha256"] = _checksum(bare, json.dumps(values))
    entry = bytes_field(1, b"musicgenre.card") + bytes_field(2, json.dumps(values).encode())
    return bytes_field(14, entry)


BEFORE = Path(__file__).parents[1] / "data" / "before"

FRONT_ENDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("melspectrogram", {"segment_s": 1.0, "n_mels": 16}),
    ("mfcc", {"segment_s": 1.0}),
    ("picture", {"segment_s": 1.0, "size": 8}),
    ("waveform", {"segment_s": 1.0}),
    ("musicnn", {"weights": "none", "segment_s": 3.0}),
    ("joined", {"parts": [{"name": "table"}, {"name": "waveform", "segment_s": 1.0}]}),
)
"""Representations with small options, for bundles whose front end Python computes."""

BUNDLES: tuple[Mutation, ...] = (
    flipped,
    cut,
    sealed_graph,
    sealed_graph,
    sealed_graph,
    odd_card,
    odd_card,
    odd_front_end,
)
HEADS: tuple[Mutation, ...] = (flipped, cut, odd_head, odd_head)
INDEXES: tuple[Mutation, ...] = (flipped, cut, odd_index, odd_index)


def use_bundle(path: Path) -> None:
    """Hear two seconds of noise with a bundle."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    Classifier(str(path), threads=1).classify(sound, sample_rate_hz=8_000)


def use_head(path: Path) -> None:
    """Read a head and let it answer."""
    head = GenreHead.load(path)
    width = len(head.linear.weights)
    values = np.full((3, width), 0.5)
    head.score(values, values)
    head.timeline(values, values)


def use_index(path: Path) -> None:
    """Find the nearest tracks in an index, and look for one that is not in it."""
    index = SimilarityIndex.open(path)
    if len(index):
        index.nearest_to(0)
    index.find("no such track")


def save_front_end(path: Path, name: str, options: dict[str, Any]) -> Path:
    """Write a bundle whose front end Python computes: its logits are the mean of the features, twice."""
    front = create_representation(name, **options)
    shape = front.shape()
    graph = GraphBuilder("mean")
    features = graph.input("features", "float32", ["rows", *shape])
    mean = graph.op("ReduceMean", graph.reshape(features, [0, -1]), axes=[1], keepdims=1)
    graph.output(graph.op("Concat", mean, mean, axis=1), "logits", ["rows", 2])
    card = BundleCard(
        name=name,
        kind="classifier",
        labels=("a", "b"),
        sample_rate_hz=front.sample_rate_hz,
        segment_samples=front.sample_rate_hz,
        hop_samples=front.sample_rate_hz,
        front_end=front.settings(),
    )
    save_bundle(path, graph.build(), card)
    return path


def bundles(folder: Path) -> list[Target]:
    """Bundles of every kind that hear by a graph, among them those that earlier versions wrote."""
    paths = [
        save_toy(folder / "toy.onnx"),
        save_toy(folder / "tagger.onnx", thresholds=(0.5, 0.5)),
        save_toy_ears(folder / "ears.onnx"),
        *sorted(BEFORE.glob("*.onnx")),
    ]
    found = [Target.of_file(path.stem, path.read_bytes(), ".onnx", BUNDLES, use_bundle) for path in paths]
    for representation, options in FRONT_ENDS:
        path = save_front_end(folder / f"{representation}.onnx", representation, options)
        content = path.read_bytes()
        found.append(Target.of_file(f"on {representation}", content, ".onnx", (odd_front_end, odd_card), use_bundle))
    return found


def heads(folder: Path) -> list[Target]:
    """A head as `teach` writes them, and one of an earlier version."""
    own = replace(GenreHead.load_default(), name="own").to_json().encode()
    before = (BEFORE / "head.json").read_bytes()
    return [
        Target.of_file(name, content, ".json", HEADS, use_head) for name, content in (("own", own), ("before", before))
    ]


def indexes(folder: Path) -> list[Target]:
    """Files of embeddings."""
    rng = np.random.default_rng(0)
    tracks = TrackEmbeddings(
        EmbeddingSettings("toy-ears", "0" * 64, "embedding", "mean", "18"),
        ("one.wav", "two.wav", "three.wav"),
        rng.standard_normal((3, 4)).astype(np.float16),
        np.arange(3),
        np.arange(3),
        rng.integers(0, 256, (3, 32)).astype(np.uint8),
    )
    found = []
    for suffix, mutations in ((".npz", INDEXES), (".parquet", BINARY)):
        path = folder / f"index{suffix}"
        write_embeddings(path, tracks)
        found.append(Target.of_file(path.name, path.read_bytes(), suffix, mutations, use_index))
    return found
