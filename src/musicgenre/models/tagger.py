"""D4's pooling and dense blocks on any other body: average pooling or auto-pool over the time of its map.

Auto-pool is by McFee, Salamon and Bello (2018), "Adaptive pooling operators for weakly labeled sound event detection".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from musicgenre.errors import UsageError
from musicgenre.models.network import Network, shape_after
from musicgenre.models.registry import create_model, register

AVERAGE = "average"
FORMS = ("plain", "constrained", "regularised")
POOLINGS = (AVERAGE, *(f"auto-{form}" for form in FORMS))

# Where a body stops to be a map over time.
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
        A convolutional network of ours: `mel-cnn`, `cnn1d`, `cnn1d-baseline`, `cnn2d`, `mfcc-cnn`, `picture-cnn`.
    body_options : mapping, optional
        Its options.
    pooling, blocks, width, dropout, alpha_limit, alpha_weight
        As of `vggish-tagger`.
    """
    whole = create_model(body, input_shape, n_classes, **(body_options or {})).body
    layers = list(whole) if isinstance(whole, nn.Sequential) else []
    front = list(takewhile(lambda layer: not isinstance(layer, _END_OF_MAP), layers))

    # What ends in no pool or flatten, or has no convolution in front of it, is no map over time.
    convolves = any(isinstance(layer, nn.Conv1d | nn.Conv2d) for layer in front)
    if not isinstance(whole, nn.Sequential) or len(front) == len(layers) or not convolves:
        raise UsageError(
            f"body={body!r} has no map over time that could be read",
            valid="mel-cnn, cnn1d, cnn1d-baseline, cnn2d, mfcc-cnn, picture-cnn",
        )

    return TaggingNetwork(
        Moments(type(whole)(*front)),  # of the same kind: some compute several layers as one
        input_shape,
        n_classes,
        pooling=pooling,
        blocks=blocks,
        width=width,
        dropout=dropout,
        alpha_limit=alpha_limit,
        alpha_weight=alpha_weight,
    )


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
        Bound of `auto-constrained`; `limit_for` the number of moments by default.
    alpha_weight : float
        Weight of the penalty of `auto-regularised`.
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

        n_moments, channels = shape_after(moments, input_shape)
        body = TaggingBody(moments, channels, blocks, width, dropout, average=pooling == AVERAGE)
        super().__init__(body, input_shape, n_classes)

        self._n_moments = n_moments
        self._pooling = pooling.removeprefix("auto-")
        if alpha_limit is None:
            alpha_limit = limit_for(n_moments)
        self._alpha: dict[str, Any] = {"limit": alpha_limit, "weight": alpha_weight}
        self.reset_head(n_classes)

    def reset_head(self, n_classes: int) -> None:
        """Replace the last layer, and auto-pool with it, by fresh ones with `n_classes` outputs."""
        if self._pooling == AVERAGE:
            super().reset_head(n_classes)
            return

        # the features are the vectors of all moments, one after the other
        width = self.embedding_width // self._n_moments
        self.head = PooledHead(self._n_moments, width, n_classes, AutoPool(n_classes, self._pooling, **self._alpha))

    def penalty(self) -> Tensor | None:
        """Return auto-pool's penalty."""
        return self.head.pool.penalty() if isinstance(self.head, PooledHead) else None


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
        moments: Tensor = self.moments(x)  # (batch, time, channels)
        if self.average:
            moments = moments.mean(dim=1)

        features: Tensor = self.blocks(moments)
        return features.flatten(1)


class PooledHead(nn.Module):
    """The last linear layer at every moment, and auto-pool over its answers.

    Parameters
    ----------
    n_moments, width : int
        What the flat features hold: `n_moments` vectors of `width`.
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


class AutoPool(nn.Module):
    """Logits at each moment in, logits of the pooled probabilities out; one alpha a tag, 0 to begin with.

    Parameters
    ----------
    n_tags : int
        Number of tags.
    form : {"plain", "constrained", "regularised"}
        `constrained`: alpha stays within [-limit, limit]; it is put back after each step, as the authors' code does.
        `regularised`: `penalty` is to be added to the loss.
    limit : float, optional
        For `constrained`; needed there. See `limit_for`.
    weight : float
        For `regularised`: what alpha squared is multiplied by; 1e-4 is the authors' example.
    """

    def __init__(self, n_tags: int, form: str = "plain", *, limit: float | None = None, weight: float = 1e-4) -> None:
        super().__init__()
        if form not in FORMS:
            raise UsageError(f"auto-pool has no form {form!r}", valid=", ".join(FORMS))
        if form == "constrained" and (limit is None or not limit >= 0):
            raise UsageError(f"limit={limit} bounds no alpha", valid="0 or more")
        if not weight >= 0:
            raise UsageError(f"weight={weight} is negative", valid="0 or more")

        self.form = form
        self.limit = limit if form == "constrained" else None
        self.weight = weight
        self.alpha = nn.Parameter(torch.zeros(n_tags))

    def forward(self, logits: Tensor) -> Tensor:
        """Pool over time: (batch, time, n_tags) to (batch, n_tags).

        With w the softmax over time, P = sum(w p) and 1 - P = sum(w (1 - p)), each a sum of exponentials whose
        denominators cancel in the logit ln(P / (1 - P)): nothing overflows and no probability is rounded to 0 or 1.
        """
        alpha: Tensor = self.alpha
        if self.limit is not None:
            if self.training:  # what the last step moved too far is put back before it is used
                with torch.no_grad():
                    alpha.clamp_(-self.limit, self.limit)
            alpha = alpha.clamp(-self.limit, self.limit)

        lean = alpha * logits.sigmoid()  # (batch, time, n_tags)
        present = torch.logsumexp(lean - functional.softplus(-logits), dim=1)
        absent = torch.logsumexp(lean - functional.softplus(logits), dim=1)
        return present - absent

    def penalty(self) -> Tensor | None:
        """Return what training adds to the loss, weight * sum(alpha squared); `None` where nothing is."""
        return self.weight * self.alpha.square().sum() if self.form == "regularised" else None


def limit_for(n_moments: int) -> float:
    """Bound of alpha for so many moments: ln(n - 1), and 0 for fewer than three.

    There one moment of certainty among moments of certain absence makes a pooled probability of one half, e^alpha /
    (e^alpha + n - 1); a greater alpha adds nothing to such a decision. The authors bound alpha by the length too
    (their section III.E); this formula is ours.
    """
    return math.log(max(1, n_moments - 1))


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
        features: Tensor = self.layers(x)
        if features.ndim == 4:
            features = features.mean(dim=2)  # (batch, channels, time)
        return features.transpose(1, 2)


class MomentNorm(nn.BatchNorm1d):
    """Batch-norm of the last axis, over examples and moments."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) or (batch, time, width) to the same shape."""
        if x.ndim == 2:
            return super().forward(x)
        return super().forward(x.transpose(1, 2)).transpose(1, 2)  # PyTorch's own has channels in the middle
