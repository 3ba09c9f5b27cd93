"""Toy models, so that every command can be run offline: one tells loud from quiet by the mean amplitude."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import save_bundle

RATE_HZ = 8_000
SEGMENT = 8_000  # one second


def save_toy(
    path: Path,
    *,
    unsure_threshold: float = 0.0,
    labels: tuple[str, str] = ("loud", "quiet"),
    thresholds: tuple[float, ...] = (),
    **card_values: Any,
) -> Path:
    """Write the toy classifier: logits (20 m - 2, 2 - 20 m), m the segment's mean absolute amplitude.

    With ``thresholds`` it is a tagger.
    """
    if thresholds:
        card_values |= {"task": "multi_label", "activation": "sigmoid", "thresholds": thresholds}
    weights = numpy_helper.from_array(np.array([[20.0, -20.0]], dtype=np.float32), "weights")
    bias = numpy_helper.from_array(np.array([-2.0, 2.0], dtype=np.float32), "bias")
    nodes = [
        helper.make_node("Abs", ["waveform"], ["magnitude"]),
        helper.make_node("ReduceMean", ["magnitude"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "weights"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
    ]
    waveform = helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["rows", SEGMENT])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])
    graph = helper.make_graph(nodes, "toy", [waveform], [logits], [weights, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    card = BundleCard(
        name="toy",
        kind="classifier",
        labels=labels,
        sample_rate_hz=RATE_HZ,
        segment_samples=SEGMENT,
        hop_samples=SEGMENT,
        unsure_threshold=unsure_threshold,
        licence="Apache-2.0",
        **card_values,
    )
    save_bundle(path, model.SerializeToString(), card)
    return path


def save_toy_ears(path: Path, *, name: str = "toy-ears") -> Path:
    """Write toy ears: ``embedding`` (loudness, brightness, their sum) and ``tags``, the sigmoid of the first two."""
    constants = [
        numpy_helper.from_array(np.array(values, dtype=kind), key)
        for key, values, kind in (
            ("one", [1], np.int64),
            ("zero", [0], np.int64),
            ("end", [SEGMENT], np.int64),
            ("last", [SEGMENT - 1], np.int64),
            ("weights", [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], np.float32),
        )
    ]
    nodes = [
        helper.make_node("Slice", ["waveform", "one", "end", "one"], ["later"]),
        helper.make_node("Slice", ["waveform", "zero", "last", "one"], ["earlier"]),
        helper.make_node("Sub", ["later", "earlier"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["steepness"]),
        helper.make_node("ReduceMean", ["steepness"], ["brightness"], axes=[1], keepdims=1),
        helper.make_node("Abs", ["waveform"], ["magnitude"]),
        helper.make_node("ReduceMean", ["magnitude"], ["loudness"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["loudness", "brightness"], ["both"], axis=1),
        helper.make_node("Sigmoid", ["both"], ["tags"]),
        helper.make_node("MatMul", ["both", "weights"], ["embedding"]),
    ]
    outputs = [
        helper.make_tensor_value_info(key, TensorProto.FLOAT, ["rows", width])
        for key, width in (("tags", 2), ("embedding", 3))
    ]
    waveform = helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["rows", SEGMENT])
    graph = helper.make_graph(nodes, name, [waveform], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    card = BundleCard(
        name=name,
        kind="embedding",
        labels=("loud", "bright"),
        tags=("loud", "bright"),
        sample_rate_hz=RATE_HZ,
        segment_samples=SEGMENT,
        hop_samples=SEGMENT,
        licence="Apache-2.0",
    )
    save_bundle(path, model.SerializeToString(), card)
    return path
