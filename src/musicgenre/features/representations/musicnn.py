"""What a published MusiCNN or VGG tagger hears in a track, as a vector: for classical models and small networks.

The network runs as the same ONNX graph as inside the default bundle (`musicgenre.features.published.musicnn`), so
neither torch nor the bundle itself is needed, and every way to hear agrees with the published models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgenre._text import unknown_name
from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, Representation
from musicgenre.features.published.musicnn.published import (
    HOP_SAMPLES,
    LEAD_SAMPLES,
    PUBLISHED,
    SEGMENT_SAMPLES,
    SPEC,
    output_width,
    outputs_of,
    published,
)
from musicgenre.features.published.patches import filled, mean_by_track
from musicgenre.features.registry import register

if TYPE_CHECKING:
    from musicgenre._onnxruntime import Session
    from musicgenre.features.published.musicnn.weights import Variables

WEIGHTS = ("published", "none")
SHORTEST_SAMPLES = SEGMENT_SAMPLES - 2 * LEAD_SAMPLES
"""Samples of one patch of 3 s; a shorter waveform is repeated until it fills one."""

_NO_PADDING = np.zeros((), np.int64)  # rows are padded already


@register("musicnn")
class MusiCnn(Representation):
    """One output of a published tagger, averaged over the patches of 3 s of a waveform, shape (width,).

    Patches follow each other without a gap and a partial one at the end is left out, as in the published package. The
    weights are read when the first waveform comes, once in each process.

    Parameters
    ----------
    model : {"msd-musicnn", "mtt-musicnn", "msd-vgg", "mtt-vgg"}
        Which network: trained on the Million Song Dataset or on MagnaTagATune.
    output : {"embedding", "tags", "mean", "max", "dense"}
        `embedding`: what the last layer reads, 200 values (VGG: 256). `tags`: 50 probabilities. `mean`, `max`: all
        channels of MusiCNN's convolutions pooled over the time of each patch, 753 values; VGG has none. `dense`:
        MusiCNN's embedding before its ReLU and batch-norm.
    segment_s : float, optional
        Length of the waveform that one vector stands for; any length, the whole track, by default.
    weights : {"published", "none"}
        `none`: an untrained network, always the same, to try things out without the weights.
    weights_sha256 : str, optional
        The weights that it must be; settings that were stored hold them.

    Attributes
    ----------
    columns : tuple of str
        Names of the tags as columns of a manifest, `tag_hip_hop`; other outputs have no names.
    """

    name = "musicnn"
    row_axis = 0
    hears_many = True
    is_network = True
    graph_front_end = True

    def __init__(
        self,
        *,
        model: str = "msd-musicnn",
        output: str = "embedding",
        segment_s: float | None = None,
        weights: str = "published",
        weights_sha256: str | None = None,
    ) -> None:
        if model not in PUBLISHED:
            raise unknown_name("published network", str(model), PUBLISHED)
        network = published(model)
        valid = outputs_of(network.family)
        if output not in valid:
            raise unknown_name(f"output of {model}", str(output), valid)
        if weights not in WEIGHTS:
            raise unknown_name("kind of weights", str(weights), WEIGHTS)
        if segment_s is not None and segment_s <= 0:
            raise UsageError(f"segment_s={segment_s} is not positive")

        self.model, self.output, self.weights = model, output, weights
        self.sample_rate_hz = SPEC.sample_rate_hz
        if segment_s is not None:
            self.segment_s = float(segment_s)
        if output == "tags":
            self.columns = tuple(f"tag_{re.sub(r'[^a-z0-9]+', '_', tag.lower())}" for tag in network.tags)

        # Prepared features and trained models live longer than the weights that this version reads.
        self.weights_sha256 = network.data_sha256 if weights == "published" else ""
        if weights_sha256 not in (None, self.weights_sha256):
            raise UsageError(
                f"these values were made with other weights of {model} ({weights_sha256})",
                valid=f"This musicgenre reads the weights {self.weights_sha256 or 'none'}",
                next_step="Prepare the features again and train anew",
            )

    @property
    def weight_cards(self) -> tuple[str, ...]:
        """Names of the cards of the published weights in use."""
        return (self.model,) if self.weights == "published" else ()

    def shape(self) -> tuple[int, ...]:
        """(width,)."""
        return (output_width(published(self.model).family, self.output),)

    def make_ready(self) -> None:
        """Fetch the weights unless they are at hand: once, before worker processes start."""
        network_variables(self.model, self.weights)

    def compute(self, waveform: Float32) -> Float32:
        """Hear `waveform`, shape (n_samples,) at 16 kHz, and average the output over its patches.

        Raises
        ------
        BundleError
            When the weights are not at hand and cannot be fetched; the message names three ways.
        """
        return self.compute_many([waveform])[0]

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        """Hear several waveforms, as `compute` does, `threads` patches at a time."""
        by_track = []
        for waveform in waveforms:
            by_track.append(patches(filled(waveform, self.sample_rate_hz, self.segment_s, SHORTEST_SAMPLES)))
        session = _session(self.model, self.output, self.weights)

        def hear(patch: Float32) -> Float32:
            values: Float32 = session.run(None, {"waveform": patch[None], "padding": _NO_PADDING})[0]
            return values

        return mean_by_track(by_track, hear, threads=threads)

    def settings(self) -> dict[str, Any]:
        """Return network, output, segment length and the checksum of the weights."""
        return super().settings() | {
            "model": self.model,
            "output": self.output,
            "segment_s": self.segment_s,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
        }


def patches(waveform: Float32) -> Float32:
    """Cut a waveform of at least `SHORTEST_SAMPLES` into the rows that the network reads, (n, SEGMENT_SAMPLES)."""
    padded = np.pad(np.asarray(waveform, np.float32), LEAD_SAMPLES)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, SEGMENT_SAMPLES)[::HOP_SAMPLES])


def network_variables(model: str, weights: str) -> Variables:
    """Give the variables of a network by name: the published ones, or those of an untrained one."""
    from musicgenre.features.published.musicnn.weights import random_variables, read_variables

    network = published(model)
    if weights == "none":
        return random_variables(network.family)
    return read_variables([network])[model]


@lru_cache(maxsize=4)
def _session(model: str, output: str, weights: str) -> Session:
    """Load a network, once in each process."""
    from musicgenre._onnxruntime import open_session
    from musicgenre.features.published.musicnn.graph import patch_graph

    read = network_variables(model, weights).__getitem__
    graph = patch_graph(published(model).family, read, (output,))
    return open_session(graph)
