"""D4's pooling and dense blocks on any other body: average pooling or auto-pool over the time of its map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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


FORMS = ("plain", "constrained", "regularised")


class AutoPool(nn.Module):
    """Logits at each moment in, logits of the pooled probabilities out; one alpha a tag, 0 to begin with.

    Parameters
    ----------
    n_tags : int
        Number of tags.
    form : {"plain", "constrained", "regularised"}
        ``constrained``: alpha stays within [-limit, limit]; it is put back after each step, as the authors' code does.
        ``regularised``: :meth:`penalty` is to be added to the loss.
    limit : float, optional
        For ``constrained``; needed there. See :func:`limit_for`.
    weight : float
        For ``regularised``: what alpha squared is multiplied by; 1e-4 is the authors' example.
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
        lean = self._bounded() * logits.sigmoid()  # (batch, time, n_tags)
        present = torch.logsumexp(lean - functional.softplus(-logits), dim=1)
        absent = torch.logsumexp(lean - functional.softplus(logits), dim=1)
        return present - absent

    def penalty(self) -> Tensor | None:
        """Return what training adds to the loss, weight * sum(alpha squared); ``None`` where nothing is."""
        return self.weight * self.alpha.square().sum() if self.form == "regularised" else None

    def _bounded(self) -> Tensor:
        if self.limit is None:
            return self.alpha
        if self.training:  # what the last step moved too far is put back before it is used
            with torch.no_grad():
                self.alpha.clamp_(-self.limit, self.limit)
        return self.alpha.clamp(-self.limit, self.limit)


def limit_for(n_moments: int) -> float:
    """Bound of alpha for so many moments: ln(n - 1), and 0 for fewer than three.

    There one moment of certainty among moments of certain absence makes a pooled probability of one half, e^alpha /
    (e^alpha + n - 1); a greater alpha adds nothing to such a decision. The authors bound alpha by the length too
    (their section III.E); this formula is ours.
    """
    return math.log(max(1, n_moments - 1))
