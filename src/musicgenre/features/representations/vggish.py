"""VGGish: log-mel examples of 0.96 s, and the embedding that the published network makes of each (D2, D4).

Example ``k`` has the frames 96 k to 96 k + 95 of the whole track, 10 ms apart and 25 ms long, so that it begins at
0.96 k s and n examples need 0.96 n + 0.015 s. A MagnaTagATune clip of 29.12 s holds 30 whole ones: the thirtieth spans
27.84 to 28.815 s, and the last 0.3 s are not heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgenre._files import sha256_of
from musicgenre._weight_files import set_option
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.base import Float32, fit_length, needing
from musicgenre.features.jobs import in_threads, in_torch_threads
from musicgenre.features.published.vggish import (
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
from musicgenre.features.registry import register, unknown
from musicgenre.features.representations.melspectrogram import VGGISH, fast_melspectrogram

if TYPE_CHECKING:
    from musicgenre._weight_files import WeightFile

VERSION = 1

N_FRAMES, WIDTH = 96, 128
HOP_S = 0.96
"""From one example to the next."""

_OUTPUTS = ("embedding", "quantised", "examples")
_POOLS = ("mean", "none")
_EXAMPLE_SAMPLES = N_FRAMES * VGGISH.hop_length


@register("vggish")
class Vggish:
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
        ``published``: ``vggish-10086976.pth``; the path of a file with the same names and shapes; or ``none``: an
        untrained network, always the same, to try things out without the weights.
    pca : str
        For ``quantised``: ``published`` (``vggish_pca_params.npz``), or a path.
    weights_sha256, pca_sha256 : str
        What the files' checksums must begin with; ``settings`` gives them, so that other files cannot slip in later.
    """

    name = "vggish"
    sample_rate_hz = VGGISH.sample_rate_hz

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
        for what, given, valid in (("output", output, _OUTPUTS), ("pool", pool, _POOLS)):
            if given not in valid:
                raise unknown(f"VGGish {what}", str(given), list(valid))
        if n_examples is not None and n_examples < 1:
            raise UsageError(f"n_examples={n_examples} is not positive", valid="1 or more")
        if n_examples is None and (output == "examples" or pool == "none"):
            raise UsageError("n_examples is not given", valid="A number, where arrays are not pooled over a track")
        self.output, self.n_examples, self.pool = output, n_examples, pool
        self.weights, self.pca = str(weights), str(pca)
        self._expected = {"weights": weights_sha256, "pca": pca_sha256}
        self.segment_s: float | None = None if n_examples is None else samples_of(n_examples) / self.sample_rate_hz
        self.row_axis: int | None = len(self.shape()) - 1  # bands, or values of the embedding
        self.extra = "features" if output == "examples" else "train"

    @property
    def weight_cards(self) -> tuple[str | dict[str, Any], ...]:
        """Cards of the files in use: names of the published ones, see ``musicgenre.models.cards``."""
        if self.output == "examples":
            return ()
        of_pca = (card_of_file(self.pca, PCA, PCA_CARD, PCA_READS),) if self.output == "quantised" else ()
        return weight_cards(self.weights) + of_pca

    def make_ready(self) -> None:
        """Fetch the files unless they are at hand: once, before worker processes start."""
        if self.output != "examples" and self.weights != NONE:
            self._checked("weights", self.weights, WEIGHTS)
        if self.output == "quantised":
            self._checked("pca", self.pca, PCA)

    def load(self) -> None:
        """Read the weights into this process: all that is wrong with them shows here."""
        self._network()
        self.make_ready()

    @property
    def weights_sha256(self) -> str:
        """Checksum of the file of the network; empty for an untrained one."""
        return "" if self.weights == NONE else self._checked("weights", self.weights, WEIGHTS)[1]

    def pieces(self) -> tuple[Vggish, float]:
        """Give what hears one example, and the seconds from one to the next.

        The embedding of a track is the mean over them, so a long one need not be held as a whole.
        """
        files = {"weights": self.weights, "pca": self.pca}
        checksums = {f"{name}_sha256": expected for name, expected in self._expected.items()}
        return Vggish(output=self.output, n_examples=1, **files, **checksums), HOP_S

    def shape(self) -> tuple[int, ...]:
        """(n_examples, 96, 64), (n_examples, 128) or (128,)."""
        if self.n_examples is None or (self.output != "examples" and self.pool == "mean"):
            return (WIDTH,)
        return (self.n_examples, N_FRAMES, VGGISH.n_mels) if self.output == "examples" else (self.n_examples, WIDTH)

    def compute(self, waveform: Float32) -> Float32:
        """Compute the array of ``waveform``, shape (n_samples,), cut or zero-padded to ``n_examples``.

        Raises
        ------
        BundleError
            If the weights are missing, damaged or others than expected.
        """
        examples = examples_of(waveform, self.n_examples)
        if self.output == "examples":
            return examples
        module, network = self._network()
        return self._finished(module.embed(network, examples))

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        """Compute the arrays of several waveforms, the network on batches of their examples, ``threads`` at a time.

        What :meth:`compute` gives, but for the rounding of float32 sums, whose order depends on the batch.
        """
        examples = in_threads(lambda waveform: examples_of(waveform, self.n_examples), waveforms, threads)
        if self.output == "examples":
            return examples
        module, network = self._network()
        together = np.concatenate(examples)
        batches = [together[start : start + module.BATCH] for start in range(0, len(together), module.BATCH)]
        embeddings = np.concatenate(in_torch_threads(lambda batch: module.embed(network, batch), batches, threads))
        by_track = np.split(embeddings, np.cumsum([len(track) for track in examples])[:-1])
        return [self._finished(track) for track in by_track]

    def _network(self) -> tuple[Any, Any]:
        """Give the module that knows the network, and the network."""
        with needing("embedding by VGGish", "train"):
            from musicgenre.features.published import vggish as _vggish
        path, sha256 = self._checked("weights", self.weights, WEIGHTS) if self.weights != NONE else (None, "")
        return _vggish, _vggish.network_of(path, sha256)

    def _finished(self, embeddings: Float32) -> Float32:
        """Post-process and pool the embeddings of a waveform, (n_examples, 128)."""
        if self.output == "quantised":
            from musicgenre.features.published import vggish as _vggish

            embeddings = _vggish.quantised(embeddings, _vggish.read_pca(self._checked("pca", self.pca, PCA)[0]))
        return embeddings.mean(axis=0) if self.pool == "mean" else embeddings

    def settings(self) -> dict[str, Any]:
        """Return the options that count, and the checksums of the files.

        Raises
        ------
        BundleError
            If a file whose checksum is not known beforehand is missing.
        """
        made: dict[str, Any] = {
            "name": self.name,
            "version": VERSION,
            "output": self.output,
            "n_examples": self.n_examples,
        }
        if self.output == "examples":
            return made
        made |= {"pool": self.pool, "weights": self.weights}
        if self.weights != NONE:
            made["weights_sha256"] = self._sha256("weights", self.weights, WEIGHTS)
        if self.output == "quantised":
            made |= {"pca": self.pca, "pca_sha256": self._sha256("pca", self.pca, PCA)}
        return made

    def _sha256(self, option: str, given: str, published: WeightFile) -> str:
        """Checksum of a file; that of a published one is known without it."""
        if given == PUBLISHED and published.sha256:
            return published.sha256
        return self._expected[option] or self._checked(option, given, published)[1]

    def _checked(self, option: str, given: str, published: WeightFile) -> tuple[Path, str]:
        """Find a file and compare its checksum with the expected one."""
        expected = self._expected[option] or (published.sha256 if given == PUBLISHED else "")
        if published.sha256 and expected.startswith(published.sha256) and not Path(given).is_file():
            given = PUBLISHED  # the path is one of another machine
        path = find_file(given, published, f"representation.options.{option}")
        status = path.stat()
        sha256 = _sha256_of(path, status.st_mtime_ns, status.st_size)
        if not sha256.startswith(expected):
            raise BundleError(
                f"{path} has another SHA-256 than expected ({sha256[: len(expected)]})",
                valid=f"It should begin with {expected}",
                next_step=f"Name the file that was used before: {set_option(f'representation.options.{option}')}",
            )
        return path, sha256


def samples_of(n_examples: int) -> int:
    """Samples that ``n_examples`` examples span: the last frame ends with them."""
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


@lru_cache(maxsize=8)
def _sha256_of(path: Path, changed_ns: int, n_bytes: int) -> str:
    return sha256_of(path)
