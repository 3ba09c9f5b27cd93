"""A trained network as an ONNX graph: its front end as our own nodes, normalisation and layers traced by torch."""

from __future__ import annotations

import tempfile
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import BundleError, MissingExtraError

try:
    import onnx
    import torch
    from onnx import compose
    from torch import nn
except ModuleNotFoundError as error:  # the light install has no torch
    raise MissingExtraError("exporting a run", "train") from error

from musicgenre._onnx import OPSET, GraphBuilder
from musicgenre.bundle.card import Activation
from musicgenre.features.base import Representation
from musicgenre.features.mel.onnx import add_melspectrogram
from musicgenre.features.published.musicnn.graph import add_track_output
from musicgenre.features.published.musicnn.published import published
from musicgenre.features.representations import musicnn, picture
from musicgenre.features.representations.melspectrogram import VGGISH

_SMALLEST_SAMPLE = 1e-7


def probabilities(
    network: nn.Module, features: NDArray[np.float32], activation: Activation = "softmax"
) -> NDArray[np.float64]:
    """Softmax, or sigmoid, of the network's logits, (batch, *shape) to (batch, n_labels)."""
    with torch.no_grad():
        logits = network(torch.from_numpy(np.ascontiguousarray(features)))
    values = logits.double()
    activated = torch.sigmoid(values) if activation == "sigmoid" else torch.softmax(values, dim=1)
    return np.asarray(activated.numpy(), dtype=np.float64)


def has_graph_front_end(settings: dict[str, Any]) -> bool:
    """Whether a representation with these settings can be computed inside a graph."""
    return settings["name"] in _FRONT_ENDS and (settings["name"] != "vggish" or settings["output"] == "examples")


def write_graph(network: nn.Module, representation: Representation) -> bytes:
    """Write an ONNX model, input ``waveform`` (rows, samples), or ``features`` where the front end stays in Python.

    Parameters
    ----------
    network : nn.Module
        Normalisation and model, in evaluation mode: features (batch, *shape) to logits (batch, n_labels).
    representation : Representation
        Its front end.

    Returns
    -------
    bytes
        The model; its output is ``logits`` (rows, n_labels).
    """
    body = _trace(network, representation.shape())
    settings = representation.settings()
    if not has_graph_front_end(settings):
        return body
    graph = GraphBuilder("front_end")
    waveform = graph.input("waveform", "float32", ["rows", segment_length(representation)])
    features = _FRONT_ENDS[settings["name"]](graph, waveform, representation)
    graph.output(features, "features", ["rows", *representation.shape()])
    layers = compose.add_prefix(
        onnx.load_from_string(body), "body/", rename_inputs=False, rename_outputs=False, rename_functions=False
    )
    front = compose.add_prefix(
        onnx.load_from_string(graph.build()), "front/", rename_inputs=False, rename_outputs=False
    )
    joined = compose.merge_models(front, layers, io_map=[("features", "features")], producer_name="musicgenre")
    onnx.checker.check_model(joined, full_check=True)
    return bytes(joined.SerializeToString(deterministic=True))


def segment_length(representation: Representation) -> int:
    """Samples of one row of the graph's input."""
    length_s = WHOLE_TRACK_S if representation.segment_s is None else representation.segment_s
    return max(1, round(length_s * representation.sample_rate_hz))


WHOLE_TRACK_S = 30.0
"""Length of a row where the representation takes tracks of any length: that of the data sets' clips."""


def _trace(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    example = torch.zeros(2, *shape)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "network.onnx"
        # The tracing exporter is deprecated, yet the newer one takes a hundred times as long (21 s for a GRU) and
        # writes an opset that older onnxruntimes do not read. The check of every export would show a wrong trace.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network,
                (example,),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=["features"],
                output_names=["logits"],
                dynamic_axes={"features": {0: "rows"}, "logits": {0: "rows"}},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise BundleError(
                f"this model cannot be written as ONNX ({str(error).splitlines()[0]})",
                next_step="Leave out the layer that the message names",
            ) from error
        return path.read_bytes()


def _mel(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    return add_melspectrogram(graph, waveform, representation.spec)


def _mfcc(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    return graph.transpose(add_melspectrogram(graph, waveform, representation.spec), [0, 2, 1])


def _examples(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    """VGGish's examples; its network stays in Python."""
    frames = graph.transpose(add_melspectrogram(graph, waveform, VGGISH), [0, 2, 1])  # (rows, frames, bands)
    return graph.reshape(frames, [0, *representation.shape()])


def _waveform(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    if representation.scale == "peak":
        loudest = graph.op("ReduceMax", graph.op("Abs", waveform), axes=[1], keepdims=1)
        return graph.op("Div", waveform, graph.op("Max", loudest, graph.floats(_SMALLEST_SAMPLE)))
    if representation.scale == "standard":
        centred = graph.op("Sub", waveform, graph.op("ReduceMean", waveform, axes=[1], keepdims=1))
        variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes=[1], keepdims=1)
        return graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, graph.floats(_SMALLEST_SAMPLE))))
    return graph.op("Identity", waveform)


def _picture(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    decibels = add_melspectrogram(graph, waveform, picture.SPEC)  # (rows, bands, frames)
    loudest = graph.op("ReduceMax", decibels, axes=[1, 2], keepdims=1)
    below = graph.op("Mul", graph.op("Sub", decibels, loudest), graph.floats(1.0 / 80.0))
    height = graph.op("Add", below, graph.floats(1.0))
    n_frames, size = picture.SPEC.n_frames(segment_length(representation)), representation.size
    tall = picture.resampled(np.eye(picture.SPEC.n_rows, dtype=np.float32), size, picture.SPEC.n_rows)[:, ::-1]
    wide = picture.resampled(np.eye(n_frames, dtype=np.float32), size, n_frames).T
    upright = graph.op("MatMul", graph.op("MatMul", graph.floats(tall), height), graph.floats(wide))
    colours = _coloured(graph, graph.op("Unsqueeze", upright, graph.integers([1])))
    return colours if representation.channels_first else graph.transpose(colours, [0, 2, 3, 1])


def _musicnn(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    """Put the published network inside; what is shorter than a patch is repeated, as the representation does."""
    n_samples, wanted = segment_length(representation), musicnn.SHORTEST_SAMPLES
    if n_samples < wanted:
        repeated = graph.op("Concat", *[waveform] * -(-wanted // n_samples), axis=1)
        waveform = graph.slice(repeated, 1, 0, wanted)
    read = musicnn.network_variables(representation.model, representation.weights).__getitem__
    return add_track_output(graph, waveform, published(representation.model).family, read, representation.output)


def _coloured(graph: GraphBuilder, height: str) -> str:
    """(rows, 1, size, size) from 0 to 1, to colours (rows, 3, size, size): ramps between the knots, mixed linearly."""
    knots = np.linspace(0.0, 1.0, len(picture.COLOURS), dtype=np.float32)
    values = picture.coloured(knots[None])[0]  # (knots, 3)
    slopes = np.diff(values, axis=0) / np.diff(knots)[:, None]  # (knots - 1, 3)
    ramps = [
        graph.op("Sub", graph.op("Clip", height, graph.floats(low), graph.floats(high)), graph.floats(low))
        for low, high in pairwise(knots)
    ]
    mixed = graph.op("Concat", *ramps, axis=1)
    return graph.op("Conv", mixed, graph.floats(slopes.T[:, :, None, None]), graph.floats(values[0]))


_FRONT_ENDS = {
    "melspectrogram": _mel,
    "mfcc": _mfcc,
    "musicnn": _musicnn,
    "picture": _picture,
    "vggish": _examples,
    "waveform": _waveform,
}
