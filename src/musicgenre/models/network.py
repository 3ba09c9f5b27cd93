"""The small contract that every network keeps, and networks whose layers come in stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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
        What `body` gives, where it is known; found by a dry run otherwise.

    Attributes
    ----------
    weight_cards : tuple of str, mapping or WeightCard
        Cards of the weights that were loaded, their names, or what `card_of` takes; see `musicgenre.models.cards`.
    sample_rate_hz : int or None
        Rate of the sound that it must be fed; `None` for all that do not hear sound themselves.
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
        """Replace the last layer by a fresh one with `n_classes` outputs."""
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


class Staged(nn.Module):
    """Layers in stages, from the input on: the first ones can be held, and earlier ones learn more slowly.

    Attributes
    ----------
    stages : tuple of str
        Names of the layers at which a new stage begins, from the input on.
    """

    stages: tuple[str, ...]

    def weights_by_stage(self) -> list[list[nn.Parameter]]:
        """All weights, a list a stage, from the input on; stages at the end that were taken away are left out."""
        found: list[list[nn.Parameter]] = [[]]
        for name, weight in self.named_parameters():
            if len(found) < len(self.stages) and name.startswith(f"{self.stages[len(found)]}."):
                found.append([])
            found[-1].append(weight)

        return found

    def freeze(self, frozen: str) -> None:
        """Hold the weights of all layers (`body`), of those in front of a layer, or of none (`none`).

        Raises
        ------
        UsageError
            If there is no layer of that name.
        """
        if frozen == "none":
            return

        start = f"{frozen}."
        if frozen != "body" and not any(name.startswith(start) for name, _ in self.named_parameters()):
            raise UsageError(
                f"frozen={frozen!r} names no layer with weights",
                valid=f"none, body, or a layer up to which to freeze, as {', '.join(self.stages[1:])}",
            )

        # weights are listed from the input on, so all before the named layer's first are in front of it
        for name, weight in self.named_parameters():
            if name.startswith(start):
                return
            weight.requires_grad_(False)


class StagedNetwork(Network):
    """A network around layers in stages.

    Parameters
    ----------
    body : nn.Module
        Takes (batch, *input_shape), gives (batch, embedding_width); holds the stages, or is them.
    staged : Staged
        The stages.
    stage_rate : float
        How much slower each stage learns than the one behind it; what is not among them learns at full rate.
    input_shape : tuple of int
        Shape of one input.
    n_classes : int
        Number of logits.

    Raises
    ------
    UsageError
        If `stage_rate` is not above 0 and up to 1.
    """

    def __init__(
        self, body: nn.Module, staged: Staged, stage_rate: float, input_shape: tuple[int, ...], n_classes: int
    ) -> None:
        if not 0.0 < stage_rate <= 1.0:
            raise UsageError(f"stage_rate={stage_rate}", valid="stage_rate above 0 and up to 1")

        super().__init__(body, input_shape, n_classes)
        self.stage_rate = stage_rate
        self._staged = (staged,)  # a tuple, so that its weights do not stand among ours twice

    def train(self, mode: bool = True) -> StagedNetwork:
        """Switch to training or evaluation; batch-norms whose weights are frozen keep their statistics too."""
        super().train(mode)
        for layer in self._staged[0].modules():
            if isinstance(layer, _BatchNorm) and not layer.weight.requires_grad:
                layer.eval()

        return self

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Weights to be learnt by stage, each stage `stage_rate` times slower than the one behind it."""
        if self.stage_rate == 1.0:
            return super().parameter_groups(learning_rate)
        return groups_by_stage(self.parameters(), self._staged[0].weights_by_stage(), learning_rate, self.stage_rate)


def groups_by_stage(
    weights: Iterable[nn.Parameter],
    stages: Sequence[Sequence[nn.Parameter]],
    learning_rate: float,
    stage_rate: float,
) -> list[dict[str, Any]]:
    """Group weights as an optimiser takes them, each stage with its own learning rate.

    Parameters
    ----------
    weights : iterable of nn.Parameter
        All weights of a network; those in no stage learn at full rate, and come first.
    stages : sequence of sequence of nn.Parameter
        The weights of each stage, from the input on.
    learning_rate : float
        The full rate.
    stage_rate : float
        How much slower each stage learns than the one behind it.

    Returns
    -------
    list of dict
        `params` and `lr`; what is held (`requires_grad` is off) is left out.
    """
    inside = {id(weight) for stage in stages for weight in stage}
    behind = [weight for weight in weights if weight.requires_grad and id(weight) not in inside]
    groups: list[dict[str, Any]] = [{"params": behind, "lr": learning_rate}]

    for depth, stage in enumerate(reversed(stages), 1):
        learnt = [weight for weight in stage if weight.requires_grad]
        if learnt:
            groups.append({"params": learnt, "lr": learning_rate * stage_rate**depth})

    return groups


def shape_after(layers: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what `layers` give for one input, without the batch, found by a dry run with zeros.

    Raises
    ------
    UsageError
        If the input is too small for the layers.
    """
    was_training = layers.training
    layers.eval()  # a batch-norm must not learn from the zeros
    try:
        with torch.no_grad():
            shape = tuple(int(size) for size in layers(torch.zeros(1, *input_shape)).shape[1:])
    except RuntimeError as error:
        raise UsageError(
            f"the model cannot take arrays of shape {input_shape} ({str(error).splitlines()[0]})",
            next_step="Choose a representation that fits the model, or longer segments",
        ) from error
    layers.train(was_training)

    if shape[0] < 1:  # pools on the way have left nothing
        raise UsageError(f"arrays of shape {input_shape} are too small for the model", next_step="Use longer segments")
    return shape


def width_after(body: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Width of what `body` gives for one input; see `shape_after`."""
    return shape_after(body, input_shape)[0]


def count_parameters(module: nn.Module) -> int:
    """Number of trainable numbers in the module."""
    return sum(parameter.numel() for parameter in module.parameters())
