"""Probes: how much of a genre lies ready in an embedding (E9)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from musicgenre.models._network import Network
from musicgenre.models.registry import register
from musicgenre.models.transformer import LayerMixture


@register("linear-probe", tiny_shape=(57,), dims=(1, 2))
def linear_probe(input_shape: tuple[int, ...], n_classes: int, *, dropout: float = 0.0) -> Network:
    """One linear layer on an embedding (width,), or on a learned weighted sum of layers (layers, width)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if len(input_shape) == 2:
        parts["mixture"] = LayerMixture(input_shape[0])
    parts["dropout"] = nn.Dropout(dropout)
    return Network(nn.Sequential(parts), input_shape, n_classes, input_shape[-1])
