"""Multi-layer perceptrons: on the 57-column table (C2), flattened MFCCs (E2) and embeddings of tracks (B7)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from musicgenre.models.network import Network
from musicgenre.models.registry import register
from musicgenre.models.transformer import LayerMixture


@register("table-mlp", tiny_shape=(57,))
def table_mlp(
    input_shape: tuple[int, ...], n_classes: int, *, hidden: Sequence[int] = (512, 128), dropout: float = 0.5
) -> Network:
    """C2: 57-512-128-10, batch-norm and ReLU after each hidden layer, dropout after the last of them."""
    layers = _hidden_layers(input_shape[0], hidden, batch_norm=True)
    return Network(nn.Sequential(*layers, nn.Dropout(dropout)), input_shape, n_classes)


@register("mfcc-mlp", tiny_shape=(20, 13))
def mfcc_mlp(
    input_shape: tuple[int, ...], n_classes: int, *, hidden: Sequence[int] = (512, 256, 64), dropout: float = 0.3
) -> Network:
    """E2: flatten, 512, 256, 64 with ReLU and dropout after each, 10 out."""
    width = input_shape[0] * input_shape[1]
    layers = _hidden_layers(width, hidden, batch_norm=False, dropout=dropout)
    return Network(nn.Sequential(nn.Flatten(), *layers), input_shape, n_classes)


@register("embedding-mlp", tiny_shape=(200,))
def embedding_mlp(
    input_shape: tuple[int, ...], n_classes: int, *, hidden: int = 32, batch_norm: bool = True
) -> Network:
    """B7: linear, batch-norm, ReLU, linear; without `batch_norm` the accuracy fluctuates, as the report says.

    Its body without the batch-norm is the embedding branch of B9.
    """
    layers = _hidden_layers(input_shape[0], [hidden], batch_norm=batch_norm)
    return Network(nn.Sequential(*layers), input_shape, n_classes)


@register("linear-probe", tiny_shape=(57,), dims=(1, 2))
def linear_probe(input_shape: tuple[int, ...], n_classes: int, *, dropout: float = 0.0) -> Network:
    """One linear layer on an embedding (width,), or on a learned weighted sum of layers (layers, width)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if len(input_shape) == 2:
        parts["mixture"] = LayerMixture(input_shape[0])
    parts["dropout"] = nn.Dropout(dropout)

    return Network(nn.Sequential(parts), input_shape, n_classes, input_shape[-1])


def _hidden_layers(width: int, hidden: Sequence[int], *, batch_norm: bool, dropout: float = 0.0) -> list[nn.Module]:
    """Linear layers of the widths `hidden` on `width` values, each with ReLU and what else is asked for."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers.append(nn.Linear(width, size))
        if batch_norm:
            layers.append(nn.BatchNorm1d(size))
        layers.append(nn.ReLU())
        if dropout:  # none at all, not one of rate 0: layers are named by their number in run files
            layers.append(nn.Dropout(dropout))
        width = size

    return layers
