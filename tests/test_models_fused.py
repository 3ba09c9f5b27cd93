"""The fused batch-norm, max-pool and ReLU give the numbers of the three layers, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from musicgenre.models._fused import FusedSequential, _suits
from musicgenre.models.registry import create_model


def layers(channels: int, size: int, stride: int) -> list[nn.Module]:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)  # both signs: the largest value may come from the smallest input
    nn.init.normal_(norm.bias)
    return [norm, nn.MaxPool2d(size, stride), nn.ReLU()]


def compare(x: torch.Tensor, built: list[nn.Module]) -> None:
    fused, plain = FusedSequential(*built), nn.Sequential(*copy.deepcopy(built))
    inputs = [x.clone().contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2)]
    outputs = [fused(inputs[0]), plain(inputs[1])]
    towards = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(1))
    for output in outputs:
        output.backward(towards)
    torch.testing.assert_close(outputs[0], outputs[1], atol=2e-5, rtol=1e-4)
    assert inputs[0].grad is not None
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-4, rtol=1e-3)
    for (name, one), (_, two) in zip(fused[0].named_parameters(), plain[0].named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-3, rtol=1e-3, msg=name)
    for (name, one), (_, two) in zip(fused[0].named_buffers(), plain[0].named_buffers(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4, msg=name)


@settings(max_examples=30)
@given(
    batch=st.integers(1, 4),
    channels=st.integers(2, 9),
    height=st.integers(4, 13),
    width=st.integers(4, 11),
    window=st.sampled_from([(2, 2), (3, 2), (3, 3), (2, 1)]),
    seed=st.integers(0, 1000),
)
def test_same_numbers_as_three_layers(
    batch: int, channels: int, height: int, width: int, window: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    x = 3.0 * torch.randn(batch, channels, height, width) + 5.0
    compare(x, layers(channels, *window))


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6, 20, 20) + 300.0
    built = layers(6, 2, 2)
    fused = FusedSequential(*built)(x.contiguous(memory_format=torch.channels_last).requires_grad_())
    exact = nn.Sequential(*copy.deepcopy(built)).double()(x.double())
    torch.testing.assert_close(fused.double(), exact, atol=3e-4, rtol=3e-4)


def test_threads_do_not_change_the_numbers() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4, 12, 12).contiguous(memory_format=torch.channels_last)
    built = FusedSequential(*layers(4, 2, 2))
    before, results = torch.get_num_threads(), []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            own = x.clone().requires_grad_()
            out = built(own)
            out.square().sum().backward()
            results.append((out.detach(), own.grad))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("name", ["mfcc-cnn", "picture-cnn", "cnn2d"])
def test_a_training_step_is_the_same_fused_or_not(name: str) -> None:
    shape = {"mfcc-cnn": (40, 13), "picture-cnn": (3, 32, 32), "cnn2d": (16, 32)}[name]
    torch.manual_seed(0)
    plain = create_model(name, shape, 3, **({} if name == "cnn2d" else {"dropout": 0.0}))
    fused = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    x, y = torch.randn(6, *shape), torch.arange(6) % 3
    for model in (plain, fused):
        torch.nn.functional.cross_entropy(model(x), y).backward()
    for (label, one), (_, two) in zip(fused.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=2e-4, rtol=2e-2, msg=label)


def test_only_training_on_a_cpu_is_fused() -> None:
    norm = nn.BatchNorm2d(3)
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert _suits(norm, x)
    assert not _suits(norm, x.contiguous())
    assert not _suits(norm, x.double())
    assert not _suits(norm.eval(), x)
    with torch.no_grad():
        assert not _suits(norm.train(), x)
