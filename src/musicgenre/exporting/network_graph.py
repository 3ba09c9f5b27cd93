"""A trained network as an ONNX graph: its front end as our own nodes, normalisation and layers traced by torch."""

from __future__ import annotations

import tempfile
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import BundleError, needing

with needing("exporting a run", "train"):  # the light install has no torch
    import onnx
    import torch
    from onnx import compose
    from torch import Tensor, nn

from musicgenre._onnx import OPSET, GraphBuilder
from musicgenre.bundle.card import Activation
from musicgenre.features.base import Representation
from musicgenre.features.mel.onnx import add_melspectrogram
from musicgenre.features.published.musicnn.graph import add_track_output
from musicgenre.features.published.musicnn.published import published
from musicgenre.features.representations import musicnn, picture
from musicgenre.features.representations.melspectrogram import VGGISH
from musicgenre.models.network import Network

WIDEST_EMBEDDING = 4_096
"""Values that an embedding may have to be an output: their statistics travel in the card."""

WHOLE_TRACK_S = 30.0
"""What is heard at once of a longer track, where the representation has no segments: the data sets' clips have it."""

_SMALLEST_SAMPLE = 1e-7  # keeps silence from being divided by nothing
_PICTURE_RANGE_DB = 80.0


def probabilities(
    network: nn.Module, features: NDArray[np.float32], activation: Activation = "softmax"
) -> NDArray[np.float64]:
    """Softmax, or sigmoid, of the network's logits, (batch, *shape) to (batch, n_labels)."""
    with torch.no_grad():
        logits = network(torch.from_numpy(np.ascontiguousarray(features))).double()
    activated = torch.sigmoid(logits) if activation == "sigmoid" else torch.softmax(logits, dim=1)
    return np.asarray(activated.numpy(), dtype=np.float64)


class WithEmbedding(nn.Module):
    """Gives beside the logits a vector that tells known sound from strange.

    It is what the network reads, normalised, where that is one vector a segment (an embedding, a feature table): a
    network that learns to tell genres apart forgets what else there was. Otherwise it is what the last layer reads.

    Parameters
    ----------
    normalise : nn.Module
        Representation arrays to what the network takes.
    network : Network
        The network.
    """

    def __init__(self, normalise: nn.Module, network: Network) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (batch, n_labels) and embedding (batch, width) of representation arrays (batch, *shape)."""
        read = self.normalise(x)
        features = self.network.forward_features(read)
        return self.network.forward_head(features), read if read.ndim == 2 else features


def with_embedding(normalise: nn.Module, network: Network) -> WithEmbedding | None:
    """Let a network give an embedding; None where there is no single vector a segment, or too wide a one.

    Parameters
    ----------
    normalise : nn.Module
        Representation arrays to what the network takes.
    network : Network
        The network, in evaluation mode.
    """
    telling = WithEmbedding(normalise, network).eval()
    with torch.no_grad():
        _, embedding = telling(torch.zeros(2, *network.input_shape))
    return telling if embedding.ndim == 2 and embedding.shape[1] <= WIDEST_EMBEDDING else None


def segment_length(representation: Representation) -> int:
    """Samples of one segment: a row of the graph's input, unless that takes whole tracks."""
    length_s = WHOLE_TRACK_S if representation.segment_s is None else representation.segment_s
    return max(1, round(length_s * representation.sample_rate_hz))


def write_graph(network: nn.Module, representation: Representation) -> bytes:
    """Write an ONNX model, input `waveform` (rows, samples), or `features` where the front end stays in Python.

    Parameters
    ----------
    network : nn.Module
        Normalisation and model, in evaluation mode: features (batch, *shape) to logits (batch, n_labels), or a
        `WithEmbedding`.
    representation : Representation
        Its front end.

    Returns
    -------
    bytes
        The model; its outputs are `logits` (rows, n_labels) and, of a `WithEmbedding`, `embedding` (rows, width).
    """
    outputs = ["logits", "embedding"] if isinstance(network, WithEmbedding) else ["logits"]
    body = _traced(network, representation.shape(), outputs)
    if not representation.graph_front_end:
        return body

    graph = GraphBuilder("front_end")
    n_samples = "samples" if representation.segment_s is None else segment_length(representation)
    waveform = graph.input("waveform", "float32", ["rows", n_samples])
    features = _add_front_end(graph, waveform, representation)
    graph.output(features, "features", ["rows", *representation.shape()])

    # Prefixes keep the names of the two apart; inputs and outputs of the whole are called as the contract says.
    layers = compose.add_prefix(
        onnx.load_from_string(body), "body/", rename_inputs=False, rename_outputs=False, rename_functions=False
    )
    front = compose.add_prefix(
        onnx.load_from_string(graph.build()), "front/", rename_inputs=False, rename_outputs=False
    )
    joined = compose.merge_models(front, layers, io_map=[("features", "features")], producer_name="musicgenre")
    onnx.checker.check_model(joined, full_check=True)
    return bytes(joined.SerializeToString(deterministic=True))


def _traced(network: nn.Module, shape: tuple[int, ...], outputs: list[str]) -> bytes:
    """Let torch write the network: `features` (rows, *shape) to its outputs."""
    example = torch.zeros(2, *shape)  # two rows: of one, some layers would drop the dimension
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
                output_names=outputs,
                dynamic_axes={name: {0: "rows"} for name in ("features", *outputs)},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise BundleError(
                f"this model cannot be written as ONNX ({str(error).splitlines()[0]})",
                next_step="Leave out the layer that the message names",
            ) from error
        return path.read_bytes()


def _add_front_end(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    """Add what computes a representation of rows of samples; give the name of its result."""
    match representation.name:
        case "melspectrogram":
            return add_melspectrogram(graph, waveform, representation.spec)

        case "mfcc":
            return graph.transpose(add_melspectrogram(graph, waveform, representation.spec), [0, 2, 1])

        case "vggish":
            frames = graph.transpose(add_melspectrogram(graph, waveform, VGGISH), [0, 2, 1])  # (rows, frames, bands)
            return graph.reshape(frames, [0, *representation.shape()])

        case "musicnn":
            waveform = _add_repetition(graph, waveform, musicnn.SHORTEST_SAMPLES)
            read = musicnn.network_variables(representation.model, representation.weights).__getitem__
            family = published(representation.model).family
            return add_track_output(graph, waveform, family, read, representation.output)

        case "picture":
            return _add_picture(graph, waveform, representation)

        case "waveform" if representation.scale == "peak":
            loudest = graph.op("ReduceMax", graph.op("Abs", waveform), axes=[1], keepdims=1)
            return graph.op("Div", waveform, graph.op("Max", loudest, graph.floats(_SMALLEST_SAMPLE)))

        case "waveform" if representation.scale == "standard":
            centred = graph.op("Sub", waveform, graph.op("ReduceMean", waveform, axes=[1], keepdims=1))
            variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes=[1], keepdims=1)
            deviation = graph.op("Sqrt", graph.op("Add", variance, graph.floats(_SMALLEST_SAMPLE)))
            return graph.op("Div", centred, deviation)

        case "waveform":
            return graph.op("Identity", waveform)

        case _:
            raise BundleError(
                f"the representation {representation.name!r} has no graph here, though it says that it has",
                valid="graph_front_end = False: Python computes it where the bundle is used",
            )


def _add_repetition(graph: GraphBuilder, waveform: str, shortest: int) -> str:
    """Repeat rows that are shorter than `shortest` samples until they are as long; leave others as they are."""
    n_samples = graph.op("Slice", graph.op("Shape", waveform), graph.integers([1]), graph.integers([2]))
    wanted = graph.op("Max", n_samples, graph.integers([shortest]))
    rounded_up = graph.op("Sub", graph.op("Add", wanted, n_samples), graph.integers([1]))
    n_times = graph.op("Concat", graph.integers([1]), graph.op("Div", rounded_up, n_samples), axis=0)
    repeated = graph.op("Tile", waveform, n_times)
    return graph.op("Slice", repeated, graph.integers([0]), wanted, graph.integers([1]))


def _add_picture(graph: GraphBuilder, waveform: str, representation: Any) -> str:
    """Add the drawing of a spectrogram in colours, (rows, 3, size, size) or with the colours last."""
    # Decibels below the loudest value, from 0 (the range's lower end) to 1.
    decibels = add_melspectrogram(graph, waveform, picture.SPEC)  # (rows, bands, frames)
    loudest = graph.op("ReduceMax", decibels, axes=[1, 2], keepdims=1)
    below = graph.op("Mul", graph.op("Sub", decibels, loudest), graph.floats(1.0 / _PICTURE_RANGE_DB))
    height = graph.op("Add", below, graph.floats(1.0))

    # Resampling is linear: two matrices, got by resampling the unit matrix. Low bands belong at the bottom.
    n_frames, size = picture.SPEC.n_frames(segment_length(representation)), representation.size
    tall = picture.resampled(np.eye(picture.SPEC.n_rows, dtype=np.float32), size, picture.SPEC.n_rows)[:, ::-1]
    wide = picture.resampled(np.eye(n_frames, dtype=np.float32), size, n_frames).T
    upright = graph.op("MatMul", graph.op("MatMul", graph.floats(tall), height), graph.floats(wide))

    # Colours run straight from knot to knot: one ramp each, mixed by a convolution over single points.
    knots = np.linspace(0.0, 1.0, len(picture.COLOURS), dtype=np.float32)
    values = picture.coloured(knots[None])[0]  # (knots, 3)
    slopes = np.diff(values, axis=0) / np.diff(knots)[:, None]  # (knots - 1, 3)
    heights = graph.op("Unsqueeze", upright, graph.integers([1]))  # (rows, 1, size, size)
    ramps = []
    for low, high in pairwise(knots):
        kept = graph.op("Clip", heights, graph.floats(low), graph.floats(high))
        ramps.append(graph.op("Sub", kept, graph.floats(low)))
    mixed = graph.op("Concat", *ramps, axis=1)
    colours = graph.op("Conv", mixed, graph.floats(slopes.T[:, :, None, None]), graph.floats(values[0]))
    return colours if representation.channels_first else graph.transpose(colours, [0, 2, 3, 1])
