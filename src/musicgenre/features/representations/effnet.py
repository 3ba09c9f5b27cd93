"""What Discogs-EffNet hears in a track, as a vector: its embedding, or the probabilities of its 400 styles.

The published file is read where `musicgenre bundles get discogs-effnet` keeps it, after its terms were agreed to. It
stays outside of every bundle that is exported from a run on it: such a bundle holds its checksum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgenre._known_files import known_sha256
from musicgenre._text import unknown_name
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.base import Float32, Representation
from musicgenre.features.published.essentia.files import kept_path, read_effnet
from musicgenre.features.published.essentia.network import effnet_ports, front_graph, open_network, untrained_graph
from musicgenre.features.published.essentia.published import (
    EFFNET,
    EMBEDDING_WIDTH,
    HOP_SAMPLES,
    LEAD_SAMPLES,
    MODEL_FILE,
    SEGMENT_SAMPLES,
    SHORTEST_SAMPLES,
    SPEC,
    STYLES_WIDTH,
    TAIL_SAMPLES,
)
from musicgenre.features.published.patches import filled, mean_by_track
from musicgenre.features.registry import register

if TYPE_CHECKING:
    from musicgenre._onnxruntime import Session

WIDTHS = {"embedding": EMBEDDING_WIDTH, "tags": STYLES_WIDTH}
WEIGHTS = ("published", "none")


@register(EFFNET)
class DiscogsEffNet(Representation):
    """One output of Discogs-EffNet, averaged over patches of 2 s that begin every 0.99 s, shape (width,).

    Patches lie as Essentia cuts them, and a partial one at the end is left out; a shorter waveform is repeated until
    it fills one.

    Parameters
    ----------
    output : {"embedding", "tags"}
        1280 numbers, or the probabilities of the 400 styles.
    segment_s : float, optional
        Length of the waveform that one vector stands for; any length, the whole track, by default.
    weights : {"published", "none"}
        `none`: an untrained network of the same form, always the same, to try things out without the weights.
    weights_sha256 : str, optional
        The file that it must be; settings that were stored hold it.
    """

    name = EFFNET
    row_axis = 0
    sample_rate_hz = SPEC.sample_rate_hz
    hears_many = True
    is_network = True

    def __init__(
        self,
        *,
        output: str = "embedding",
        segment_s: float | None = None,
        weights: str = "published",
        weights_sha256: str = "",
    ) -> None:
        if output not in WIDTHS:
            raise unknown_name(f"output of {EFFNET}", str(output), WIDTHS)
        if weights not in WEIGHTS:
            raise unknown_name("kind of weights", str(weights), WEIGHTS)
        if segment_s is not None and segment_s <= 0:
            raise UsageError(f"segment_s={segment_s} is not positive")

        self.output, self.weights = output, weights
        self._expected = weights_sha256
        if segment_s is not None:
            self.segment_s = float(segment_s)

    @property
    def weight_cards(self) -> tuple[str, ...]:
        """Names of the cards of the published weights in use."""
        return (EFFNET,) if self.weights == "published" else ()

    @property
    def weights_sha256(self) -> str:
        """Checksum of the published file in use; empty for the untrained network.

        Raises
        ------
        BundleError
            When it is not on this machine, or another one than these settings were made with.
        """
        if self.weights == "none":
            return ""
        path = kept_path(MODEL_FILE.name)
        if not path.is_file():
            read_effnet()  # says what to do
        found = known_sha256(path)
        if self._expected not in ("", found):
            raise BundleError(
                f"these values were made with another {EFFNET} than {path}, whose sha256 is {found}",
                valid=self._expected,
                next_step=f"Get that one with: musicgenre bundles get {EFFNET} --force, or prepare and train anew",
            )
        return found

    def shape(self) -> tuple[int, ...]:
        """(width,)."""
        return (WIDTHS[self.output],)

    def make_ready(self) -> None:
        """Refuse to begin without the published file: it is never fetched unasked."""
        _ = self.weights_sha256

    def compute(self, waveform: Float32) -> Float32:
        """Hear `waveform`, shape (n_samples,) at 16 kHz, and average the output over its patches.

        Raises
        ------
        BundleError
            When the published file is not on this machine.
        """
        return self.compute_many([waveform])[0]

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        """Hear several waveforms, as `compute` does, `threads` patches at a time."""
        by_track = []
        for waveform in waveforms:
            by_track.append(_rows(filled(waveform, self.sample_rate_hz, self.segment_s, SHORTEST_SAMPLES)))
        front, body, patches, output = _sessions(self.weights_sha256, self.output)

        def hear(row: Float32) -> Float32:
            (seen,) = front.run(None, {"waveform": row[None]})
            (values,) = body.run([output], {patches: seen})
            return np.asarray(values, np.float32)

        return mean_by_track(by_track, hear, threads=threads)

    def settings(self) -> dict[str, Any]:
        """Return output, segment length and the checksum of the published file."""
        return super().settings() | {
            "output": self.output,
            "segment_s": self.segment_s,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
        }


def _rows(waveform: Float32) -> Float32:
    """Cut a waveform of at least `SHORTEST_SAMPLES` into what the front end reads, (n, SEGMENT_SAMPLES)."""
    padded = np.pad(np.asarray(waveform, np.float32), (LEAD_SAMPLES, TAIL_SAMPLES))
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, SEGMENT_SAMPLES)[::HOP_SAMPLES])


@lru_cache(maxsize=2)
def _sessions(sha256: str, output: str) -> tuple[Session, Session, str, str]:
    """Load front end and network, once in each process, with the names of the network's input and output."""
    model = read_effnet() if sha256 else untrained_graph()
    if sha256 and hashlib.sha256(model).hexdigest() != sha256:
        raise BundleError(f"{kept_path(MODEL_FILE.name)} has just changed", next_step="Try again")
    where = MODEL_FILE.name if sha256 else "the untrained network"
    ports = effnet_ports(model, where)
    return open_network(front_graph(), "the front end"), open_network(model, where), ports.input, ports.outputs[output]
