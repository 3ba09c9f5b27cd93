"""What a published MusiCNN or VGG tagger hears in a track, as a vector: for classical models and small networks.

The network runs as the same ONNX graph as inside the default bundle (:mod:`musicgenre.features._musicnn`), so neither
torch nor the bundle itself is needed, and every way to hear agrees with the published models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgenre.errors import UsageError
from musicgenre.features.base import Float32, fit_length, segment_samples
from musicgenre.features.jobs import in_threads
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
from musicgenre.features.registry import register, unknown

if TYPE_CHECKING:
    import onnxruntime

    from musicgenre.features.published.musicnn.weights import Variables

VERSION = 1

WEIGHTS = ("published", "none")
_NO_PADDING = np.zeros((), np.int64)  # rows are padded already
SHORTEST_SAMPLES = SEGMENT_SAMPLES - 2 * LEAD_SAMPLES
"""Samples of one patch of 3 s; a shorter waveform is repeated until it fills one."""


@register("musicnn")
class MusiCnn:
    """One output of a published tagger, averaged over the patches of 3 s of a waveform, shape (width,).

    Patches follow each other without a gap and a partial one at the end is left out, as in the published package. The
    weights are read when the first waveform comes, once in each process.

    Parameters
    ----------
    model : {"msd-musicnn", "mtt-musicnn", "msd-vgg", "mtt-vgg"}
        Which network: trained on the Million Song Dataset or on MagnaTagATune.
    output : {"embedding", "tags", "mean", "max"}
        ``embedding``: what the last layer reads, 200 values (VGG: 256). ``tags``: 50 probabilities. ``mean``, ``max``:
        all channels of MusiCNN's convolutions pooled over the time of each patch, 753 values; VGG has none.
    segment_s : float, optional
        Length of the waveform that one vector stands for; any length, the whole track, by default.
    weights : {"published", "none"}
        ``none``: an untrained network, always the same, to try things out without the weights.
    """

    name = "musicnn"
    row_axis: int | None = 0

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
            raise unknown("published network", model, list(PUBLISHED))
        valid = outputs_of(published(model).family)
        if output not in valid:
            raise unknown(f"output of {model}", output, list(valid))
        if weights not in WEIGHTS:
            raise unknown("kind of weights", weights, list(WEIGHTS))
        if segment_s is not None and segment_s <= 0:
            raise UsageError(f"segment_s={segment_s} is not positive")
        self.model, self.output, self.weights = model, output, weights
        self.sample_rate_hz = SPEC.sample_rate_hz
        self.segment_s = None if segment_s is None else float(segment_s)
        self.weights_sha256 = published(model).data_sha256 if weights == "published" else ""
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

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the tags as columns of a manifest, ``tag_hip_hop``; other outputs have no names."""
        if self.output != "tags":
            return ()
        return tuple(f"tag_{re.sub(r'[^a-z0-9]+', '_', tag.lower())}" for tag in published(self.model).tags)

    def shape(self) -> tuple[int, ...]:
        """(width,)."""
        return (output_width(published(self.model).family, self.output),)

    def compute(self, waveform: Float32) -> Float32:
        """Hear ``waveform``, shape (n_samples,) at 16 kHz, and average the output over its patches.

        Raises
        ------
        BundleError
            When the weights are not at hand and cannot be fetched; the message names three ways.
        """
        return self.compute_many([waveform])[0]

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        """Hear several waveforms, as :meth:`compute` does, ``threads`` patches at a time.

        Single patches on a thread each, not many in one call: so a patch stays in a core's cache.
        """
        rows = [patches(self._filled(waveform)) for waveform in waveforms]
        session = _session(self.model, self.output, self.weights)

        def hear(row: Float32) -> Float32:
            values: Float32 = session.run(None, {"waveform": row[None], "padding": _NO_PADDING})[0]
            return values

        values = np.concatenate(in_threads(hear, [row for track in rows for row in track], threads))
        by_track = np.split(values, np.cumsum([len(track) for track in rows])[:-1])
        return [track.mean(axis=0, dtype=np.float64).astype(np.float32) for track in by_track]

    def _filled(self, waveform: Float32) -> Float32:
        """Cut or pad to the segment; repeat what is shorter than a patch."""
        if self.segment_s is not None:
            waveform = fit_length(waveform, segment_samples(self.sample_rate_hz, self.segment_s))
        filled = fit_length(waveform, max(len(waveform), 1))
        return filled if len(filled) >= SHORTEST_SAMPLES else np.resize(filled, SHORTEST_SAMPLES)

    def make_ready(self) -> None:
        """Fetch the weights unless they are at hand: once, before worker processes start."""
        network_variables(self.model, self.weights)

    def settings(self) -> dict[str, Any]:
        """Return network, output, segment length and the checksum of the weights."""
        return {
            "name": self.name,
            "version": VERSION,
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
    return random_variables(network.family) if weights == "none" else read_variables([network])[model]


@lru_cache(maxsize=4)
def _session(model: str, output: str, weights: str) -> onnxruntime.InferenceSession:
    """Load a network, once in each process; it runs on one thread: patches are heard side by side."""
    import onnxruntime

    from musicgenre.features.published.musicnn.graph import patch_graph

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    read = network_variables(model, weights).__getitem__
    graph = patch_graph(published(model).family, read, (output,))
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
