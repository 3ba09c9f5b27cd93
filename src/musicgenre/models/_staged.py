"""Networks in stages, from the input on: hold the first ones, let earlier ones learn more slowly."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from musicgenre.errors import UsageError
from musicgenre.models._network import Network

IMAGENET_CLASSES = 1_000


class Staged(nn.Module):
    """Layers in stages.

    Attributes
    ----------
    stages : tuple of str
        Names of the layers at which a new stage begins, from the input on.
    """

    stages: tuple[str, ...]

    def stage_of_parameters(self) -> list[tuple[str, nn.Parameter, int]]:
        """Every parameter with its name and the number of its stage, from the input on."""
        found, stage = [], 0
        for name, parameter in self.named_parameters():
            while stage + 1 < len(self.stages) and name.startswith(self.stages[stage + 1] + "."):
                stage += 1
            found.append((name, parameter, stage))
        return found

    def freeze(self, frozen: str) -> None:
        """Hold the weights of all layers (``body``), of those in front of a layer, or of none.

        Raises
        ------
        UsageError
            If there is no layer of that name.
        """
        if frozen == "none":
            return
        names = [name for name, _ in self.named_parameters()]
        starts = [at for at, name in enumerate(names) if name.startswith(f"{frozen}.")]
        if frozen != "body" and not starts:
            raise UsageError(
                f"frozen={frozen!r} names no layer with weights",
                valid=f"none, body, or a layer up to which to freeze, as {', '.join(self.stages[1:])}",
            )
        for _, parameter in list(self.named_parameters())[: starts[0] if starts else None]:
            parameter.requires_grad_(False)


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
    """

    def __init__(
        self, body: nn.Module, staged: Staged, stage_rate: float, input_shape: tuple[int, ...], n_classes: int
    ) -> None:
        if not 0.0 < stage_rate <= 1.0:
            raise UsageError(f"stage_rate={stage_rate}", valid="stage_rate above 0 and up to 1")
        super().__init__(body, input_shape, n_classes)
        self.stage_rate = stage_rate
        self._staged = (staged,)  # a tuple, so that its weights do not stand among ours twice

    @property
    def staged(self) -> Staged:
        """The stages."""
        return self._staged[0]

    def train(self, mode: bool = True) -> StagedNetwork:
        """Switch to training or evaluation; batch-norms whose weights are frozen keep their statistics too."""
        super().train(mode)
        for layer in self.staged.modules():
            if isinstance(layer, _BatchNorm) and not layer.weight.requires_grad:
                layer.eval()
        return self

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Weights to be learnt by stage, each stage ``stage_rate`` times slower than the one behind it."""
        if self.stage_rate == 1.0:
            return super().parameter_groups(learning_rate)
        staged = self.staged.stage_of_parameters()
        inside = {id(parameter) for _, parameter, _ in staged}
        behind = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in inside]
        groups: list[dict[str, Any]] = [{"params": behind, "lr": learning_rate}]
        last = max((stage for _, _, stage in staged), default=0)
        for stage in range(last, -1, -1):
            weights = [parameter for _, parameter, of in staged if of == stage and parameter.requires_grad]
            if weights:
                groups.append({"params": weights, "lr": learning_rate * self.stage_rate ** (last + 1 - stage)})
        return groups


class Backbone(Staged):
    """A network for photographs, its layers named as in torchvision, so that the published files fit.

    Attributes
    ----------
    first : str
        Name of the first convolution.
    """

    first: str

    @abstractmethod
    def initialise(self) -> None:
        """Give every number its first value: weights drawn as torchvision draws them."""

    @abstractmethod
    def strip(self, *, own_head: bool) -> None:
        """Take the last layer away, and with ``own_head`` every layer behind the convolutions.

        Then :meth:`forward` gives what a last layer reads, (batch, width).
        """

    @abstractmethod
    def drop_pool(self) -> None:
        """Take the average pool away.

        Raises
        ------
        UsageError
            If the network cannot do without.
        """

    @abstractmethod
    def make_head(self, width: int, n_classes: int) -> nn.Module:
        """Make a last layer with fresh weights: (batch, width) to (batch, n_classes)."""

    def fold_colours(self) -> None:
        """Let the first convolution read one channel: its weights are summed, as if three equal channels came."""
        owner, _, name = self.first.rpartition(".")
        holder = self.get_submodule(owner)
        old = self.get_submodule(self.first)
        assert isinstance(old, nn.Conv2d)
        size, stride, padding = (_pair(each) for each in (old.kernel_size, old.stride, old.padding))
        new = nn.Conv2d(1, old.out_channels, size, stride, padding, bias=old.bias is not None)
        with torch.no_grad():
            new.weight = nn.Parameter(old.weight.sum(dim=1, keepdim=True))
            new.bias = old.bias
        setattr(holder, name, new)


class AveragePool(nn.Module):
    """Mean over the cells of a ``size`` x ``size`` grid, as ``nn.AdaptiveAvgPool2d``, written so that it exports.

    Parameters
    ----------
    size : int
        Rows and columns of what comes out.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, channels, size, size)."""
        height, width = int(x.shape[2]), int(x.shape[3])
        if (height, width) == (self.size, self.size):
            return x
        rows, columns = (_cells(old, self.size).to(x) for old in (height, width))
        return rows @ x @ columns.T


def _cells(n_old: int, n_new: int) -> Tensor:
    """Weights of the old positions in every cell, (n_new, n_old)."""
    weights = torch.zeros(n_new, n_old, device="cpu")
    for cell in range(n_new):
        begin, end = cell * n_old // n_new, -(-(cell + 1) * n_old // n_new)
        weights[cell, begin:end] = 1.0 / (end - begin)
    return weights


def _pair(value: Sequence[int] | int | str) -> tuple[int, int]:
    if isinstance(value, int | str):
        raise UsageError(f"a convolution of {value!r} cannot be folded", valid="a pair of whole numbers")
    return (value[0], value[1])
