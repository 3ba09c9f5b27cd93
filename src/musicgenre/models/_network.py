"""The small contract that every network keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.models.cards import WeightCard


class Network(nn.Module):
    """Representation in, logits out; the last layer stands apart, so that it can be read off or replaced.

    Parameters
    ----------
    body : nn.Module
        Takes (batch, *input_shape), gives (batch, embedding_width).
    input_shape : tuple of int
        Shape of one input, without the batch.
    n_classes : int
        Number of logits.
    embedding_width : int, optional
        What ``body`` gives, where it is known; found by a dry run otherwise.

    Attributes
    ----------
    weight_cards : tuple of str, mapping or WeightCard
        Cards of the weights that were loaded, their names, or what ``card_of`` takes; see `musicgenre.models.cards`.
    sample_rate_hz : int or None
        Rate of the sound that it must be fed; ``None`` for all that do not hear sound themselves.
    """

    weight_cards: tuple[str | Mapping[str, Any] | WeightCard, ...] = ()
    sample_rate_hz: int | None = None

    def __init__(
        self, body: nn.Module, input_shape: tuple[int, ...], n_classes: int, embedding_width: int | None = None
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.body = body
        self.embedding_width = width_after(body, input_shape) if embedding_width is None else embedding_width
        self.head: nn.Module = nn.Linear(self.embedding_width, n_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute what the last layer reads: (batch, *input_shape) to (batch, embedding_width)."""
        features: Tensor = self.body(x)
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        """Compute the logits: (batch, embedding_width) to (batch, n_classes)."""
        logits: Tensor = self.head(features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits: (batch, *input_shape) to (batch, n_classes)."""
        return self.forward_head(self.forward_features(x))

    def reset_head(self, n_classes: int) -> None:
        """Replace the last layer by a fresh one with ``n_classes`` outputs."""
        self.head = nn.Linear(self.embedding_width, n_classes)

    def options_to_restore(self) -> dict[str, Any]:
        """Further options (JSON) that make the same layers again without what the first making looked up."""
        return {}

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Weights to be learnt, in groups as an optimiser takes them, each with its learning rate."""
        return [{"params": [weight for weight in self.parameters() if weight.requires_grad], "lr": learning_rate}]

    def penalty(self) -> Tensor | None:
        """Return what the training adds to the loss of every step; nothing by default."""
        return None


class AddChannel(nn.Module):
    """(batch, height, width) to (batch, 1, height, width), or ``turned`` to (batch, 1, width, height)."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        self.turned = turned

    def forward(self, x: Tensor) -> Tensor:
        """Add the channel axis."""
        return (x.transpose(1, 2) if self.turned else x).unsqueeze(1)


def width_after(body: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Width of what ``body`` gives for one input, found by a dry run with zeros.

    Raises
    ------
    UsageError
        If the input is too small for the layers.
    """
    was_training = body.training
    body.eval()
    try:
        with torch.no_grad():
            width = int(body(torch.zeros(1, *input_shape)).shape[1])
    except RuntimeError as error:
        raise UsageError(
            f"the model cannot take arrays of shape {input_shape} ({str(error).splitlines()[0]})",
            next_step="Choose a representation that fits the model, or longer segments",
        ) from error
    body.train(was_training)
    if width < 1:
        raise UsageError(f"arrays of shape {input_shape} are too small for the model", next_step="Use longer segments")
    return width


def count_parameters(module: nn.Module) -> int:
    """Number of trainable numbers in the module."""
    return sum(parameter.numel() for parameter in module.parameters())
