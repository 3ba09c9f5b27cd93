"""VGGish to be trained further, and D4's tagging network on its convolutions.

Both read examples, (n_examples, frames, bands), as the representation ``vggish`` gives them, or one log-mel
spectrogram, (bands, frames), as ``melspectrogram`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.features.published.vggish import network as _vggish
from musicgenre.features.published.vggish.files import NONE, WEIGHTS, find_file, weight_cards
from musicgenre.models._network import Network
from musicgenre.models.registry import register
from musicgenre.models.tagger import TaggingNetwork


class _Examples(nn.Module):
    """Any layers on pictures, run on each example of a stack, or on a spectrogram turned upright."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        """(batch, n, frames, bands) or (batch, bands, frames) to (batch * n, ...), and n."""
        x = x.transpose(1, 2)[:, None] if x.ndim == 3 else x
        made: Tensor = self.layers(x.flatten(0, 1)[:, None])
        return made, int(x.shape[1])


class _MeanEmbedding(nn.Module):
    """The mean embedding of the examples, behind a ReLU, as the authors advise: (batch, *shape) to (batch, 128)."""

    def __init__(self, network: _vggish.VGGish) -> None:
        super().__init__()
        self.examples = _Examples(network)

    def forward(self, x: Tensor) -> Tensor:
        made, n_examples = self.examples(x)
        pooled: Tensor = made.relu().reshape(-1, n_examples, made.shape[1]).mean(dim=1)
        return pooled


class _MapMoments(nn.Module):
    """The convolutions' map of all examples, one after the other: (batch, *shape) to (batch, time, 512)."""

    def __init__(self, convolutions: nn.Module) -> None:
        super().__init__()
        self.examples = _Examples(convolutions)

    def forward(self, x: Tensor) -> Tensor:
        made, n_examples = self.examples(x)  # (batch * n, 512, frames / 16, bands / 16)
        moments = made.mean(dim=3).transpose(1, 2)  # (batch * n, frames / 16, 512)
        joined: Tensor = moments.reshape(-1, n_examples * moments.shape[1], moments.shape[2])
        return joined


@register("vggish", tiny_shape=(1, 16, 32), dims=(2, 3), tiny_options={"hidden": (32, 32)})
def vggish(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    weights: str = "none",
    frozen: str = "none",
    hidden: Sequence[int] = _vggish.HIDDEN,
) -> Network:
    """VGGish up to its embedding, the mean over the examples, and a last layer.

    Parameters
    ----------
    weights : str
        ``none``, ``published`` (``vggish-10086976.pth``) or the path of such a file.
    frozen : {"none", "convolutions", "body"}
        What is held: nothing, the convolutions, or all but the last layer.
    hidden : sequence of int
        Widths of the two wide layers; the published ones are 4,096.
    """
    frames, bands = input_shape[::-1] if len(input_shape) == 2 else input_shape[1:]
    network = _made(weights, frames, bands, hidden)
    for part in _frozen(frozen, {"convolutions": [network.features], "body": [network]}):
        part.requires_grad_(False)
    made = Network(_MeanEmbedding(network), input_shape, n_classes)
    made.weight_cards = weight_cards(str(weights))
    return made


@register("vggish-tagger", tiny_shape=(2, 32, 16), dims=(2, 3))
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
        ``none``, ``published`` or a path, as of ``vggish``; of the file, the convolutions are kept.
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
        convolutions = _vggish.convolutions()
        _vggish.initialise(convolutions)
    else:
        convolutions = _made(weights, _vggish.N_FRAMES, _vggish.N_BANDS, _vggish.HIDDEN).features
    for part in _frozen(frozen, {"convolutions": [convolutions]}):
        part.requires_grad_(False)
    made = TaggingNetwork(
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
    made.weight_cards = weight_cards(str(weights))
    return made


def _made(weights: str, n_frames: int, n_bands: int, hidden: Sequence[int]) -> _vggish.VGGish:
    """Make the network, with weights of a file or fresh ones."""
    if weights == NONE:
        network = _vggish.VGGish(n_frames, n_bands, hidden)
        _vggish.initialise(network)
        return network
    if (n_frames, n_bands) != (_vggish.N_FRAMES, _vggish.N_BANDS):
        raise UsageError(
            f"the weights of VGGish fit no examples of {n_frames} frames and {n_bands} bands",
            valid="96 frames and 64 bands",
            next_step="Take the representation vggish with output: examples",
        )
    with torch.device("meta"):  # nothing is drawn only to be thrown away
        network = _vggish.VGGish(hidden=hidden)
    _vggish.load_published(network, find_file(str(weights), WEIGHTS, "model.options.weights"))
    return network


def _frozen(frozen: str, parts: dict[str, list[nn.Module]]) -> list[nn.Module]:
    if frozen != "none" and frozen not in parts:
        raise UsageError(f"frozen={frozen!r} is not known", valid=f"none, {', '.join(parts)}")
    return parts.get(frozen, [])
