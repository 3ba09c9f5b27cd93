"""Embeddings of hearing networks: wav2vec 2.0, HuBERT, DistilHuBERT, WavLM, MERT, AST and CLAP (C5, C8, E9).

Any model of these types goes, by its name on the Hugging Face hub or from a folder; see `docs/transformers.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from musicgenre.errors import BundleError, needing
from musicgenre.features.base import Float32, Representation, fit_length
from musicgenre.features.jobs import in_torch_threads
from musicgenre.features.published.transformers.hub import Published, find_model
from musicgenre.features.registry import register

if TYPE_CHECKING:
    from musicgenre.features.published.transformers.hearing import Hearing

_BATCH_S = 10.0  # with more, glibc gives its large tensors back each time, and the kernel clears them anew


@register("transformer")
class Transformer(Representation):
    """What a hearing network makes of one segment, cut or zero-padded to one length.

    Parameters
    ----------
    model : str
        A folder, or a name on the hub as `facebook/wav2vec2-base`.
    layers : "last", "all" or int
        Hidden states of the last layer, of one, or of all; 0 is what the first layer reads.
    pool : {"model", "mean", "none"}
        `model`: the model's own summary (mean over time; AST: of its two class tokens; CLAP: the embedding that it
        compares with texts). `mean`: mean over time. `none`: the sequence.
    segment_s : float, optional
        Segment length; by default 10 s, or the window of a model that has one (AST 10.24 s, CLAP 10 s).
    scale : {"processor", "none", "peak", "standard"}
        Of the waveform: what the model's processor says, as decoded within [-1, 1] (C5), loudest sample 1 or -1, or
        mean 0 and variance 1.
    weights_sha256, config_sha256 : str, optional
        The weights, and the description of layers and input, that it must be; settings that were stored hold them.
    """

    name = "transformer"
    hears_many = True
    is_network = True
    extra = "pretrained"

    def __init__(
        self,
        *,
        model: str,
        layers: str | int = "last",
        pool: str = "model",
        segment_s: float | None = None,
        scale: str = "processor",
        weights_sha256: str = "",
        config_sha256: str = "",
    ) -> None:
        with needing("the representation transformer", self.extra):
            import torch

            from musicgenre.features.published.transformers.hearing import Wanted
            from musicgenre.features.published.transformers.load import build
        self.model = str(model)
        self.wanted = Wanted(segment_s, layers, pool, scale)
        self._published = _the_same(find_model(self.model), self.model, weights_sha256, config_sha256)

        with torch.device("meta"):  # shapes alone, at no cost
            outline = build(self._published.config, self._published.processor, self.wanted)
        self._shape = outline.shape()
        self.sample_rate_hz = outline.sample_rate_hz
        self.segment_s = outline.segment_s
        self.row_axis = len(self._shape) - 1
        self._hearing: Hearing | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network behind: a worker loads its own."""
        return {**self.__dict__, "_hearing": None}

    @property
    def weight_cards(self) -> tuple[dict[str, Any], ...]:
        """What these weights say of themselves, for `musicgenre.models.cards.card_of`."""
        return (self._published.described(self.model, self.sample_rate_hz, self.segment_s),)

    @property
    def weights_sha256(self) -> str:
        """Checksum of the weights."""
        return self._published.sha256

    def shape(self) -> tuple[int, ...]:
        """(width,), (layers, width) or (frames, width)."""
        return self._shape

    def make_ready(self) -> None:
        """Find the model before workers start; each loads its own."""
        find_model(self.model)

    def load(self) -> Hearing:
        """Read the weights into this process, once, and give the network: all that is wrong with them shows here."""
        if self._hearing is None:
            from musicgenre.features.published.transformers.load import load

            self._hearing = load(self._published, self.wanted)
        return self._hearing

    def compute(self, waveform: Float32) -> Float32:
        """Let the network hear `waveform`, shape (n_samples,), at its own rate."""
        return _heard(self.load(), [waveform])[0]

    def compute_many(self, waveforms: Sequence[Float32], *, threads: int = 1) -> list[Float32]:
        """Let the network hear several waveforms, in batches of ten seconds, `threads` batches at a time.

        What :meth:`compute` gives, but for the rounding of float32 sums, whose order depends on the batch.
        """
        hearing = self.load()
        size = max(1, int(_BATCH_S / hearing.segment_s))
        batches = [waveforms[start : start + size] for start in range(0, len(waveforms), size)]

        by_batch = in_torch_threads(lambda batch: _heard(hearing, batch), batches, threads)
        return [array for batch in by_batch for array in batch]

    def settings(self) -> dict[str, Any]:
        """Return every option, and the SHA-256 of the weights and of what describes them."""
        return super().settings() | {
            "model": self.model,
            "layers": self.wanted.layers,
            "pool": self.wanted.pool,
            "segment_s": self.segment_s,
            "scale": self.wanted.scale,
            "weights_sha256": self._published.sha256,
            "config_sha256": self._published.config_sha256,
        }


def _heard(hearing: Hearing, waveforms: Sequence[Float32]) -> list[Float32]:
    """Hear waveforms as one batch, each cut or zero-padded to the network's length."""
    import torch

    sound = torch.from_numpy(np.stack([fit_length(waveform, hearing.n_samples) for waveform in waveforms]))
    with torch.inference_mode():
        arrays = hearing(sound).numpy()  # (batch, *shape)

    return [np.array(array, dtype=np.float32) for array in arrays]


def _the_same(found: Published, name: str, weights_sha256: str, config_sha256: str) -> Published:
    """Give a model back if it is the one that was used before, as far as that is told."""
    for what, wanted, here in (
        ("weights", weights_sha256, found.sha256),
        ("configuration", config_sha256, found.config_sha256),
    ):
        if wanted not in ("", here):
            raise BundleError(
                f"the {what} of {name} in {found.folder} are not those that were used before (SHA-256 {here})",
                valid=f"SHA-256 {wanted}",
                next_step=f"Put the former {what} in place, or train or embed anew with these",
            )

    return found
