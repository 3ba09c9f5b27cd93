"""Our torch versions of the classical models answer as scikit-learn does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from musicgenre.models.classical import ClassicalModel
from musicgenre.models.registry import create_model

CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("knn", {"n_neighbours": 5}, KNeighborsClassifier(5)),
    ("naive-bayes", {}, GaussianNB()),
    ("decision-tree", {}, DecisionTreeClassifier(random_state=3)),
    ("random-forest", {"n_trees": 30}, RandomForestClassifier(30, random_state=3)),
    ("logistic-regression", {}, LogisticRegression(max_iter=1000)),
    ("svm", {}, SVC(C=5.0)),
    ("svm", {"kernel": "linear", "c": 0.5}, SVC(C=0.5, kernel="linear")),
]


def table(rng: np.random.Generator, n_classes: int, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(count) % n_classes
    centres = rng.normal(size=(n_classes, 12))
    return (centres[y] + rng.normal(scale=1.2, size=(count, 12))).astype(np.float32), y


def fitted(name: str, options: dict[str, Any], x: np.ndarray, y: np.ndarray, **more: Any) -> ClassicalModel:
    model = create_model(name, (x.shape[1],), int(y.max()) + 1, **options)
    assert isinstance(model, ClassicalModel)
    model.fit(x, y, seed=3, **more)
    return model


@pytest.mark.parametrize("n_classes", [2, 4, 7])
@pytest.mark.parametrize(("name", "options", "judge"), CASES)
def test_agrees_with_scikit_learn(
    name: str, options: dict[str, Any], judge: Any, n_classes: int, rng: np.random.Generator
) -> None:
    x, y = table(rng, n_classes)
    fresh, _ = table(rng, n_classes)
    logits = fitted(name, options, x, y)(torch.from_numpy(fresh)).numpy()
    judge.fit(x, y)
    if isinstance(judge, SVC):
        decision = judge.decision_function(fresh)
        ours = logits[:, 1] - logits[:, 0] if n_classes == 2 else logits
        expected = np.sign(decision) if n_classes == 2 else decision
        np.testing.assert_allclose(np.sign(ours) if n_classes == 2 else ours, expected, atol=2e-3)
        return
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores, judge.predict_proba(fresh), atol=2e-3)
    assert (logits.argmax(axis=1) == judge.predict(fresh)).mean() >= 0.99


@pytest.mark.parametrize(("name", "options", "judge"), CASES)
def test_restored_arrays_give_the_same_scores(
    name: str, options: dict[str, Any], judge: Any, rng: np.random.Generator
) -> None:
    x, y = table(rng, 3)
    model = fitted(name, options, x, y)
    again = create_model(name, (12,), 3, **options)
    assert isinstance(again, ClassicalModel)
    again.restore({key: value.numpy() for key, value in model.state_dict().items()})
    assert torch.equal(model(torch.from_numpy(x)), again(torch.from_numpy(x)))
    assert judge is not None


def test_balanced_weights_help_the_rare_class(rng: np.random.Generator) -> None:
    x, y = table(rng, 2, 400)
    keep = (y == 0) | (np.arange(400) % 20 == 1)
    found = [
        int((fitted("svm", {"c": 0.1}, x[keep], y[keep], balanced=b)(torch.from_numpy(x)).argmax(dim=1) == 1).sum())
        for b in (False, True)
    ]
    assert found[0] < found[1]
