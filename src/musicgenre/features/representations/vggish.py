"""VGGish: log-mel examples of 0.96 s, and the embedding that the published network makes of each (D2, D4).

Example `k` has the frames 96 k to 96 k + 95 of the whole track, 10 ms apart and 25 ms long, so that it begins at
0.96 k s and n examples need 0.96 n + 0.015 s. A MagnaTagATune clip of 29.12 s holds 30 whole ones: the thirtieth spans
27.84 to 28.815 s, and the last 0.3 s are not heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgenre._known_files import known_sha256
from musicgenre._parallel import in_threads
from musicgenre._text import unknown_name
from musicgenre._weight_files import set_option
from musicgenre.errors import BundleError, UsageError, needing
from musicgenre.features.base import Float32, Representation, fit_length
from musicgenre.features.jobs import in_torch_threads
from musicgenre.features.published.vggish.files import (
    NONE,
    PCA,
    PCA_CARD,
    PCA_READS,
    PUBLISHED,
    WEIGHTS,
    card_of_file,
    find_file,
    weight_cards,
)
from musicgenre.features.registry import register
from musicgenre.features.representations.melspectrogram import VGGISH, fast_melspectrogram

if TYPE_CHECKING:
    from musicgenre._weight_files import WeightFile

N_FRAMES, WIDTH = 96, 128
HOP_S = 0.96
"""From one example to the next."""

OUTPUTS = ("embedding", "quantised", "examples")
POOLS = ("mean", "none")
_EXAMPLE_SAMPLES = N_FRAMES * VGGISH.hop_length


@register("vggish")
class Vggish(Representation):
    """VGGish of a track or a segment.

    Parameters
    ----------
    output : {"embedding", "quantised", "examples"}
        The network's 128 numbers an example; the same after PCA and in 8 bits (0 to 255), as AudioSet was released; or
        the log-mel examples that the network reads, for which no weights are needed.
    n_examples : int, optional
        Examples in a segment, 30 for D2's clips; by default all of a track, which only pooled embeddings can be.
    pool : {"mean", "none"}
        The mean of the embeddings over the examples, (128,), or each of them, (n_examples, 128).
    weights : str
        `published`: `vggish-10086976.pth`; the path of a file with the same names and shapes; or `none`: an untrained
        network, always the same, to try things out without the weights.
    pca : str
        For `quantised`: `published` (`vggish_pca_params.npz`), or a path.
    weights_sha256, pca_sha256 : str
        What the files' checksums must begin with; `settings` gives them, so that other files cannot slip in later.
    """

    name = "vggish"
    sample_rate_hz = VGGISH.sample_rate_hz
    hears_many = True
    is_network = True

    def __init__(
        self,
        *,
        output: str = "embedding",
        n_examples: int | None = None,
        pool: str = "mean",
        weights: str = PUBLISHED,
        pca: str = PUBLISHED,
        weights_sha256: str = "",
        pca_sha256: str = "",
    ) -> None:
        if output not in OUTPUTS:
            raise unknown_name("VGGish output", str(output), OUTPUTS)
        if pool not in POOLS:
            raise unknown_name("VGGish pool", str(pool), POOLS)
        if n_examples is not None and n_examples < 1:
            raise UsageError(f"n_examples={n_examples} is not positive", valid="1 or more")
        if n_examples is None and (output == "examples" or pool == "none"):
            raise UsageError("n_examples is not given", valid="A number, where arrays are not pooled over a track")

        self.output, self.n_examples, self.pool = output, n_examples, pool
        self.weights, self.pca = str(weights), str(pca)
        self._expected = {"weights": weights_sha256, "pca": pca_sha256}
        if n_examples is not None:
            self.segment_s = samples_of(n_examples) / self.sample_rate_hz
        self.row_axis = len(self.shape()) - 1  # bands, or values of the embedding

        # The examples are a spectrogram, which a graph holds; the network of 289 MB stays outside.
        self.graph_front_end = output == "examples"
        self.extra = "features" if output == "examples" else "train"

    @property
    def weight_cards(self) -> tuple[str | dict[str, Any], ...]:
        """Cards of the files in use: names of the published ones, see `musicgenre.models.cards`."""
        if self.output == "examples":
            return ()

        cards = weight_cards(self.weights)
        if self.output == "quantised":
            cards += (card_of_file(self.pca, PCA, PCA_CARD, PCA_READS),)
        return cards

    @property
    def weights_sha256(self) -> str:
        """Checksum of the file of the network; empty for an untrained one."""
        if self.weights == NONE:
            return ""
        return self._file("weights", self.weights, WEIGHTS)[1]

    def shape(self) -> tuple[int, ...]:
        """(n_examples, 96, 64), (n_examples, 128) or (128,)."""
        if self.n_examples is None:
            return (WIDTH,)
        if self.output == "examples":
            return (self.n_examples, N_FRAMES, VGGISH.n_mels)
        return (WIDTH,) if self.pool == "mean" else (self.n_examples, WIDTH)

    def make_ready(self) -> None:
        """Fetch the files unless they are at hand: once, before worker processes start."""
        if self.output != "examples" and self.weights != NONE:
            self._file("weights", self.weights, WEIGHTS)
        if self.output == "quantised":
            self._file("pca", self.pca, PCA)

    def load(self) -> None:
        """Read the weights into this process: all that is wrong with them shows here."""
        self._network()
        self.make_ready()

    def pieces(self) -> tuple[Vggish, float]:
        """Give what hears one example, and the seconds from one to the next.

        The embedding of a track is the mean over them, so a long one need not be held as a whole.
        """
        piece = Vggish(
            output=self.output,
            n_examples=1,
            weights=self.weights,
            pca=self.pca,
            weights_sha256=self._expected["weights"],
            pca_sha256=self._expected["pca"],
        )
        return piece, HOP_S

    def compute(self, waveform: Float32) -> Float32:
        """Compute the array of `waveform`, shape (n_samples,), cut or zero-padded to `n_examples`.

        Raises
        ------
        BundleError
            If the weights are missing, damaged or others than expected.
        """
        examples = examples_of(waveform, self.n_examples)
        if self.output == "examples":
            return examples

        module, network = self._network()
        return self._pooled(module.embed(network, examples))

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        """Compute the arrays of several waveforms, the network on batches of their examples, `threads` at a time.

        What `compute` gives, but for the rounding of float32 sums, whose order depends on the batch.
        """
        by_track = list(in_threads(lambda waveform: examples_of(waveform, self.n_examples), waveforms, threads))
        if self.output == "examples":
            return by_track

        # Batches of the same size whatever the tracks' lengths: a thread each, so they should take equally long.
        module, network = self._network()
        examples = np.concatenate(by_track)
        batches = [examples[start : start + module.BATCH] for start in range(0, len(examples), module.BATCH)]
        embeddings = np.concatenate(in_torch_threads(lambda batch: module.embed(network, batch), batches, threads))

        arrays = []
        for track in by_track:
            own, embeddings = embeddings[: len(track)], embeddings[len(track) :]
            arrays.append(self._pooled(own))
        return arrays

    def settings(self) -> dict[str, Any]:
        """Return the options that count, and the checksums of the files.

        Raises
        ------
        BundleError
            If a file whose checksum is not known beforehand is missing.
        """
        settings = super().settings() | {"output": self.output, "n_examples": self.n_examples}
        if self.output == "examples":
            return settings

        settings |= {"pool": self.pool, "weights": self.weights}
        if self.weights != NONE:
            settings["weights_sha256"] = self._sha256("weights", self.weights, WEIGHTS)
        if self.output == "quantised":
            settings |= {"pca": self.pca, "pca_sha256": self._sha256("pca", self.pca, PCA)}
        return settings

    def _network(self) -> tuple[Any, Any]:
        """Give the module that knows the network, and the network."""
        with needing("embedding by VGGish", "train"):
            from musicgenre.features.published.vggish import network

        if self.weights == NONE:
            return network, network.network_of(None, "")
        return network, network.network_of(*self._file("weights", self.weights, WEIGHTS))

    def _pooled(self, embeddings: Float32) -> Float32:
        """Post-process and pool the embeddings of a waveform, (n_examples, 128)."""
        if self.output == "quantised":
            from musicgenre.features.published.vggish import network

            pca_path, _ = self._file("pca", self.pca, PCA)
            embeddings = network.quantised(embeddings, network.read_pca(pca_path))

        return embeddings.mean(axis=0) if self.pool == "mean" else embeddings

    def _sha256(self, option: str, given: str, published: WeightFile) -> str:
        """Checksum of a file; that of a published one is known without it."""
        if given == PUBLISHED and published.sha256:
            return published.sha256
        return self._expected[option] or self._file(option, given, published)[1]

    def _file(self, option: str, given: str, published: WeightFile) -> tuple[Path, str]:
        """Find a file and compare its checksum with the expected one."""
        expected = self._expected[option]
        if not expected and given == PUBLISHED:
            expected = published.sha256
        if published.sha256 and expected.startswith(published.sha256) and not Path(given).is_file():
            given = PUBLISHED  # the path is one of another machine

        path = find_file(given, published, f"representation.options.{option}")
        sha256 = known_sha256(path)
        if not sha256.startswith(expected):
            raise BundleError(
                f"{path} has another SHA-256 than expected ({sha256[: len(expected)]})",
                valid=f"It should begin with {expected}",
                next_step=f"Name the file that was used before: {set_option(f'representation.options.{option}')}",
            )
        return path, sha256


def samples_of(n_examples: int) -> int:
    """Samples that `n_examples` examples span: the last frame ends with them."""
    return n_examples * _EXAMPLE_SAMPLES - VGGISH.hop_length + VGGISH.window_length


def examples_of(waveform: Float32, n_examples: int | None = None) -> Float32:
    """Cut a waveform into log-mel examples.

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,)
        Mono sound at 16 kHz; zeros are put behind one that is too short.
    n_examples : int, optional
        How many; by default as many as are whole, one at least.

    Returns
    -------
    ndarray of float32, shape (n_examples, 96, 64)
        Natural logarithms of mel magnitudes, frames by bands.
    """
    if n_examples is None:
        n_examples = max(1, 1 + (len(waveform) - samples_of(1)) // _EXAMPLE_SAMPLES)

    mel = fast_melspectrogram(fit_length(waveform, samples_of(n_examples)), VGGISH)  # (64, 96 n_examples)
    return mel.T.reshape(n_examples, N_FRAMES, VGGISH.n_mels).copy()
