"""Two branches, one decision: a spectrogram network and a vector side by side (B9's SpecAndEmbed, A8).

The input is the flat vector of the representation `joined`: the spectrogram's values, then the embedding's. A flat
array is what stores, caches, batches, normalisation and bundles already carry; here it is cut apart again. No
batch-norm stands at the bottom of the embedding branch: the report found it to do harm there.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.models.classical import ClassicalModel
from musicgenre.models.cnn import mel_cnn_convolutions
from musicgenre.models.network import Network
from musicgenre.models.registry import create_model, model_entry, register


@register(
    "spec-and-embed",
    tiny_shape=(16 * 32 + 20,),
    tiny_options={"bands": 16, "n_embedding": 20, "net_options": {"channels": [8, 16]}},
)
def spec_and_embed(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    net: str = "cnn2d",
    net_options: Mapping[str, Any] | None = None,
    weights: str = "none",
    bands: int = 128,
    n_embedding: int = 200,
    hidden: Sequence[int] = (32, 32),
    dropout: float = 0.0,
) -> FusionNetwork:
    """B9: any spectrogram network `net` beside an MLP on the last `n_embedding` values.

    `bands` is the first axis of the spectrogram, `hidden` the widths of the MLP's layers (32 as in B7), each with ReLU
    and `dropout`; `weights` go to `net` where it knows published ones.
    """
    n_values = input_shape[0] - n_embedding
    if bands < 1 or n_embedding < 1 or n_values < bands or n_values % bands:
        raise UsageError(
            f"{input_shape[0]} values are not {bands} bands of a spectrogram and an embedding of {n_embedding}",
            valid="bands * frames + n_embedding values",
            next_step="Set model.options.bands and model.options.n_embedding as the parts of the representation are",
        )
    if not hidden or min(hidden) < 1 or not 0.0 <= dropout < 1.0:
        raise UsageError(
            f"hidden={list(hidden)}, dropout={dropout}", valid="One width or more; dropout from 0 to below 1"
        )

    spectrogram_shape = (bands, n_values // bands)
    spectrogram = _spectrogram_net(net, net_options, weights, spectrogram_shape)

    # the MLP: linear layers and ReLUs, no batch-norm in front of them
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before = n_embedding
    for number, width in enumerate(hidden):
        layers[f"linear{number}"] = nn.Linear(before, width)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        before = width

    branches = TwoBranches(spectrogram_shape, spectrogram, nn.Sequential(layers))
    return FusionNetwork(branches, input_shape, n_classes)


@register("mel-cnn-table", tiny_shape=(128 * 8 + 57,))
def mel_cnn_table(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    n_columns: int = 57,
    bands: int = 128,
    width: int = 128,
    dropout: float = 0.5,
) -> Network:
    """A8: A5's convolutions with `n_columns` further values joined in front of its linear layers."""
    size = input_shape[0] - n_columns
    if size < 4 * bands or size % bands:  # two pools leave nothing of fewer than 4 frames
        raise UsageError(
            f"{input_shape[0]} values are not {bands} bands of a spectrogram and {n_columns} columns",
            valid="bands * frames + n_columns values",
        )

    body = _JoinedBody((bands, size // bands), n_columns, width, dropout)
    return Network(body, input_shape, n_classes)


class FusionNetwork(Network):
    """Both branches and one linear layer on their features; each branch keeps its own learning rates."""

    @property
    def branches(self) -> TwoBranches:
        """The two branches."""
        return cast("TwoBranches", self.body)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Groups of the spectrogram network, as it has them alone, and one of all that is new."""
        new = [*self.branches.embedding.parameters(), *self.head.parameters()]
        return [*self.branches.spectrogram.parameter_groups(learning_rate), {"params": new, "lr": learning_rate}]


class TwoBranches(nn.Module):
    """(batch, n_values) to the features of both branches, one after the other.

    Parameters
    ----------
    spectrogram_shape : tuple of int
        What the first values are.
    spectrogram : Network
        Reads them; its last layer is not used.
    embedding : nn.Module
        Reads the other values.
    """

    def __init__(self, spectrogram_shape: tuple[int, ...], spectrogram: Network, embedding: nn.Module) -> None:
        super().__init__()
        self.spectrogram_shape = spectrogram_shape
        self.n_first = math.prod(spectrogram_shape)
        self.spectrogram = spectrogram
        self.embedding = embedding

    def forward(self, x: Tensor) -> Tensor:
        """Cut the vector apart, and join what the branches make of it."""
        seen = x[:, : self.n_first].reshape(-1, *self.spectrogram_shape)  # (batch, bands, frames)
        known = self.embedding(x[:, self.n_first :])  # (batch, hidden[-1])
        return torch.cat([self.spectrogram.forward_features(seen), known], dim=1)


class _JoinedBody(nn.Module):
    """Convolutions on the first values, the rest passed by, both through one linear layer."""

    def __init__(self, picture_shape: tuple[int, int], n_columns: int, width: int, dropout: float) -> None:
        super().__init__()
        self.picture_shape = picture_shape
        self.convolutions = nn.Sequential(*mel_cnn_convolutions())
        flat = 64 * (picture_shape[0] // 4) * (picture_shape[1] // 4)
        self.linear = nn.Sequential(nn.Linear(flat + n_columns, width), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        size = math.prod(self.picture_shape)
        picture = x[:, :size].reshape(-1, *self.picture_shape)  # (batch, bands, frames)
        joined = torch.cat([self.convolutions(picture), x[:, size:]], dim=1)
        features: Tensor = self.linear(joined)
        return features


def _spectrogram_net(name: str, options: Mapping[str, Any] | None, weights: str, shape: tuple[int, ...]) -> Network:
    """Make the network without its last layer."""
    chosen = dict(options or {})
    if "weights" in chosen:  # there they would be missed where weights are looked for before training
        raise UsageError("net_options holds weights", next_step="Give them as model.options.weights")
    if "weights" in model_entry(name).options:
        chosen["weights"] = weights
    elif weights != "none":
        raise UsageError(f"weights={weights!r}: the model {name} knows no published ones", valid="weights: none")

    network = create_model(name, shape, 2, **chosen)
    if isinstance(network, ClassicalModel):
        raise UsageError(f"net={name!r} is fitted, not trained", valid="A network, such as cnn1d, cnn2d or resnet34")

    network.head = nn.Identity()  # else two classes would be learnt that nobody reads
    return network
