"""Normalisation as a layer, so that an exported model carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from musicgenre.data.rows import Normalisation

Kind = Literal["standard", "row_l2", "none"]
_SMALLEST = 1e-12


class Normalise(nn.Module):
    """Scale a batch of representation arrays, (batch, *shape) to the same shape.

    Parameters
    ----------
    kind : {"standard", "row_l2", "none"}
        ``standard``: subtract the mean, divide by the deviation, both of the training part. ``row_l2``: divide every
        example by its Euclidean length. ``none``: as it is.
    n_dims : int
        Dimensions of one example.
    measured : Normalisation, optional
        Mean and deviation; needed for ``standard``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: Kind, n_dims: int, measured: Normalisation | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.measured = measured if kind == "standard" else None
        if self.measured is not None:
            mean, std = self.measured.broadcast(n_dims)
            self.register_buffer("mean", torch.from_numpy(mean))
            self.register_buffer("std", torch.from_numpy(std))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the batch."""
        if self.measured is not None:
            return (x - self.mean) / self.std
        if self.kind == "row_l2":
            length = torch.sqrt((x * x).flatten(1).sum(dim=1))
            return x / length.clamp(min=_SMALLEST).reshape(-1, *([1] * (x.ndim - 1)))
        return x

    def as_dict(self) -> dict[str, Any]:
        """Content of ``normalisation.json``."""
        measured = self.measured.as_dict() if self.measured is not None else {"mean": [], "std": [], "row_axis": None}
        return {"kind": self.kind, **measured}


def normalise_from_dict(content: Mapping[str, Any], n_dims: int) -> Normalise:
    """Undo :meth:`Normalise.as_dict`."""
    kind = cast("Kind", content["kind"])
    return Normalise(kind, n_dims, Normalisation.from_dict(dict(content)) if kind == "standard" else None)
