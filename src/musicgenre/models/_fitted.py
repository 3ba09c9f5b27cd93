"""Classical models as modules: fitted by scikit-learn, kept as plain arrays, computed in torch.

So they are stored, scored and exported like every network, and nothing is pickled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgenre.errors import UsageError
from musicgenre.models._network import Network

Array = NDArray[Any]


class ClassicalModel(Network):
    """A model that is fitted in one go; its arrays are buffers.

    Parameters
    ----------
    input_shape : tuple of int
        (n_columns,).
    n_classes : int
        Number of scores.
    """

    def __init__(self, input_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__(torch.nn.Identity(), input_shape, n_classes)
        self.head = torch.nn.Identity()
        self.n_classes = n_classes
        self.fitted = False

    def fit(self, x: Array, y: Array, *, seed: int = 0, balanced: bool = False) -> None:
        """Fit to ``x`` of shape (n, n_columns) and class numbers ``y`` of shape (n,).

        Raises
        ------
        UsageError
            If a class has no example.
        """
        absent = sorted(set(range(self.n_classes)) - set(np.unique(y).tolist()))
        if absent:
            raise UsageError(
                f"classes {absent} have no training example", next_step="Leave them out of data.labels, or add tracks"
            )
        self.restore(self.learn(np.asarray(x, np.float32), np.asarray(y), seed, balanced))

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take over arrays that :meth:`learn` made, here or in a stored run."""
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
        self.fitted = True

    def forward_head(self, features: Tensor) -> Tensor:
        """Compute the logits: (batch, n_columns) to (batch, n_classes)."""
        if not self.fitted:
            raise UsageError(f"the model {type(self).__name__} is not fitted", next_step="Call fit first")
        return self.score(features)

    def reset_head(self, n_classes: int) -> None:
        """Forget what was fitted; the next :meth:`fit` has ``n_classes`` classes."""
        self.n_classes = n_classes
        self.fitted = False

    @abstractmethod
    def learn(self, x: Array, y: Array, seed: int, balanced: bool) -> dict[str, Array]:
        """Fit scikit-learn's estimator and read its arrays."""

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """Compute the logits from the arrays."""


def squared_distances(x: Tensor, points: Tensor, squares: Tensor) -> Tensor:
    """Squared Euclidean distances, (batch, n_columns) and (n_points, n_columns) to (batch, n_points)."""
    own = (x * x).sum(dim=1, keepdim=True)
    return torch.clamp(own - 2.0 * x @ points.T + squares, min=0.0)
