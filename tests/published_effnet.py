"""Stand-ins for Essentia's published networks: the same forms with random weights, and metadata of the same form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from musicgenre._onnx import GraphBuilder
from musicgenre.features.published.essentia import published

GENRES = (
    "Blues",
    "Brass & Military",
    "Children's",
    "Classical",
    "Electronic",
    "Folk, World, & Country",
    "Funk / Soul",
    "Hip Hop",
    "Jazz",
    "Latin",
    "Non-Music",
    "Pop",
    "Reggae",
    "Rock",
    "Stage & Screen",
)
MODEL, METADATA = "discogs-effnet-bsdynamic-1.onnx", "discogs-effnet-bsdynamic-1.json"


def styles() -> list[str]:
    """Four hundred made-up styles of the real genres, of different numbers, with separators in their names."""
    names = []
    for number in range(400):
        genre = GENRES[min(number * number // 9000, len(GENRES) - 1)]
        name = f"{genre}---Style {number}"
        names.append(f"{name}, Slow / Fast & Loud" if number % 7 == 0 else name)
    return names


def effnet_model(
    seed: int = 1,
    *,
    batch: int | str = "batch",
    patch: tuple[int, int] = (128, 96),
    widths: Sequence[int] = (400, 1280),
    names: Sequence[str] = ("PartitionedCall:0", "PartitionedCall:1"),
    logits: bool = False,
    bias: float = 0.0,
) -> bytes:
    """A network of Discogs-EffNet's form, so small that it hears the mean spectrum alone."""
    random = np.random.default_rng(seed)
    graph = GraphBuilder("effnet")
    patches = graph.input("serving_default_melspectrogram", "float32", [batch, *patch])
    mean = graph.op("ReduceMean", patches, axes=[1], keepdims=0)
    hidden = graph.op("Relu", graph.op("MatMul", mean, graph.floats(random.standard_normal((patch[1], widths[1])))))
    weights = random.standard_normal((widths[1], widths[0])) / widths[1]
    scores = graph.op("Add", graph.op("MatMul", hidden, graph.floats(weights)), graph.floats(bias))
    scores = scores if logits else graph.op("Sigmoid", scores)
    graph.output(scores, names[0], [batch, widths[0]])
    graph.output(hidden, names[1], [batch, widths[1]])
    return graph.build()


def head_model(
    width: int, n_classes: int, *, activation: str = "Sigmoid", batch: int | str = "batch", seed: int = 2
) -> bytes:
    """A head, one layer; its scores come out beside the probabilities, as wide as they are."""
    random = np.random.default_rng(seed)
    graph = GraphBuilder("head")
    embedding = graph.input("model/Placeholder", "float32", [batch, width])
    scores = graph.op("MatMul", embedding, graph.floats(random.standard_normal((width, n_classes)) / np.sqrt(width)))
    attributes = {"axis": 1} if activation == "Softmax" else {}
    graph.output(graph.op(activation, scores, **attributes), f"model/{activation}:0", [batch, n_classes])
    graph.output(scores, "model/dense/BiasAdd:0", [batch, n_classes])
    return graph.build()


def metadata(classes: Sequence[str], *, predictions: str = "PartitionedCall:0", embedding_model: str = "") -> bytes:
    """Metadata in Essentia's form, as much of it as there is to read."""
    content = {
        "name": "made for a test",
        "description": "random numbers",
        "classes": list(classes),
        "schema": {
            "inputs": [{"name": "an input", "type": "float"}],
            "outputs": [
                {"name": "other", "output_purpose": ""},
                {"name": predictions, "op": "Sigmoid", "output_purpose": "predictions"},
            ],
        },
    }
    if embedding_model:
        content["inference"] = {"sample_rate": 16000, "embedding_model": {"model_name": embedding_model}}
    return json.dumps(content).encode()


def write_effnet(folder: Path, **options: object) -> Path:
    """Write model and metadata; give the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METADATA).write_bytes(metadata(styles()))
    (folder / MODEL).write_bytes(effnet_model(**options))  # type: ignore[arg-type]
    return folder / MODEL


def publish_effnet(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: object) -> Path:
    """Write model and metadata, and make them the published ones; give the model's path."""
    model = write_effnet(folder, **options)
    for module in ("musicgenre.bundle.essentia", "musicgenre.features.published.essentia.published"):
        for name, file in (("MODEL_FILE", MODEL), ("METADATA_FILE", METADATA)):
            known = replace(getattr(published, name), sha256=sha256((folder / file).read_bytes()).hexdigest())
            monkeypatch.setattr(f"{module}.{name}", known)
    return model


def write_head(folder: Path, name: str, model: bytes, labels: bytes) -> Path:
    """Write a head and its metadata; give the model's path."""
    (folder / f"{name}.json").write_bytes(labels)
    (folder / f"{name}.onnx").write_bytes(model)
    return folder / f"{name}.onnx"
