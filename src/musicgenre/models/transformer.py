"""Hearing networks fine-tuned on the waveform itself (C5, C8, E9): wav2vec 2.0, HuBERT, WavLM, MERT, AST, CLAP.

The network, its front end and its processor's scaling are all inside, so an export hears plain sound. Which models go,
and how to get one, is in `docs/transformers.md`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError, needing
from musicgenre.features.published.transformers.hub import EXTRA, find_model
from musicgenre.models.cards import card_of
from musicgenre.models.network import Network, groups_by_stage
from musicgenre.models.registry import register

if TYPE_CHECKING:
    from musicgenre.features.published.transformers.hearing import Hearing, Wanted

Json = Mapping[str, Any]

# A network of no use but for tests, which train it in a moment.
_TINY_CONFIG = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 8],
    "conv_stride": [5, 4],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.0,
}
_TINY = {"config": _TINY_CONFIG, "processor": {"sampling_rate": 16_000, "do_normalize": True}, "weights": "none"}


def find_weights(_: str, options: Mapping[str, Any]) -> None:
    """Find the model that the options name, if they name one, downloaded where need be."""
    if options.get("model"):
        find_model(str(options["model"]))


@register("transformer", tiny_shape=(1_600,), tiny_options=_TINY, find_weights=find_weights)
def transformer(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    model: str = "",
    weights: str = "published",
    config: Json | None = None,
    processor: Json | None = None,
    layers: str | int = "last",
    pool: str = "model",
    scale: str = "processor",
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
    frozen: str | int = "none",
    stage_rate: float = 1.0,
) -> Network:
    """Make a hearing network on the waveform, pooled over time.

    Parameters
    ----------
    input_shape, n_classes
        (n_samples,), and the number of logits.
    model : str
        A folder, or a name on the Hugging Face hub.
    weights : {"published", "none"}
        Its own, or fresh ones.
    config, processor : Mapping, optional
        The layers and what they are fed, as in a model's two JSON files; no model is looked for then.
    layers : "weighted", "last" or int
        `weighted`: a learned weighted sum of all hidden states.
    pool, scale
        As the representation `transformer` has them.
    hidden, dropout
        See `TransformerNetwork`.
    frozen : {"none", "features", "body"} or int
        What is held: nothing; the convolutions (AST and CLAP: the patches); the whole network; or a number of
        transformer layers and all in front of them.
    stage_rate : float
        How much slower each stage learns than the one behind it.
    """
    with needing("the model transformer", EXTRA):
        from musicgenre.features.published.transformers.hearing import Wanted
        from musicgenre.features.published.transformers.load import load

    if weights not in ("published", "none") or not 0.0 < stage_rate <= 1.0 or not 0.0 <= dropout < 1.0:
        raise UsageError(
            f"weights={weights!r}, stage_rate={stage_rate}, dropout={dropout}",
            valid="weights published or none, stage_rate above 0 and up to 1, dropout from 0 to below 1",
        )
    if layers == "all" or pool == "none":
        raise UsageError(
            f"layers={layers!r}, pool={pool!r}", valid="layers: weighted, last or a number; pool: model or mean"
        )

    # published layers, the same with fresh weights, or those of a run that holds its own description
    published = None
    wanted = Wanted(None, "all" if layers == "weighted" else layers, pool, scale, input_shape[0])
    if config is not None and processor is not None and weights == "none":
        described: Json = {"config": dict(config), "processor": dict(processor)}
        hearing = _fresh(described, wanted)
    elif config is None and processor is None and model:
        published = find_model(model)
        described = {"config": published.config, "processor": published.processor}
        hearing = _fresh(described, wanted) if weights == "none" else load(published, wanted)
    else:
        raise UsageError(
            "the network is not described",
            valid="model: NAME or FOLDER, or config and processor with weights: none",
            next_step="For example --set model.options.model=facebook/wav2vec2-base",
        )

    network = TransformerNetwork(hearing, hidden, dropout, frozen, stage_rate, described, input_shape, n_classes)
    if published is not None and weights == "published":
        rate_hz = hearing.sample_rate_hz
        network.weight_cards = (card_of(**published.described(model, rate_hz, input_shape[0] / rate_hz)),)
    return network


class TransformerNetwork(Network):
    """A hearing network, hidden layers, a last layer for our classes.

    Parameters
    ----------
    hearing : Hearing
        (batch, n_samples) to (batch, width), or (batch, layers, width) to be mixed.
    hidden : sequence of int
        Widths of linear layers between, each with batch-norm, ReLU and dropout (C5's head: one of 768).
    dropout : float
        Their rate.
    frozen : str or int
        What of the network is held; see `transformer`.
    stage_rate : float
        How much slower each stage learns than the one behind it.
    described : Mapping
        `config` and `processor`, which make the same layers again.
    input_shape : tuple of int
        (n_samples,).
    n_classes : int
        Number of logits.
    """

    def __init__(
        self,
        hearing: Hearing,
        hidden: Sequence[int],
        dropout: float,
        frozen: str | int,
        stage_rate: float,
        described: Json,
        input_shape: tuple[int, ...],
        n_classes: int,
    ) -> None:
        # an outline tells what comes out: a vector, or one a layer, to be mixed
        with torch.device("meta"):  # shapes alone, at no cost
            outline = _fresh(described, hearing.wanted)
        shape = outline.shape()

        parts: OrderedDict[str, nn.Module] = OrderedDict(hearing=hearing)
        if len(shape) == 2:
            parts["mixture"] = LayerMixture(shape[0])
        width = shape[-1]
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.BatchNorm1d(size), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            width = size
        if layers:
            parts["hidden"] = nn.Sequential(*layers)

        super().__init__(nn.Sequential(parts), input_shape, n_classes, width)
        self.sample_rate_hz = hearing.sample_rate_hz
        self.stage_rate = stage_rate
        self.described = dict(described)

        self._stages = hearing.stages()
        n_held = _count_held(frozen, len(self._stages), len(hearing.layer_list()))
        self._held = [part for stage in self._stages[:n_held] for part in stage]
        for part in self._held:
            part.requires_grad_(False)
        if n_held and hasattr(hearing.model.config, "layerdrop"):
            hearing.model.config.layerdrop = 0.0  # it would leave out layers that are held

    def train(self, mode: bool = True) -> TransformerNetwork:
        """Switch to training or evaluation; what is held neither drops out nor counts."""
        super().train(mode)
        for part in self._held:
            part.eval()

        return self

    def options_to_restore(self) -> dict[str, Any]:
        """Return the model's own description: the run holds its weights, so the model is not needed again."""
        return self.described

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Weights to be learnt by stage, each stage `stage_rate` times slower than the one behind it."""
        if self.stage_rate == 1.0:
            return super().parameter_groups(learning_rate)

        stages = [[weight for part in stage for weight in part.parameters()] for stage in self._stages]
        return groups_by_stage(self.parameters(), stages, learning_rate, self.stage_rate)


class LayerMixture(nn.Module):
    """Weighted sum of hidden layers, (batch, layers, width) to (batch, width); the weights are learnt and sum to 1.

    Parameters
    ----------
    n_layers : int
        How many; equal weights to begin with.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_layers))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the layers."""
        return torch.einsum("l,blw->bw", self.weights.softmax(dim=0), x)


def _fresh(described: Json, wanted: Wanted) -> Hearing:
    """Make the hearing network that a model's two JSON files describe, with fresh weights."""
    from musicgenre.features.published.transformers.load import build

    return build(described["config"], described["processor"], wanted)


def _count_held(frozen: str | int, n_stages: int, n_layers: int) -> int:
    """Count the stages that are held, from the input on."""
    named = {"none": 0, "features": 1, "body": n_stages}
    if isinstance(frozen, str) and frozen in named:
        return named[frozen]
    if isinstance(frozen, int) and not isinstance(frozen, bool) and 0 <= frozen <= n_layers:
        return n_stages - n_layers + frozen  # what stands in front of the layers is held too

    raise UsageError(
        f"frozen={frozen!r} names nothing that can be held",
        valid=f"none, features, body, or a number of layers from 0 to {n_layers}",
    )
