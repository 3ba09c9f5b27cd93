"""VGGish as a network, and the tagging networks: published counts and files, pooling, freezing, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from musicgenre.errors import BundleError, UsageError
from musicgenre.exporting.network_graph import write_graph
from musicgenre.features.published.vggish import network as _vggish
from musicgenre.features.representations.vggish import Vggish, samples_of
from musicgenre.models.network import count_parameters
from musicgenre.models.registry import create_model, create_to_restore
from musicgenre.models.tagger import POOLINGS, MomentNorm, TaggingNetwork, limit_for
from musicgenre.training.module import MultiLabelModule
from musicgenre.training.recipes import load_recipe
from tests.narrow import narrow_vggish
from tests.published_vggish import SHAPES, write_network

AUTO = [pooling for pooling in POOLINGS if pooling != "average"]
TINY = (2, 32, 16)


def tagger(shape: tuple[int, ...] = TINY, tags: int = 4, **options: Any) -> TaggingNetwork:
    made = create_model("vggish-tagger", shape, tags, **{"width": 16, **options})
    assert isinstance(made, TaggingNetwork)
    return made.eval()


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        network = _vggish.VGGish()
        convolutions = _vggish.convolutions()
    widths = [(1, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    by_hand = sum(9 * before * after + after for before, after in widths)
    assert count_parameters(convolutions) == by_hand == 4_499_712
    linear = (12_288 * 4_096 + 4_096) + (4_096 * 4_096 + 4_096) + (4_096 * 128 + 128)
    assert count_parameters(network) == by_hand + linear == 72_141_184
    assert [type(layer) for layer in convolutions].count(nn.MaxPool2d) == 4
    assert {
        name.rpartition(".")[0]: tuple(value.shape) for name, value in network.state_dict().items() if "w" in name
    } == SHAPES


@pytest.mark.parametrize("name", ["vggish", "vggish-tagger"])
def test_a_file_with_the_published_names_loads_strictly(name: str, tmp_path: Path) -> None:
    values = write_network(tmp_path / "mine.pth")
    made = create_model(name, (1, 96, 64), 4, weights=str(tmp_path / "mine.pth"))
    found = {key: value for key, value in made.state_dict().items() if "layers" in key}
    kept = [key for key in values if name == "vggish" or key.startswith("features")]
    prefix = "body.examples.layers." if name == "vggish" else "body.moments.examples.layers."
    for key in kept:
        value = found[prefix + (key if name == "vggish" else key.removeprefix("features."))]
        assert value.shape == values[key].shape and float(value.flatten()[0]) == float(values[key].flatten()[0])
    assert len(found) == len(kept)


@pytest.mark.parametrize("name", ["vggish", "vggish-tagger"])
def test_one_renamed_key_fails(name: str, tmp_path: Path) -> None:
    values = write_network(tmp_path / "mine.pth")
    renamed = {key.replace("features.3.bias", "features.3.offset"): value for key, value in values.items()}
    torch.save(renamed, tmp_path / "mine.pth")
    with pytest.raises(BundleError, match=r"missing: features.3.bias; unknown: features.3.offset.*torchvggish"):
        create_model(name, (1, 96, 64), 4, weights=str(tmp_path / "mine.pth"))


def test_a_wrong_hash_fails_before_the_file_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read before its hash was checked")

    monkeypatch.setattr(torch, "load", refuse)
    path = tmp_path / "vggish-10086976.pth"
    path.write_bytes(b"something else")
    with pytest.raises(BundleError, match="should begin with 10086976"):
        create_model("vggish-tagger", (1, 96, 64), 4, weights=str(path))


def test_weights_fit_the_published_size_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="96 frames and 64 bands"):
        create_model("vggish", (1, 32, 64), 4, weights="published")
    write_network(tmp_path / "mine.pth")
    assert tagger((64, 40), weights=str(tmp_path / "mine.pth"))(torch.zeros(1, 64, 40)).shape == (1, 4)
    restored = create_to_restore("vggish-tagger", TINY, 4, {"weights": "published", "width": 16})
    assert restored(torch.zeros(2, *TINY)).shape == (2, 4)


def test_a_spectrogram_is_one_example_turned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    upright, turned = (create_model("vggish", shape, 3, hidden=(8, 8)).eval() for shape in ((1, 32, 16), (16, 32)))
    turned.load_state_dict(upright.state_dict())
    x = torch.randn(2, 32, 16)
    torch.testing.assert_close(upright(x[:, None]), turned(x.transpose(1, 2)))


def test_the_embedding_of_several_examples_is_their_mean() -> None:
    torch.manual_seed(0)
    several, single = (create_model("vggish", (n, 32, 16), 3, hidden=(8, 8)).eval() for n in (3, 1))
    several.load_state_dict(single.state_dict())
    x = torch.randn(2, 3, 32, 16)
    apart = torch.stack([single.forward_features(x[:, n : n + 1]) for n in range(3)])
    torch.testing.assert_close(several.forward_features(x), apart.mean(dim=0))


def test_average_pooling_is_the_mean_of_the_map() -> None:
    torch.manual_seed(0)
    made, x = tagger(), torch.randn(3, *TINY)
    convolutions = made.body.get_submodule("moments.examples.layers")
    maps = torch.stack([convolutions(x[:, n : n + 1]) for n in range(2)])  # (2, batch, 512, 2, 1)
    expected = made.head(made.body.get_submodule("blocks")(maps.mean(dim=(0, 3, 4))))
    torch.testing.assert_close(made(x), expected)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_blocks_are_norm_dropout_and_linear(blocks: int) -> None:
    made = tagger(blocks=blocks, tags=188, width=32)
    layers = [type(layer) for layer in made.body.get_submodule("blocks").children()]
    assert layers == [MomentNorm, nn.Dropout, nn.Linear, nn.ReLU] * (blocks - 1) + [MomentNorm, nn.Dropout]
    assert isinstance(made.head, nn.Linear) and made.head.out_features == 188
    width = 32 if blocks > 1 else 512
    dense = sum(2 * a + a * b + b for a, b in [(512, 32), (32, 32)][: blocks - 1]) + 2 * width + width * 188 + 188
    assert count_parameters(made) == 4_499_712 + dense


@pytest.mark.parametrize("pooling", AUTO)
def test_auto_pool_keeps_the_contract(pooling: str) -> None:
    torch.manual_seed(0)
    made, x = tagger(pooling=pooling), torch.randn(3, *TINY)
    features = made.forward_features(x)
    assert features.shape == (3, made.embedding_width) == (3, 4 * 16)
    torch.testing.assert_close(made.forward_head(features), made(x))
    by_moment = made.head.get_submodule("linear")(features.reshape(3, 4, 16)).sigmoid()
    torch.testing.assert_close(made(x).sigmoid(), by_moment.mean(dim=1))  # alpha is 0 at first
    made.reset_head(7)
    assert made(x).shape == (3, 7)
    torch.testing.assert_close(made.forward_features(x), features)
    assert made.state_dict()["head.pool.alpha"].shape == (7,)


def test_only_regularised_auto_pool_has_a_penalty() -> None:
    assert create_model("cnn2d", (16, 32), 4).penalty() is None
    assert tagger().penalty() is None
    made = tagger(pooling="auto-regularised", alpha_weight=0.5)
    with torch.no_grad():
        made.head.get_submodule("pool").get_parameter("alpha").fill_(2.0)
    penalty = made.penalty()
    assert penalty is not None and float(penalty.detach()) == pytest.approx(0.5 * 4 * 4.0)


def test_training_adds_the_penalty_to_the_loss() -> None:
    made = tagger(pooling="auto-regularised", alpha_weight=0.5, dropout=0.0)
    with torch.no_grad():
        made.head.get_submodule("pool").get_parameter("alpha").fill_(2.0)
    module = MultiLabelModule(made, load_recipe("vggish-tagger-autopool").training)
    batch = (torch.randn(4, *TINY), torch.randint(0, 2, (4, 4)).float())
    plain = module.loss(module(batch[0]), batch[1])
    torch.testing.assert_close(module.training_step(batch, 0) - plain, torch.tensor(8.0))


def test_the_constrained_limit_comes_from_the_number_of_moments() -> None:
    pool = tagger((30, 32, 16), pooling="auto-constrained").head.get_submodule("pool")
    assert pool.limit == limit_for(60)
    assert tagger(pooling="auto-constrained", alpha_limit=1.5).head.get_submodule("pool").limit == 1.5


@pytest.mark.parametrize("body", ["mel-cnn", "cnn1d", "cnn1d-baseline", "cnn2d", "mfcc-cnn"])
@pytest.mark.parametrize("pooling", ["average", "auto-plain"])
def test_any_convolutional_body_can_be_tagged_over_time(body: str, pooling: str) -> None:
    shape, time = ((200, 40), 1) if body == "mfcc-cnn" else ((16, 300), 2)  # mfcc-cnn reads (frames, coefficients)
    made = create_model("tagger", shape, 5, body=body, pooling=pooling, width=8).train()
    x = torch.randn(4, *shape)
    made(x).sum().backward()
    assert all(weight.grad is not None for weight in made.parameters())
    moments = made.body.get_submodule("moments").eval()
    before, behind = x.chunk(2, dim=time)
    first, second = moments(x), moments(torch.cat([before, 3.0 * behind], dim=time))
    torch.testing.assert_close(first[:, 0], second[:, 0])
    assert not torch.allclose(first[:, -1], second[:, -1]), "time runs along the axis that is pooled"


@pytest.mark.parametrize("body", ["lstm", "table-mlp", "tagger", "resnet18"])
def test_bodies_without_a_map_are_refused(body: str) -> None:
    with pytest.raises(UsageError, match=r"map over time|dimensions"):
        create_model("tagger", (40, 90), 3, body=body)


def test_frozen_parts_do_not_learn() -> None:
    held = tagger(frozen="convolutions")
    frozen = {name for name, weight in held.named_parameters() if not weight.requires_grad}
    assert len(frozen) == 12 and all(name.startswith("body.moments.") for name in frozen)
    made = create_model("vggish", (1, 32, 16), 3, hidden=(8, 8), frozen="body")
    assert [name for name, each in made.named_parameters() if each.requires_grad] == ["head.weight", "head.bias"]
    with pytest.raises(UsageError, match="none, convolutions"):
        tagger(frozen="body")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "average, auto-plain"),
        ({"blocks": 0}, "1 or more"),
        ({"dropout": 1.0}, "dropout from 0"),
        ({"weigths": "none"}, "Nearest: 'weights'"),
    ],
)
def test_wrong_options_say_what_would_be_right(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tagger(**options)


def test_examples_that_are_too_small_are_refused() -> None:
    for shape in ((1, 8, 16), (1, 16, 8)):
        with pytest.raises(UsageError, match=r"longer segments"):
            tagger(shape)


@pytest.mark.parametrize("pooling", ["average", pytest.param("auto-plain", marks=pytest.mark.slow)])
def test_over_fits_a_few_examples(pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_vggish(monkeypatch)
    torch.manual_seed(0)
    made = tagger((1, 32, 16), dropout=0.0, pooling=pooling).train()
    x, y = torch.randn(8, 1, 32, 16), torch.arange(8) % 4
    targets = nn.functional.one_hot(y, 4).float()
    optimiser = torch.optim.Adam(made.parameter_groups(3e-4))
    for step in range(1, 41):
        made.train()
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(made(x), targets).backward()
        optimiser.step()
        if step % 5 == 0 and (made.eval()(x).argmax(dim=1) == y).all():
            return
    assert (made.eval()(x).argmax(dim=1) == y).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_graph_hears_sound_as_the_network_does(pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_vggish(monkeypatch)
    torch.manual_seed(0)
    representation = Vggish(output="examples", n_examples=2)
    made = tagger(representation.shape(), tags=6, pooling=pooling)
    rows = (np.random.default_rng(0).standard_normal((3, samples_of(2))) * 0.1).astype(np.float32)
    session = onnxruntime.InferenceSession(write_graph(made, representation), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"waveform": rows})
    with torch.no_grad():
        expected = made(torch.from_numpy(np.stack([representation.compute(row) for row in rows])))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-3, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_auto_pool_in_a_graph_is_safe_at_both_ends(tmp_path: Path) -> None:
    from musicgenre.models.tagger import AutoPool

    pool = AutoPool(2).eval()
    with torch.no_grad():
        pool.alpha.copy_(torch.tensor([3.0, -3.0]))
    logits = torch.tensor([[[-150.0, 150.0], [-140.0, -150.0], [-150.0, 2.0]]])
    torch.onnx.export(pool, (logits,), tmp_path / "pool.onnx", dynamo=False, input_names=["x"], output_names=["y"])
    session = onnxruntime.InferenceSession(tmp_path / "pool.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": logits.numpy()})
    np.testing.assert_allclose(got, pool(logits).detach().numpy(), rtol=1e-4)
    assert np.isfinite(got).all()
