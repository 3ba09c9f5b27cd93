"""D4's tagging network: a map over time, pooled, and blocks of batch-norm, dropout and linear layers.

With average pooling the blocks read one vector a clip. With auto-pool they read every moment, and what is pooled are
their answers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.models._network import Network
from musicgenre.models.tagger import FORMS, AutoPool, limit_for

AVERAGE = "average"
POOLINGS = (AVERAGE, *(f"auto-{form}" for form in FORMS))


class Moments(nn.Module):
    """A map over time as vectors.

    Parameters
    ----------
    layers : nn.Module
        Gives the map, (batch, channels, time) or (batch, channels, bands, time).
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, average it over its bands, and turn it: (batch, *shape) to (batch, time, channels)."""
        made: Tensor = self.layers(x)
        if made.ndim == 4:
            made = made.mean(dim=2)  # (batch, channels, time)
        return made.transpose(1, 2)


class MomentNorm(nn.BatchNorm1d):
    """Batch-norm of the last axis, over examples and moments."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) or (batch, time, width) to the same shape."""
        return super().forward(x if x.ndim == 2 else x.transpose(1, 2)).transpose(1, -1)


class TaggingBody(nn.Module):
    """All in front of the last linear layer.

    Parameters
    ----------
    moments : nn.Module
        (batch, *shape) to (batch, time, channels).
    channels : int
        Width of its vectors.
    blocks : int
        Blocks of batch-norm, dropout and a linear layer; the last one's linear layer is the network's head.
    width : int
        Of the linear layers between.
    dropout : float
        Rate.
    average : bool
        Take the mean over time first.
    """

    def __init__(
        self, moments: nn.Module, channels: int, blocks: int, width: int, dropout: float, *, average: bool
    ) -> None:
        super().__init__()
        self.moments = moments
        self.average = average
        layers: list[nn.Module] = []
        for block in range(blocks):
            layers += [MomentNorm(channels), nn.Dropout(dropout)]
            if block + 1 < blocks:
                layers += [nn.Linear(channels, width), nn.ReLU()]
                channels = width
        self.blocks = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to (batch, width), or (batch, time * width) where the head pools."""
        made: Tensor = self.moments(x)  # (batch, time, channels)
        features: Tensor = self.blocks(made.mean(dim=1) if self.average else made)
        return features.flatten(1)


class PooledHead(nn.Module):
    """The last linear layer at every moment, and auto-pool over its answers.

    Parameters
    ----------
    n_moments, width : int
        What the flat features hold: ``n_moments`` vectors of ``width``.
    n_tags : int
        Number of logits.
    pool : AutoPool
        Pools them.
    """

    def __init__(self, n_moments: int, width: int, n_tags: int, pool: AutoPool) -> None:
        super().__init__()
        self.shape = (n_moments, width)
        self.linear = nn.Linear(width, n_tags)
        self.pool = pool

    def forward(self, features: Tensor) -> Tensor:
        """(batch, n_moments * width) to (batch, n_tags)."""
        logits: Tensor = self.pool(self.linear(features.reshape(-1, *self.shape)))
        return logits


class TaggingNetwork(Network):
    """A map over time, pooled, and dense blocks.

    Parameters
    ----------
    moments : nn.Module
        (batch, *input_shape) to (batch, time, channels).
    input_shape, n_classes
        As of every network.
    pooling : {"average", "auto-plain", "auto-constrained", "auto-regularised"}
        See `AutoPool`.
    blocks, width, dropout
        See `TaggingBody`.
    alpha_limit : float, optional
        Bound of ``auto-constrained``; :func:`limit_for` the number of moments by default.
    alpha_weight : float
        Weight of the penalty of ``auto-regularised``.
    """

    def __init__(
        self,
        moments: nn.Module,
        input_shape: tuple[int, ...],
        n_classes: int,
        *,
        pooling: str = AVERAGE,
        blocks: int = 2,
        width: int = 256,
        dropout: float = 0.5,
        alpha_limit: float | None = None,
        alpha_weight: float = 1e-4,
    ) -> None:
        if pooling not in POOLINGS:
            raise UsageError(f"pooling={pooling!r} is not known", valid=", ".join(POOLINGS))
        if blocks < 1 or width < 1 or not 0.0 <= dropout < 1.0:
            raise UsageError(
                f"blocks={blocks}, width={width}, dropout={dropout}",
                valid="blocks and width 1 or more, dropout from 0 to below 1",
            )
        n_moments, channels = moments_of(moments, input_shape)
        body = TaggingBody(moments, channels, blocks, width, dropout, average=pooling == AVERAGE)
        super().__init__(body, input_shape, n_classes)
        self._moments = n_moments
        self._pooling = pooling.removeprefix("auto-")
        self._alpha: dict[str, Any] = {
            "limit": limit_for(n_moments) if alpha_limit is None else alpha_limit,
            "weight": alpha_weight,
        }
        self.reset_head(n_classes)

    def reset_head(self, n_classes: int) -> None:
        """Replace the last layer, and auto-pool with it, by fresh ones with ``n_classes`` outputs."""
        if self._pooling == AVERAGE:
            super().reset_head(n_classes)
            return
        pool = AutoPool(n_classes, self._pooling, **self._alpha)
        self.head = PooledHead(self._moments, self.embedding_width // self._moments, n_classes, pool)

    def penalty(self) -> Tensor | None:
        """Return auto-pool's penalty."""
        return self.head.pool.penalty() if isinstance(self.head, PooledHead) else None


def moments_of(moments: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, int]:
    """Moments and channels of the map of one input, found by a dry run.

    Raises
    ------
    UsageError
        If the input is too small for the layers.
    """
    was_training = moments.training
    moments.eval()
    try:
        with torch.no_grad():
            n_moments, channels = moments(torch.zeros(1, *input_shape)).shape[1:]
    except RuntimeError as error:
        raise UsageError(
            f"the model cannot take arrays of shape {input_shape} ({str(error).splitlines()[0]})",
            next_step="Choose a representation that fits the model, or longer segments",
        ) from error
    moments.train(was_training)
    if not n_moments:
        raise UsageError(f"arrays of shape {input_shape} are too small for the model", next_step="Use longer segments")
    return int(n_moments), int(channels)
