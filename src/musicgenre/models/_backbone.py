"""What the three families of ImageNet networks have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.models._staged import Staged

IMAGENET_CLASSES = 1_000


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
