"""D4's pooling and dense blocks on any other body: average pooling or auto-pool over the time of its map."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from torch import nn

from musicgenre.errors import UsageError
from musicgenre.models._network import Network
from musicgenre.models._tagger import Moments, TaggingNetwork
from musicgenre.models.registry import create_model, register

_END_OF_MAP = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Flatten)


@register("tagger", tiny_shape=(16, 32), dims=(2, 3))
def tagger(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    body: str = "cnn2d",
    body_options: Mapping[str, Any] | None = None,
    pooling: str = "average",
    blocks: int = 2,
    width: int = 256,
    dropout: float = 0.5,
    alpha_limit: float | None = None,
    alpha_weight: float = 1e-4,
) -> Network:
    """D4's head on the convolutions of another network, up to where it would pool or flatten its map.

    Parameters
    ----------
    body : str
        A convolutional network of ours: ``mel-cnn``, ``cnn1d``, ``cnn1d-baseline``, ``cnn2d``, ``mfcc-cnn``,
        ``picture-cnn``.
    body_options : mapping, optional
        Its options.
    pooling, blocks, width, dropout, alpha_limit, alpha_weight
        As of ``vggish-tagger``.
    """
    moments = Moments(_map_of(body, create_model(body, input_shape, n_classes, **(body_options or {}))))
    return TaggingNetwork(
        moments,
        input_shape,
        n_classes,
        pooling=pooling,
        blocks=blocks,
        width=width,
        dropout=dropout,
        alpha_limit=alpha_limit,
        alpha_weight=alpha_weight,
    )


def _map_of(name: str, network: Network) -> nn.Sequential:
    """Layers up to the map whose last axis is time."""
    body = network.body
    layers = list(body) if isinstance(body, nn.Sequential) else []
    front = list(takewhile(lambda layer: not isinstance(layer, _END_OF_MAP), layers))
    convolves = any(isinstance(layer, nn.Conv1d | nn.Conv2d) for layer in front)
    if not isinstance(body, nn.Sequential) or len(front) == len(layers) or not convolves:
        raise UsageError(
            f"body={name!r} has no map over time that could be read",
            valid="mel-cnn, cnn1d, cnn1d-baseline, cnn2d, mfcc-cnn, picture-cnn",
        )
    return type(body)(*front)
