"""ImageNet networks: published names, shapes and counts; weights checked before they are read; freezing and rates."""

from __future__ import annotations

import hashlib
import math
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from musicgenre.errors import BundleError, UsageError
from musicgenre.models.cards import cards_in_use
from musicgenre.models.cards import imagenet as published
from musicgenre.models.cards.imagenet import ADDRESS, _card
from musicgenre.models.imagenet import IMAGENET_MEAN, IMAGENET_STD, ImageNetNetwork
from musicgenre.models.network import count_parameters
from musicgenre.models.registry import create_model, create_to_restore
from musicgenre.models.vgg import AveragePool
from musicgenre.training.module import SingleLabelModule
from musicgenre.training.recipes import load_recipe
from tests.published_imagenet import PARAMETERS, published_shapes, write_published

MODELS = list(PARAMETERS)
SMALL = "squeezenet-1.1"


def network(name: str, shape: tuple[int, ...] = (3, 32, 32), classes: int = 4, **options: Any) -> ImageNetNetwork:
    return cast("ImageNetNetwork", create_model(name, shape, classes, **options))


def on_meta(name: str, shape: tuple[int, ...] = (3, 224, 224), classes: int = 10, **options: Any) -> ImageNetNetwork:
    """The network without numbers: shapes and names alone, at no cost."""
    with torch.device("meta"):
        return network(name, shape, classes, **options)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def never_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail as soon as PyTorch is asked to read a file."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read before its hash was checked")

    monkeypatch.setattr(torch, "load", refuse)


@pytest.mark.parametrize("name", MODELS)
def test_published_parameter_counts(name: str) -> None:
    assert count_parameters(on_meta(name, classes=1_000)) == PARAMETERS[name]
    learnt = [shape for key, shape in published_shapes(name).items() if "running" not in key and shape]
    assert sum(math.prod(shape) for shape in learnt) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_a_file_with_the_published_names_loads_strictly(name: str, tmp_path: Path) -> None:
    path, values = write_published(tmp_path, name)
    state = network(name, weights=str(path)).backbone.state_dict()
    last = {"fc", "classifier.6"} if not name.startswith("squeeze") else {"classifier.1"}
    kept = {key: value for key, value in values.items() if key.rpartition(".")[0] not in last}
    assert list(state) == list(kept)
    for key, value in kept.items():
        assert state[key].shape == value.shape
        assert float(state[key].flatten()[0]) == float(value.flatten()[0])


@pytest.mark.parametrize("name", MODELS)
def test_one_renamed_key_fails(name: str, tmp_path: Path) -> None:
    path, values = write_published(tmp_path, name)
    old = list(values)[2]
    torch.save({(f"{key}_" if key == old else key): value for key, value in values.items()}, path)
    with pytest.raises(BundleError, match=rf"missing: {old}; unknown: {old}_") as caught:
        network(name, weights=str(path))
    assert "torchvision's names" in str(caught.value)


def test_a_file_of_ones_own_has_a_card_with_its_checksum(tmp_path: Path) -> None:
    path = write_published(tmp_path, SMALL)[0].rename(tmp_path / "own.pth")
    (card,) = cards_in_use(network(SMALL, weights=str(path)))
    assert (card.name, card.model) == ("own.pth", SMALL) and card.licence.startswith("not known")
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert cards_in_use(network(SMALL)) == []


def test_another_shape_fails(tmp_path: Path) -> None:
    path, values = write_published(tmp_path, SMALL)
    torch.save(values | {"features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(BundleError, match=r"other shapes: features.0.weight \(64, 1, 3, 3\) for \(64, 3, 3, 3\)"):
        network(SMALL, weights=str(path))


def test_files_from_before_batches_were_counted_load(tmp_path: Path) -> None:
    path, values = write_published(tmp_path, "resnet18")
    torch.save({key: value for key, value in values.items() if not key.endswith("num_batches_tracked")}, path)
    made = network("resnet18", weights=str(path)).eval()
    assert made.backbone.state_dict()["bn1.num_batches_tracked"].device.type == "cpu"
    assert made(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


@pytest.mark.usefixtures("never_unpacked")
def test_a_wrong_hash_fails_before_the_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "squeezenet1_1-b8a52dc0.pth"
    path.write_bytes(b"something else")
    with pytest.raises(BundleError, match="should begin with b8a52dc0"):
        network(SMALL, weights=str(path))


def test_a_right_hash_in_the_name_is_let_pass(tmp_path: Path) -> None:
    path, _ = write_published(tmp_path, SMALL)
    named = path.rename(tmp_path / f"mine-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    assert network(SMALL, weights=str(named)).forward(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


class _Evil:
    """Leaves a file behind where it is unpacked by code of its own."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return (Path.touch, (self.trace,))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path, values = write_published(tmp_path, SMALL)
    torch.save(values | {"features.0.bias": _Evil(tmp_path / "trace")}, path)
    with pytest.raises(BundleError, match="a state_dict that"):
        network(SMALL, weights=str(path))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", ["rubbish", "list"])
def test_files_that_are_no_weights_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    if content == "rubbish":
        path.write_bytes(b"rubbish")
    else:
        torch.save([torch.zeros(1)], path)
    with pytest.raises(BundleError, match="a state_dict that"):
        network(SMALL, weights=str(path))


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no weights file .*https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"):
        network("vgg19", weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(BundleError, match="They exist for resnext101-32x8d"):
        network("vgg19", weights="weakly-supervised")


def test_offline_the_error_says_how_to_get_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", offline)
    with pytest.raises(BundleError, match=r"no network.*Fetch https://.*--set model.options.weights=FILE"):
        network("resnet18", weights="imagenet")
    assert not list(cache.rglob("*.pth"))


class _Response:
    """An HTTP response that gives one file."""

    status = 200

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __enter__(self) -> _Response:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def getheader(self, name: str) -> None:
        return None

    def read1(self, amount: int) -> bytes:
        given, self.content = self.content[:amount], self.content[amount:]
        return given


def test_a_download_is_kept_only_with_the_published_hash(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_published(tmp_path, SMALL)[0].read_bytes()
    asked: list[str] = []

    def serve(_: object, request: urllib.request.Request, timeout: float) -> _Response:
        asked.append(request.full_url)
        return _Response(content)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", serve)
    with pytest.raises(BundleError, match="another SHA-256 than published"):
        network(SMALL, weights="imagenet")
    assert not list(cache.rglob("*.pth*"))
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(published.IMAGENET, SMALL, _card(SMALL, name, "ours"))
    network(SMALL, weights="imagenet")
    network(SMALL, weights="imagenet")
    assert asked == [ADDRESS + "squeezenet1_1-b8a52dc0.pth", ADDRESS + name]
    assert (cache / "weights" / name).is_file()


def test_every_model_has_a_card_with_a_hash() -> None:
    assert list(published.IMAGENET) == MODELS
    cards = [*published.IMAGENET.values(), *published.WEAKLY_SUPERVISED.values()]
    assert all(len(card.sha256) == 8 and card.licence and card.citation and card.origin for card in cards)
    assert "NC" in published.WEAKLY_SUPERVISED["resnext101-32x8d"].licence


def test_restoring_a_run_looks_for_no_weights(cache: Path) -> None:
    made = create_to_restore(SMALL, (3, 32, 32), 4, {"weights": "imagenet", "frozen": "body"})
    assert made(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    assert not cache.exists()


@pytest.mark.parametrize("name", ["vgg13", "resnet18", SMALL])
def test_one_channel_is_the_same_as_three_equal_ones(name: str) -> None:
    options: dict[str, Any] = {"hidden": (8,)} if name.startswith("vgg") else {}
    torch.manual_seed(1)
    one = network(name, (32, 40), **options).eval()
    torch.manual_seed(1)
    three = network(name, (32, 40), input_channels=3, **options).eval()
    three.load_state_dict({k: v for k, v in one.state_dict().items() if one.backbone.first not in k}, strict=False)
    with torch.no_grad():
        first = {key: value for key, value in three.state_dict().items() if f"{one.backbone.first}.weight" in key}
        folded = one.state_dict()[next(iter(first))]
        torch.testing.assert_close(next(iter(first.values())).sum(dim=1, keepdim=True), folded)
        x = torch.randn(2, 32, 40)
        torch.testing.assert_close(one(x), three(x), atol=1e-4, rtol=1e-3)


@given(height=st.integers(1, 9), width=st.integers(1, 9), size=st.sampled_from([1, 3, 7]), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_average_pool_is_pytorchs_own(height: int, width: int, size: int, seed: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(AveragePool(size)(x), nn.AdaptiveAvgPool2d(size)(x), atol=1e-5, rtol=1e-4)


def test_pictures_are_scaled_as_imagenet_was() -> None:
    front = network(SMALL, (3, 32, 32), imagenet_scale=True).body.get_submodule("front")
    pixels = torch.rand(2, 3, 32, 32)
    expected = (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    torch.testing.assert_close(front(pixels * 2 - 1), expected, atol=1e-5, rtol=1e-4)


def test_arrays_are_resized_so_that_every_value_counts() -> None:
    front = network(SMALL, (24, 400), size=40).body.get_submodule("front")
    x = torch.zeros(1, 24, 400)
    x[0, 11, 123] = 1.0
    assert front(x).shape == (1, 1, 40, 40) and float(front(x).sum()) > 0
    torch.testing.assert_close(front(torch.ones(1, 24, 400)), torch.ones(1, 1, 40, 40))


def test_own_heads_of_e6() -> None:
    vgg = on_meta("vgg19", hidden=(4096, 512, 256), average_pool=False, frozen="body")
    head = [layer for layer in vgg.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in head] == [
        (25088, 4096), (4096, 512), (512, 256), (256, 10)
    ]  # fmt: skip
    assert [layer.p for layer in vgg.modules() if isinstance(layer, nn.Dropout)] == [0.5] * 3
    assert not isinstance(vgg.backbone.get_submodule("avgpool"), AveragePool)
    resnext = on_meta("resnext101-32x8d", (3, 256, 256), frozen="body")
    learnt = {name: tuple(each.shape) for name, each in resnext.named_parameters() if each.requires_grad}
    assert learnt == {"head.weight": (10, 2048), "head.bias": (10,)}
    squeezenet = on_meta("squeezenet-1.1", (3, 256, 256), frozen="body")
    learnt = {name: tuple(each.shape) for name, each in squeezenet.named_parameters() if each.requires_grad}
    assert learnt == {"head.convolution.weight": (10, 512, 1, 1), "head.convolution.bias": (10,)}


def test_last_convolution_is_the_published_order_of_layers() -> None:
    made = network(SMALL).eval()
    x = torch.randn(2, 3, 64, 64)
    whole = nn.Sequential(made.head.get_submodule("convolution"), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        expected = whole(made.backbone.get_submodule("features")(x))
        torch.testing.assert_close(made(x), expected)


def learnt_stages(made: ImageNetNetwork) -> set[str]:
    names = [name.removeprefix("body.backbone.") for name, each in made.named_parameters() if each.requires_grad]
    return {name.partition(".")[0] for name in names}


def test_frozen_until_a_layer() -> None:
    assert learnt_stages(on_meta("resnet50", frozen="layer3")) == {"layer3", "layer4", "head"}
    assert learnt_stages(on_meta("resnet50", frozen="body")) == {"head"}
    assert learnt_stages(on_meta("resnet50")) == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "head"}
    vgg = on_meta("vgg16", frozen="features.24")
    frozen = [name for name, each in vgg.backbone.named_parameters() if not each.requires_grad]
    assert frozen[-1] == "features.21.bias"
    assert learnt_stages(on_meta("vgg16", frozen="classifier")) == {"classifier", "head"}
    with pytest.raises(UsageError, match="layer1, layer2, layer3, layer4"):
        on_meta("resnet18", frozen="layer5")


def test_frozen_batch_norms_keep_their_statistics() -> None:
    made = network("resnet18", frozen="layer4").train()
    before = {key: value.clone() for key, value in made.backbone.state_dict().items() if "running_mean" in key}
    made(torch.randn(4, 3, 32, 32) + 2.0)
    changed = {key for key, value in before.items() if not torch.equal(made.backbone.state_dict()[key], value)}
    assert changed and {key.partition(".")[0] for key in changed} == {"layer4"}


@pytest.mark.parametrize("name", ["vgg16", "resnet18", SMALL])
def test_each_stage_learns_slower_than_the_one_behind(name: str) -> None:
    made = on_meta(name, stage_rate=0.5)
    groups = made.parameter_groups(0.1)
    assert [group["lr"] for group in groups] == pytest.approx([0.1 * 0.5**n for n in range(len(groups))])
    assert len(groups) == len(made.backbone.stages) + 1
    seen = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(seen) == sorted(id(weight) for weight in made.parameters())
    assert groups[-1]["params"][0] is next(made.backbone.parameters())


def test_frozen_stages_are_no_group_and_the_optimiser_takes_the_rest() -> None:
    made = on_meta("resnet18", stage_rate=0.1, frozen="layer4")
    assert [group["lr"] for group in made.parameter_groups(1e-2)] == pytest.approx([1e-2, 1e-3])
    settings_ = load_recipe("mfcc-cnn", ["training.optimiser=sgd", "training.learning_rate=0.01"]).training
    optimiser = SingleLabelModule(
        network("resnet18", stage_rate=0.1, frozen="layer4"), settings_
    ).configure_optimizers()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1e-2, 1e-3])
    (one,) = on_meta("resnet18").parameter_groups(1e-2)
    assert len(one["params"]) == 62


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("resnet18", (2, 32, 32), {}, "1 or 3 channels"),
        ("resnet18", (3, 32, 32), {"input_channels": 1}, "1 or 3 channels"),
        ("resnet18", (32, 32), {"imagenet_scale": True}, "three channels"),
        ("resnet18", (3, 32, 32), {"stage_rate": 0.0}, "above 0 and up to 1"),
        ("resnet18", (3, 32, 32), {"dropout": 1.0}, "dropout from 0"),
        ("resnet18", (3, 32, 32), {"wieghts": "none"}, "Nearest: 'weights'"),
        ("resnet18", (32,), {}, "2 or 3 dimensions"),
        ("vgg13", (3, 8, 8), {"hidden": (8,)}, "longer segments"),
        ("vgg13", (3, 64, 64), {"average_pool": False}, "cannot take arrays"),
        (SMALL, (3, 32, 32), {"hidden": (8,)}, "hidden: null"),
        (SMALL, (3, 32, 32), {"average_pool": False}, "needs its average pool"),
    ],
)
def test_wrong_options_say_what_would_be_right(
    name: str, shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        network(name, shape, **options)


@pytest.mark.parametrize(
    ("name", "rate", "steps"),
    [("resnet18", 1e-3, 20), pytest.param("resnet50", 1e-3, 60, marks=pytest.mark.slow), (SMALL, 3e-4, 80)],
)
def test_over_fits_a_few_pictures(name: str, rate: float, steps: int) -> None:
    torch.manual_seed(0)
    made = network(name, (3, 64, 64), dropout=0.0)
    x, y = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    optimiser = torch.optim.Adam(made.parameter_groups(rate))
    for _ in range(steps):
        optimiser.zero_grad()
        logits = made(x)
        if (logits.argmax(dim=1) == y).all():
            return
        nn.functional.cross_entropy(logits, y).backward()
        optimiser.step()
    assert (made(x).argmax(dim=1) == y).all()
