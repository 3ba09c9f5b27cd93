"""VGGish to be trained further, and D4's tagging network on its convolutions.

Both read examples, (n_examples, frames, bands), as the representation `vggish` gives them, or one log-mel
spectrogram, (bands, frames), as `melspectrogram` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.features.published.vggish import network as published
from musicgenre.features.published.vggish.files import NONE, WEIGHTS, find_file, weight_cards
from musicgenre.models.network import Network
from musicgenre.models.registry import register
from musicgenre.models.tagger import TaggingNetwork


def find_weights(_: str, options: Mapping[str, Any]) -> Path:
    """Find the weights that a network's options ask for, downloaded where need be."""
    return find_file(str(options["weights"]), WEIGHTS, "model.options.weights")


@register("vggish", tiny_shape=(1, 16, 32), dims=(2, 3), tiny_options={"hidden": (32, 32)}, find_weights=find_weights)
def vggish(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    weights: str = "none",
    frozen: str = "none",
    hidden: Sequence[int] = published.HIDDEN,
) -> Network:
    """VGGish up to its embedding, the mean over the examples, and a last layer.

    Parameters
    ----------
    weights : str
        `none`, `published` (`vggish-10086976.pth`) or the path of such a file.
    frozen : {"none", "convolutions", "body"}
        What is held: nothing, the convolutions, or all but the last layer.
    hidden : sequence of int
        Widths of the two wide layers; the published ones are 4,096.
    """
    # a spectrogram has its bands first, an example its frames
    frames, bands = input_shape[::-1] if len(input_shape) == 2 else input_shape[1:]
    body = _vggish_with(weights, frames, bands, hidden)
    _freeze(frozen, {"convolutions": body.features, "body": body})

    network = Network(_MeanEmbedding(body), input_shape, n_classes)
    network.weight_cards = weight_cards(str(weights))
    return network


@register("vggish-tagger", tiny_shape=(2, 32, 16), dims=(2, 3), find_weights=find_weights)
def vggish_tagger(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    weights: str = "none",
    frozen: str = "none",
    pooling: str = "average",
    blocks: int = 2,
    width: int = 256,
    dropout: float = 0.5,
    alpha_limit: float | None = None,
    alpha_weight: float = 1e-4,
) -> Network:
    """D4: VGGish's convolutions, pooling over time and bands, and blocks of batch-norm, dropout and a linear layer.

    Width and rate of the blocks are ours.

    Parameters
    ----------
    weights : str
        `none`, `published` or a path, as of `vggish`; of the file, the convolutions are kept.
    frozen : {"none", "convolutions"}
        What is held.
    pooling : {"average", "auto-plain", "auto-constrained", "auto-regularised"}
        How moments become one answer; auto-pool pools the answers of every 0.16 s.
    blocks, width, dropout
        Dense blocks, width between them, and their rate.
    alpha_limit, alpha_weight
        Of the constrained and the regularised auto-pool.
    """
    if weights == NONE:
        convolutions = published.convolutions()
        published.initialise(convolutions)
    else:
        convolutions = _vggish_with(weights, published.N_FRAMES, published.N_BANDS, published.HIDDEN).features
    _freeze(frozen, {"convolutions": convolutions})

    network = TaggingNetwork(
        _MapMoments(convolutions),
        input_shape,
        n_classes,
        pooling=pooling,
        blocks=blocks,
        width=width,
        dropout=dropout,
        alpha_limit=alpha_limit,
        alpha_weight=alpha_weight,
    )
    network.weight_cards = weight_cards(str(weights))
    return network


class _MeanEmbedding(nn.Module):
    """The mean embedding of the examples, behind a ReLU, as the authors advise: (batch, *shape) to (batch, 128)."""

    def __init__(self, network: published.VGGish) -> None:
        super().__init__()
        self.examples = _Examples(network)

    def forward(self, x: Tensor) -> Tensor:
        embeddings, n_examples = self.examples(x)  # (batch * n, 128)
        mean: Tensor = embeddings.relu().reshape(-1, n_examples, embeddings.shape[1]).mean(dim=1)
        return mean


class _MapMoments(nn.Module):
    """The convolutions' map of all examples, one after the other: (batch, *shape) to (batch, time, 512)."""

    def __init__(self, convolutions: nn.Module) -> None:
        super().__init__()
        self.examples = _Examples(convolutions)

    def forward(self, x: Tensor) -> Tensor:
        features, n_examples = self.examples(x)  # (batch * n, 512, frames / 16, bands / 16)
        moments = features.mean(dim=3).transpose(1, 2)  # (batch * n, frames / 16, 512)
        joined: Tensor = moments.reshape(-1, n_examples * moments.shape[1], moments.shape[2])
        return joined


class _Examples(nn.Module):
    """Any layers on pictures, run on each example of a stack, or on a spectrogram turned upright."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        """(batch, n, frames, bands) or (batch, bands, frames) to (batch * n, ...), and n."""
        if x.ndim == 3:
            x = x.transpose(1, 2)[:, None]
        features: Tensor = self.layers(x.flatten(0, 1)[:, None])
        return features, int(x.shape[1])


def _vggish_with(weights: str, n_frames: int, n_bands: int, hidden: Sequence[int]) -> published.VGGish:
    """Make the network, with weights of a file or fresh ones."""
    if weights == NONE:
        network = published.VGGish(n_frames, n_bands, hidden)
        published.initialise(network)
        return network

    if (n_frames, n_bands) != (published.N_FRAMES, published.N_BANDS):
        raise UsageError(
            f"the weights of VGGish fit no examples of {n_frames} frames and {n_bands} bands",
            valid="96 frames and 64 bands",
            next_step="Take the representation vggish with output: examples",
        )

    with torch.device("meta"):  # nothing is drawn only to be thrown away
        network = published.VGGish(hidden=hidden)
    published.load_published(network, find_file(str(weights), WEIGHTS, "model.options.weights"))
    return network


def _freeze(frozen: str, parts: Mapping[str, nn.Module]) -> None:
    """Hold the weights of the part called `frozen`; of none where it is `none`."""
    if frozen == "none":
        return
    if frozen not in parts:
        raise UsageError(f"frozen={frozen!r} is not known", valid=f"none, {', '.join(parts)}")
    parts[frozen].requires_grad_(False)
