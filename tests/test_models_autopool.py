"""Auto-pool against its definition in float64, at its limits, and in its three forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgenre.errors import UsageError
from musicgenre.models.tagger import FORMS, AutoPool, limit_for


def pooled_by_definition(logits: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The paper's formula in float64: (batch, time, tags) to pooled probabilities (batch, tags)."""
    p = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    weights = np.exp(alpha * (p - p.max(axis=1, keepdims=True) * np.sign(alpha)))
    return np.asarray((p * weights).sum(axis=1) / weights.sum(axis=1))


def pool_with(alpha: list[float], **options: float | str) -> AutoPool:
    pool = AutoPool(len(alpha), **options)  # type: ignore[arg-type]
    with torch.no_grad():
        pool.alpha.copy_(torch.tensor(alpha))
    return pool


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    moments=st.integers(1, 12),
    spread=st.floats(0.1, 6.0),
    alpha=st.lists(st.floats(-20.0, 20.0, width=32), min_size=1, max_size=4),
)
def test_is_the_papers_formula(seed: int, moments: int, spread: float, alpha: list[float]) -> None:
    logits = np.random.default_rng(seed).normal(scale=spread, size=(3, moments, len(alpha))).astype(np.float32)
    with torch.no_grad():
        got = pool_with(alpha)(torch.from_numpy(logits)).double().sigmoid().numpy()
    np.testing.assert_allclose(got, pooled_by_definition(logits, np.array(alpha)), rtol=2e-5, atol=1e-6)
    p = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    assert (got >= p.min(axis=1) - 1e-6).all() and (got <= p.max(axis=1) + 1e-6).all()


def test_limits_are_mean_softmax_maximum_and_minimum() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 9, 1)
    p = logits.sigmoid()
    soft = (p.softmax(dim=1) * p).sum(dim=1)
    for alpha, expected in ((0.0, p.mean(dim=1)), (1.0, soft), (1e4, p.amax(dim=1)), (-1e4, p.amin(dim=1))):
        # alpha p is rounded to seven digits, which the softmax of large ones shows
        torch.testing.assert_close(pool_with([alpha])(logits).sigmoid(), expected, atol=1e-3, rtol=0.0)


def test_each_tag_has_its_own_alpha() -> None:
    logits = torch.tensor([[[-2.0, -2.0], [2.0, 2.0]]])
    mean, maximum = pool_with([0.0, 1e4])(logits)[0].sigmoid().tolist()
    assert mean == pytest.approx(0.5)
    assert maximum == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-6)


@settings(max_examples=30)
@given(logit=st.floats(-80, 80, width=32), moments=st.integers(1, 200), alpha=st.floats(-50, 50, width=32))
def test_equal_moments_give_back_their_logit(logit: float, moments: int, alpha: float) -> None:
    pooled = pool_with([alpha])(torch.full((1, moments, 1), logit))
    assert float(pooled.detach()) == pytest.approx(logit, abs=2e-4, rel=1e-5)


def test_extreme_logits_stay_finite_with_gradients() -> None:
    logits = torch.tensor([[[-200.0], [200.0]], [[-200.0], [-200.0]]], requires_grad=True)
    pool = pool_with([3.0])
    pooled = pool(logits)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(pooled, torch.tensor([[0.0], [1.0]]))
    loss.backward()
    assert torch.isfinite(pooled).all() and torch.isfinite(loss)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert pool.alpha.grad is not None and torch.isfinite(pool.alpha.grad).all()


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(1)
    pool = pool_with([0.7, -1.3]).double()
    logits = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, _: pool(x), (logits, pool.alpha))


def test_alpha_learns_to_lean_towards_the_tag_that_is_there_for_a_moment() -> None:
    logits = torch.full((1, 8, 2), -3.0)
    logits[0, 5] = 3.0
    pool = AutoPool(2)
    optimiser = torch.optim.Adam(pool.parameters(), lr=0.1)
    for _ in range(50):
        optimiser.zero_grad()
        targets = torch.tensor([[1.0, 0.0]])
        torch.nn.functional.binary_cross_entropy_with_logits(pool(logits), targets).backward()
        optimiser.step()
    heard, unheard = pool.alpha.tolist()
    assert heard > 1.0 and unheard < -1.0


def test_constrained_alpha_is_put_back() -> None:
    pool = pool_with([9.0, -9.0, 0.5], form="constrained", limit=2.0)
    logits = torch.randn(2, 5, 3)
    bounded = pool_with([2.0, -2.0, 0.5])
    torch.testing.assert_close(pool.eval()(logits), bounded(logits))
    assert pool.alpha.tolist() == [9.0, -9.0, 0.5], "evaluation changes nothing"
    pool.train()(logits).sum().backward()
    assert pool.alpha.tolist() == [2.0, -2.0, 0.5]
    assert pool.alpha.grad is not None and (pool.alpha.grad != 0).all(), "at the bound it still learns"


@pytest.mark.parametrize("moments", [3, 6, 180])
def test_at_the_limit_one_certain_moment_makes_one_half(moments: int) -> None:
    logits = torch.full((1, moments, 1), -40.0)
    logits[0, 0] = 40.0
    assert float(pool_with([limit_for(moments)])(logits).detach()) == pytest.approx(0.0, abs=1e-4)
    assert limit_for(1) == limit_for(2) == 0.0


def test_only_the_regularised_form_has_a_penalty() -> None:
    pool = pool_with([1.0, -2.0], form="regularised", weight=0.1)
    penalty = pool.penalty()
    assert penalty is not None and float(penalty.detach()) == pytest.approx(0.5)
    penalty.backward()
    assert pool.alpha.grad is not None
    assert pool.alpha.grad.tolist() == pytest.approx([0.2, -0.4])
    assert AutoPool(2).penalty() is None
    assert AutoPool(2, "constrained", limit=1.0).penalty() is None


def test_wrong_options_say_what_would_be_right() -> None:
    with pytest.raises(UsageError, match=", ".join(FORMS)):
        AutoPool(2, "free")
    with pytest.raises(UsageError, match="0 or more"):
        AutoPool(2, "constrained")
    with pytest.raises(UsageError, match="negative"):
        AutoPool(2, "regularised", weight=-1.0)
