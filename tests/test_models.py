"""The contract of every registered model, and the parameter counts of the reports."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from musicgenre.errors import UsageError
from musicgenre.models import registry
from musicgenre.models.classical import ClassicalModel
from musicgenre.models.network import Network, count_parameters
from musicgenre.models.registry import create_model, list_models, model_entry, register
from tests.narrow import NARROW

MODELS = list_models()
NETWORKS = [name for name in MODELS if model_entry(name).family != "classical"]
FULL_SHAPES = {
    "mel-cnn": (128, 301),
    "mel-cnn-table": (128 * 301 + 57,),
    "mfcc-cnn": (130, 13),
    "mfcc-mlp": (130, 13),
    "lstm": (130, 13),
    "gru": (130, 13),
    "table-mlp": (57,),
    "picture-cnn": (3, 224, 224),
    "tagger": (128, 173),
    "cnn1d-baseline": (128, 173),
    "cnn1d": (128, 173),
    "cnn2d": (128, 173),
    "linear-probe": (13, 768),
    "transformer": (4_000,),
    "spec-and-embed": (128 * 173 + 200,),
}
_TINY = model_entry("transformer").tiny_options
# a network of a published size is no test; this one is wider than the tiny one
FULL_OPTIONS = {"transformer": {**_TINY, "config": {**_TINY["config"], "hidden_size": 64, "conv_dim": [32, 32]}}}

MOST_PARAMETERS = 1_000_000
"""Of a network that the ordinary run trains; a larger one needs an entry in `NARROW` or smaller tiny options."""


# Deep batch-norms and a ReLU behind the last layer need a map of more than one cell.
OVER_FIT_SHAPES = {"resnet": (3, 64, 64), "squeezenet": (3, 64, 64)}
# Without batch-norm, units die at the usual rate.
OVER_FIT_RATES = {"vgg": 1e-3, "squeezenet": 3e-4}


def examples(shape: tuple[int, ...], count: int = 8, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, *shape, generator=generator), torch.arange(count) % classes


def narrow_network(name: str, patch: pytest.MonkeyPatch, shape: tuple[int, ...] | None = None) -> Network:
    """The registered network as it is tried here: all of its layers, few channels, no dropout where it is deep."""
    entry = model_entry(name)
    options: dict[str, Any] = dict(entry.tiny_options)
    if entry.family in NARROW:
        NARROW[entry.family](patch)
        if "dropout" in entry.options:
            options["dropout"] = 0.0

    return create_model(name, shape or OVER_FIT_SHAPES.get(entry.family, entry.tiny_shape), 4, **options)


def made(name: str, patch: pytest.MonkeyPatch) -> Network:
    shape = model_entry(name).tiny_shape
    if name in NETWORKS:
        return narrow_network(name, patch, shape).eval()
    model = create_model(name, shape, 4, **({"n_neighbours": 1} if name == "knn" else {}))
    assert isinstance(model, ClassicalModel)
    x, y = examples(shape, 40)
    model.fit(x.numpy(), y.numpy())
    return model.eval()


def test_every_model_of_the_reports_is_listed() -> None:
    assert set(FULL_SHAPES) | {
        "knn", "naive-bayes", "decision-tree", "random-forest", "svm", "logistic-regression"
    } <= set(MODELS)  # fmt: skip
    assert list_models("cnn1d*") == ["cnn1d", "cnn1d-baseline"]


@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(name, monkeypatch)
    x, _ = examples(model.input_shape, 3)
    with torch.no_grad():
        logits = model(x)
        features = model.forward_features(x)
        torch.testing.assert_close(model.forward_head(features), logits)
        # fresh residual networks give large numbers: batch-norms have seen nothing yet
        torch.testing.assert_close(
            model(x[:1]), logits[:1], atol=1e-5 * max(1.0, float(logits.abs().max())), rtol=1e-4
        )
    assert logits.shape == (3, 4)
    assert features.shape == (3, model.embedding_width)
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits.exp().sum(dim=1), torch.ones(3)) or isinstance(model, ClassicalModel)


@pytest.mark.parametrize("name", NETWORKS)
def test_reset_head_keeps_the_body(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(name, monkeypatch)
    x, _ = examples(model.input_shape, 2)
    before = model.forward_features(x)
    model.reset_head(7)
    assert model(x).shape == (2, 7)
    torch.testing.assert_close(model.forward_features(x), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_seed_same_weights(name: str) -> None:
    states = []
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            torch.manual_seed(3)
            states.append(narrow_network(name, patch).state_dict())

    first, second = states
    assert all(torch.equal(first[key], second[key]) for key in first)


def train_to_perfection(model: Network, steps: int, learning_rate: float = 3e-3) -> float:
    x, y = examples(model.input_shape, classes=4)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    share_right = 0.0
    for step in range(1, steps + 1):
        model.train()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
        if step % 10 == 0:
            with torch.no_grad():
                share_right = float((model.eval()(x).argmax(dim=1) == y).float().mean())
            if share_right == 1.0:
                break
    return share_right


@pytest.mark.parametrize("name", NETWORKS)
def test_over_fits_eight_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = narrow_network(name, monkeypatch)
    assert count_parameters(network) <= MOST_PARAMETERS, f"give {name} smaller tiny_options or its family in NARROW"

    family = model_entry(name).family
    if family == "squeezenet":  # a class whose ReLU behind the last layer begins at 0 for all examples never learns
        torch.nn.init.ones_(list(network.parameters())[-1])
    steps = 100 if family in NARROW else 60
    assert train_to_perfection(network, steps, OVER_FIT_RATES.get(family, 3e-3)) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SHAPES)
def test_over_fits_eight_examples_at_full_size(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, FULL_SHAPES[name], 4, **FULL_OPTIONS.get(name, {}))
    assert train_to_perfection(network, steps=60, learning_rate=1e-3) == 1.0


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(NETWORKS)))
def test_classical_models_over_fit_eight_examples(name: str) -> None:
    model = create_model(name, (57,), 4, **({"n_neighbours": 1} if name == "knn" else {}))
    x, y = examples((57,))
    assert isinstance(model, ClassicalModel)
    model.fit(x.numpy(), y.numpy())
    assert (model(x).argmax(dim=1) == y).all()


def test_parameter_counts_of_the_reports() -> None:
    a5 = create_model("mel-cnn", (128, 301), 10)
    assert [count_parameters(layer) for layer in a5.modules() if isinstance(layer, torch.nn.Conv2d)] == [320, 18_496]
    assert [count_parameters(layer) for layer in a5.modules() if isinstance(layer, torch.nn.Linear)] == [
        19_660_928,
        1_290,
    ]
    assert count_parameters(a5) == 19_681_034
    assert round(count_parameters(a5) * 4 / 1e6, 3) == 78.724
    assert count_parameters(create_model("mfcc-cnn", (130, 13), 10)) == 173_682


def test_parameter_counts_by_hand() -> None:
    c2 = (57 * 512 + 512) + 2 * 512 + (512 * 128 + 128) + 2 * 128 + (128 * 10 + 10)
    assert count_parameters(create_model("table-mlp", (57,), 10)) == c2 == 97_930
    widths = [3, 8, 16, 32, 64, 128]
    convolutions = sum(9 * a * b + b + 2 * b for a, b in pairwise(widths))
    c4 = convolutions + (128 * 7 * 7 * 128 + 128) + (128 * 10 + 10)
    assert count_parameters(create_model("picture-cnn", (3, 224, 224), 10)) == c4 == 903_114
    e2 = (1690 * 512 + 512) + (512 * 256 + 256) + (256 * 64 + 64) + (64 * 10 + 10)
    assert count_parameters(create_model("mfcc-mlp", (130, 13), 10)) == e2
    gates = (13 * 64 + 64 * 64 + 2 * 64) + (64 * 64 + 64 * 64 + 2 * 64)
    tail = (64 * 64 + 64) + (64 * 10 + 10)
    assert count_parameters(create_model("lstm", (130, 13), 10)) == 4 * gates + tail
    assert count_parameters(create_model("gru", (130, 13), 10)) == 3 * gates + tail


def test_cnn2d_is_the_counterpart_of_cnn1d() -> None:
    one, two = create_model("cnn1d", (128, 173), 8), create_model("cnn2d", (128, 173), 8)
    flat = [layer for layer in one.modules() if isinstance(layer, torch.nn.Conv1d)]
    deep = [layer for layer in two.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in flat] == [layer.out_channels for layer in deep] == [32, 64, 128, 256]
    assert [layer.kernel_size * 2 for layer in flat] == [layer.kernel_size for layer in deep]
    assert [layer.padding * 2 for layer in flat] == [layer.padding for layer in deep]


def test_relu_behind_the_pool_is_the_same_function() -> None:
    x = torch.randn(2, 3, 8, 8)
    pool = torch.nn.MaxPool2d(3, 2)
    assert torch.equal(torch.relu(pool(x)), pool(torch.relu(x)))


def test_unknown_names_and_options_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="Nearest: 'mfcc-cnn'"):
        create_model("mfc-cnn", (130, 13), 10)
    with pytest.raises(UsageError, match="Nearest: 'dropout'"):
        create_model("mfcc-cnn", (130, 13), 10, dropuot=0.1)
    with pytest.raises(UsageError, match="dimensions"):
        create_model("mfcc-cnn", (57,), 10)
    with pytest.raises(UsageError, match="longer segments"):
        create_model("mfcc-cnn", (3, 13), 10)
    with pytest.raises(UsageError, match="2 or more"):
        create_model("table-mlp", (57,), 1)


def test_a_name_given_twice_is_an_error() -> None:
    with pytest.raises(UsageError, match="taken twice"):
        register("mel-cnn", tiny_shape=(1,))(registry.create_model)


def test_joined_model_refuses_what_is_no_picture_and_table() -> None:
    with pytest.raises(UsageError, match="bands of a spectrogram"):
        create_model("mel-cnn-table", (1000,), 3)


def test_an_unfitted_model_says_so() -> None:
    with pytest.raises(UsageError, match="not fitted"):
        create_model("svm", (5,), 2)(torch.zeros(1, 5))


def test_a_class_without_examples_is_an_error() -> None:
    model = create_model("naive-bayes", (5,), 3)
    assert isinstance(model, ClassicalModel)
    with pytest.raises(UsageError, match=r"classes \[2\]"):
        model.fit(np.zeros((4, 5), np.float32), np.array([0, 1, 0, 1]))
