"""Classical models on a feature table (C8): neighbours, naive Bayes, logistic regression, SVM, trees.

Each is fitted by scikit-learn and answers as its prediction, from arrays that are stored and exported as those of a
network. The logits are log-probabilities where the model has them, and scikit-learn's one-against-rest decision values
for the SVM.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from musicgenre.errors import UsageError
from musicgenre.models.network import Network
from musicgenre.models.registry import register

_SMALLEST_SHARE = 1e-6  # a class without votes has this share, for its logarithm

Array = NDArray[Any]


@register("knn", tiny_shape=(57,), has_epochs=False)
def knn(input_shape: tuple[int, ...], n_classes: int, *, n_neighbours: int = 5) -> Neighbours:
    """Make k-nearest neighbours."""
    return Neighbours(input_shape, n_classes, n_neighbours)


@register("naive-bayes", tiny_shape=(57,), has_epochs=False)
def naive_bayes(input_shape: tuple[int, ...], n_classes: int) -> NaiveBayes:
    """Make Gaussian naive Bayes."""
    return NaiveBayes(input_shape, n_classes)


@register("logistic-regression", tiny_shape=(57,), has_epochs=False)
def logistic_regression(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    c: float = 1.0,
    max_iter: int = 1_000,
) -> Logistic:
    """Make multinomial logistic regression."""
    return Logistic(input_shape, n_classes, c, max_iter)


@register("svm", tiny_shape=(57,), has_epochs=False)
def svm(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    c: float = 5.0,
    kernel: Literal["rbf", "linear"] = "rbf",
) -> SupportVectors:
    """Make a support vector machine."""
    if kernel not in ("rbf", "linear"):
        raise UsageError(f"there is no kernel named {kernel!r}", valid="rbf, linear")
    return SupportVectors(input_shape, n_classes, c, kernel)


@register("decision-tree", tiny_shape=(57,), has_epochs=False)
def decision_tree(input_shape: tuple[int, ...], n_classes: int, *, max_depth: int | None = None) -> Trees:
    """Make one decision tree."""
    return Trees(input_shape, n_classes, None, max_depth)


@register("random-forest", tiny_shape=(57,), has_epochs=False)
def random_forest(
    input_shape: tuple[int, ...], n_classes: int, *, n_trees: int = 500, max_depth: int | None = None
) -> Trees:
    """Make a random forest."""
    return Trees(input_shape, n_classes, n_trees, max_depth)


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
        """Fit to `x` of shape (n, n_columns) and class numbers `y` of shape (n,).

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
        """Take over arrays that `learn` made, here or in a stored run."""
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
        self.fitted = True

    def forward_head(self, features: Tensor) -> Tensor:
        """Compute the logits: (batch, n_columns) to (batch, n_classes)."""
        if not self.fitted:
            raise UsageError(f"the model {type(self).__name__} is not fitted", next_step="Call fit first")
        return self.score(features)

    def reset_head(self, n_classes: int) -> None:
        """Forget what was fitted; the next `fit` has `n_classes` classes."""
        self.n_classes = n_classes
        self.fitted = False

    @abstractmethod
    def learn(self, x: Array, y: Array, seed: int, balanced: bool) -> dict[str, Array]:
        """Fit scikit-learn's estimator and read its arrays."""

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """Compute the logits from the arrays."""


class Neighbours(ClassicalModel):
    """Vote of the nearest training examples; of equal votes the first class wins, as in scikit-learn."""

    points: Tensor
    votes: Tensor
    squares: Tensor

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, n_neighbours: int) -> None:
        super().__init__(input_shape, n_classes)
        self.n_neighbours = n_neighbours

    def learn(self, x: Array, y: Array, seed: int, balanced: bool) -> dict[str, Array]:
        """Keep the examples; nothing is random here and votes are not weighted."""
        if len(x) < self.n_neighbours:
            raise UsageError(f"{len(x)} training examples are fewer than n_neighbours={self.n_neighbours}")

        votes = np.eye(self.n_classes, dtype=np.float32)[y]
        return {"points": x, "votes": votes, "squares": (x.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)}

    def score(self, x: Tensor) -> Tensor:
        """Logarithm of each class's share of the votes."""
        nearest = torch.topk(-squared_distances(x, self.points, self.squares), self.n_neighbours, dim=1).indices
        share = self.votes[nearest].mean(dim=1)
        return torch.log(torch.clamp(share, min=_SMALLEST_SHARE))


class NaiveBayes(ClassicalModel):
    """Gaussian naive Bayes."""

    means: Tensor
    variances: Tensor
    log_priors: Tensor

    def learn(self, x: Array, y: Array, seed: int, balanced: bool) -> dict[str, Array]:
        """Means, variances and priors; with `balanced` all classes are equally likely beforehand."""
        # scikit-learn weighs no examples here, but takes the classes' probabilities
        priors = np.full(self.n_classes, 1.0 / self.n_classes) if balanced else None
        fitted = GaussianNB(priors=priors).fit(x.astype(np.float64), y)
        arrays = {"means": fitted.theta_, "variances": fitted.var_, "log_priors": np.log(fitted.class_prior_)}
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    def score(self, x: Tensor) -> Tensor:
        """Joint log-likelihoods."""
        distance = (x.unsqueeze(1) - self.means) ** 2 / self.variances + torch.log(2.0 * torch.pi * self.variances)
        return self.log_priors - 0.5 * distance.sum(dim=2)


class Logistic(ClassicalModel):
    """Multinomial logistic regression."""

    weight: Tensor
    bias: Tensor

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, c: float, max_iter: int) -> None:
        super().__init__(input_shape, n_classes)
        self.c, self.max_iter = c, max_iter

    def learn(self, x: Array, y: Array, seed: int, balanced: bool) -> dict[str, Array]:
        """Weights and biases of every class."""
        class_weight = "balanced" if balanced else None
        fitted = LogisticRegression(C=self.c, max_iter=self.max_iter, class_weight=class_weight)
        fitted.fit(x.astype(np.float64), y)

        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:  # two classes: scikit-learn keeps the second one's margin alone
            weight, bias = np.vstack([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])

        return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}

    def score(self, x: Tensor) -> Tensor:
        """Linear scores."""
        return x @ self.weight.T + self.bias


class SupportVectors(ClassicalModel):
    """Support vector machine, one against one; the scores are votes plus bounded confidences."""

    points: Tensor
    squares: Tensor
    coefficients: Tensor
    intercepts: Tensor
    gamma: Tensor
    first: Tensor
    second: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_classes: int,
        c: float,
        kernel: Literal["rbf", "linear"],
    ) -> None:
        super().__init__(input_shape, n_classes)
        self.c, self.kernel = c, kernel

    def learn(self, x: Array, y: Array, seed: int, balanced: bool) -> dict[str, Array]:
        """Support vectors and the coefficients of every pair of classes as one dense matrix."""
        class_weight = "balanced" if balanced else None
        fitted = SVC(C=self.c, kernel=self.kernel, class_weight=class_weight).fit(x.astype(np.float64), y)

        # scikit-learn keeps, for each vector, one coefficient for every other class; here each pair has a column
        pairs = list(combinations(range(self.n_classes), 2))
        owner = np.repeat(np.arange(self.n_classes), fitted.n_support_)
        coefficients = np.zeros((len(owner), len(pairs)))
        for column, (one, other) in enumerate(pairs):
            coefficients[owner == one, column] = fitted.dual_coef_[other - 1, owner == one]
            coefficients[owner == other, column] = fitted.dual_coef_[one, owner == other]
        sign = -1.0 if self.n_classes == 2 else 1.0  # scikit-learn flips the sign of the only pair

        gamma = 0.0
        if self.kernel == "rbf":  # scikit-learn's "scale"
            gamma = 1.0 / (x.shape[1] * x.astype(np.float64).var())
        eye = np.eye(self.n_classes)
        arrays = {
            "points": fitted.support_vectors_,
            "squares": (fitted.support_vectors_**2).sum(axis=1),
            "coefficients": sign * coefficients,
            "intercepts": sign * fitted.intercept_,
            "gamma": np.array(gamma),
            "first": eye[[one for one, _ in pairs]],
            "second": eye[[other for _, other in pairs]],
        }
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    def score(self, x: Tensor) -> Tensor:
        """One-against-rest values from the pairs, as scikit-learn combines them."""
        if self.kernel == "rbf":
            likeness = torch.exp(-self.gamma * squared_distances(x, self.points, self.squares))
        else:
            likeness = x @ self.points.T

        margins = likeness @ self.coefficients + self.intercepts  # (batch, pairs); positive: the first class
        # a vote for the winner of each pair; what is below one third decides between equal votes
        wins = (margins >= 0).to(margins.dtype)
        votes = wins @ self.first + (1.0 - wins) @ self.second
        sums = margins @ (self.first - self.second)
        return votes + sums / (3.0 * (sums.abs() + 1.0))


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
        class_weight = "balanced" if balanced else None
        if self.n_trees is None:
            tree = DecisionTreeClassifier(max_depth=self.max_depth, class_weight=class_weight, random_state=seed)
            return _join_trees([tree.fit(x, y)])

        forest = RandomForestClassifier(
            self.n_trees, max_depth=self.max_depth, class_weight=class_weight, random_state=seed, n_jobs=1
        )
        return _join_trees(list(forest.fit(x, y).estimators_))

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

        return torch.log(torch.clamp(self.shares[node].mean(dim=1), min=_SMALLEST_SHARE))


def _join_trees(estimators: Sequence[DecisionTreeClassifier]) -> dict[str, Array]:
    """Put the nodes of all trees in one list, those of the first tree first."""
    parts: dict[str, list[Array]] = {"columns": [], "thresholds": [], "links": [], "shares": []}
    roots, n_nodes = [], 0
    for estimator in estimators:
        tree = estimator.tree_
        own = np.arange(tree.node_count)
        is_leaf = tree.children_left < 0

        # from a leaf both ways lead back to it: shallow trees wait there for the deepest one
        left = np.where(is_leaf, own, tree.children_left)
        right = np.where(is_leaf, own, tree.children_right)
        parts["columns"].append(np.where(is_leaf, 0, tree.feature))
        parts["thresholds"].append(np.where(is_leaf, np.inf, tree.threshold))
        parts["links"].append(np.stack([left, right], axis=1).ravel() + n_nodes)

        shares = tree.value[:, 0, :]
        parts["shares"].append(shares / shares.sum(axis=1, keepdims=True))
        roots.append(n_nodes)
        n_nodes += tree.node_count

    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return {
        "columns": joined["columns"].astype(np.int64),
        "thresholds": _floor_float32(joined["thresholds"]),
        "links": joined["links"].astype(np.int64),
        "shares": joined["shares"].astype(np.float32),
        "roots": np.array([roots], np.int64),
        "depth": np.array(max(estimator.get_depth() for estimator in estimators), np.int64),
    }


def _floor_float32(values: Array) -> Array:
    """Round down, so that comparing a float32 with the result answers as comparing it with the float64 did."""
    rounded = values.astype(np.float32)
    return np.where(rounded > values, np.nextafter(rounded, np.float32(-np.inf)), rounded).astype(np.float32)


def squared_distances(x: Tensor, points: Tensor, squares: Tensor) -> Tensor:
    """Squared Euclidean distances, (batch, n_columns) and (n_points, n_columns) to (batch, n_points)."""
    own = (x * x).sum(dim=1, keepdim=True)
    return torch.clamp(own - 2.0 * x @ points.T + squares, min=0.0)
