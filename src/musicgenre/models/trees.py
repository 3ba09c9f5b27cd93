"""Decision tree and random forest on a feature table (C8), all trees walked side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from musicgenre.models._fitted import Array, ClassicalModel
from musicgenre.models.registry import register

_SMALLEST = 1e-6


class Trees(ClassicalModel):
    """One tree or many: nodes of all trees in one list, a leaf's children being itself.

    The logits are the logarithms of the mean of the leaves' class shares.
    """

    columns: Tensor
    thresholds: Tensor
    links: Tensor
    shares: Tensor
    roots: Tensor
    depth: Tensor

    def __init__(
        self, input_shape: tuple[int, ...], n_classes: int, n_trees: int | None, max_depth: int | None
    ) -> None:
        super().__init__(input_shape, n_classes)
        self.n_trees, self.max_depth = n_trees, max_depth

    def learn(self, x: Array, y: Array, seed: int, balanced: bool) -> dict[str, Array]:
        """Grow the trees and chain their nodes."""
        weights = "balanced" if balanced else None
        if self.n_trees is None:
            tree = DecisionTreeClassifier(max_depth=self.max_depth, class_weight=weights, random_state=seed)
            return _chained([tree.fit(x, y)])
        forest = RandomForestClassifier(
            self.n_trees, max_depth=self.max_depth, class_weight=weights, random_state=seed, n_jobs=1
        )
        return _chained(list(forest.fit(x, y).estimators_))

    def restore(self, arrays: Any) -> None:
        """Take over the arrays; the depth becomes the number of steps."""
        super().restore(arrays)
        self.n_steps = int(self.depth)

    def score(self, x: Tensor) -> Tensor:
        """Walk every tree from its root to a leaf."""
        node = self.roots.expand(x.shape[0], -1)  # (batch, n_trees)
        for _ in range(self.n_steps):
            value = torch.gather(x, 1, self.columns[node])
            right = (value > self.thresholds[node]).long()
            node = self.links[2 * node + right]
        return torch.log(torch.clamp(self.shares[node].mean(dim=1), min=_SMALLEST))


def _chained(estimators: list[Any]) -> dict[str, Array]:
    parts: dict[str, list[Array]] = {"columns": [], "thresholds": [], "links": [], "shares": []}
    roots, size = [], 0
    for estimator in estimators:
        tree = estimator.tree_
        own = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        pair = [np.where(leaf, own, tree.children_left), np.where(leaf, own, tree.children_right)]
        shares = tree.value[:, 0, :]
        parts["columns"].append(np.where(leaf, 0, tree.feature))
        parts["thresholds"].append(np.where(leaf, np.inf, tree.threshold))
        parts["links"].append(np.stack(pair, axis=1).ravel() + size)
        parts["shares"].append(shares / shares.sum(axis=1, keepdims=True))
        roots.append(size)
        size += tree.node_count
    chained = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return {
        "columns": chained["columns"].astype(np.int64),
        "thresholds": _floor_float32(chained["thresholds"]),
        "links": chained["links"].astype(np.int64),
        "shares": chained["shares"].astype(np.float32),
        "roots": np.array([roots], np.int64),
        "depth": np.array(max(estimator.get_depth() for estimator in estimators), np.int64),
    }


def _floor_float32(values: Array) -> Array:
    """Round down, so that comparing a float32 with the result answers as comparing it with the float64 did."""
    rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(-np.inf)), rounded).astype(np.float32)


@register("decision-tree", tiny_shape=(57,))
def decision_tree(input_shape: tuple[int, ...], n_classes: int, *, max_depth: int | None = None) -> Trees:
    """Make one decision tree."""
    return Trees(input_shape, n_classes, None, max_depth)


@register("random-forest", tiny_shape=(57,))
def random_forest(
    input_shape: tuple[int, ...], n_classes: int, *, n_trees: int = 500, max_depth: int | None = None
) -> Trees:
    """Make a random forest."""
    return Trees(input_shape, n_classes, n_trees, max_depth)
