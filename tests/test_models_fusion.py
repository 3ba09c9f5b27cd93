"""The two-branch network takes any spectrogram network and any embedding, and keeps the models' contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from musicgenre.errors import UsageError
from musicgenre.models.fusion import FusionNetwork
from musicgenre.models.network import count_parameters
from musicgenre.models.registry import create_model, create_to_restore, list_models, model_entry
from tests.published_imagenet import write_published

BANDS, FRAMES = 32, 80
NETS = [name for name in list_models() if 2 in model_entry(name).dims]


def fused(
    net: str, n_embedding: int = 20, *, shape: tuple[int, int] = (BANDS, FRAMES), **options: Any
) -> FusionNetwork:
    made = create_model(
        "spec-and-embed",
        (shape[0] * shape[1] + n_embedding,),
        3,
        net=net,
        net_options=options.pop("net_options", model_entry(net).tiny_options),
        bands=shape[0],
        n_embedding=n_embedding,
        **options,
    )
    assert isinstance(made, FusionNetwork)
    return made


LARGE = [n for n in NETS if model_entry(n).family in ("vgg", "resnet", "squeezenet")]
SLOW = set(LARGE) - {"resnet18", "squeezenet-1.1"}


@pytest.mark.parametrize("net", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NETS])
def test_any_spectrogram_network(net: str) -> None:
    torch.manual_seed(0)
    tiny = model_entry(net).tiny_shape
    bands, frames = tiny if len(tiny) == 2 else (BANDS, FRAMES)
    model = fused(net, shape=(bands, frames)).eval()
    alone = model.branches.spectrogram
    x = torch.randn(2, bands * frames + 20)
    with torch.no_grad():
        features = model.forward_features(x)
        seen = alone.forward_features(x[:, : bands * frames].reshape(2, bands, frames))
        assert features.shape == (2, alone.embedding_width + 32) and model.embedding_width == features.shape[1]
        torch.testing.assert_close(features[:, : alone.embedding_width], seen)
        assert model(x).shape == (2, 3)
    model.reset_head(5)
    assert model(x).shape == (2, 5)


@pytest.mark.parametrize("n_embedding", [1, 50, 200, 257])
def test_any_embedding(n_embedding: int) -> None:
    model = fused("cnn1d", n_embedding).eval()
    x = torch.randn(2, BANDS * FRAMES + n_embedding)
    changed = x.clone()
    changed[:, -1] += 3.0
    with torch.no_grad():
        one, other = model.forward_features(x), model.forward_features(changed)
    width = model.branches.spectrogram.embedding_width
    assert torch.equal(one[:, :width], other[:, :width]) and not torch.equal(one[:, width:], other[:, width:])


def test_no_batch_norm_in_the_embedding_branch_and_no_unused_layer() -> None:
    model = fused("cnn2d")
    kinds = [type(layer).__name__ for layer in model.branches.embedding]
    assert kinds == ["Linear", "ReLU", "Linear", "ReLU"]
    alone = create_model("cnn2d", (BANDS, FRAMES), 3)
    head_alone = count_parameters(alone.head)
    mlp = (20 * 32 + 32) + (32 * 32 + 32)
    assert count_parameters(model) == count_parameters(alone) - head_alone + mlp + ((256 + 32) * 3 + 3)


def test_every_weight_is_in_one_group() -> None:
    staged = fused("resnet18", net_options={"stage_rate": 0.5})
    for model in (fused("cnn1d"), staged):
        groups = model.parameter_groups(0.1)
        listed = [id(weight) for group in groups for weight in group["params"]]
        assert sorted(listed) == sorted(id(weight) for weight in model.parameters())
    rates = {round(group["lr"], 6) for group in staged.parameter_groups(0.1)}
    assert max(rates) == 0.1 and len(rates) > 3, "the stages of the spectrogram network keep their rates"


def test_a_frozen_body_stays_frozen_beside_an_embedding_that_learns() -> None:
    model = fused("resnet18", net_options={"frozen": "body"}).train()
    learnt = [weight for group in model.parameter_groups(0.1) for weight in group["params"]]
    assert len(learnt) == 6, "two linear layers and the last one"
    assert not any(layer.training for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d))


def test_published_weights_go_to_the_spectrogram_network(tmp_path: Any) -> None:
    path, _ = write_published(tmp_path, "resnet18")
    model = fused("resnet18", weights=str(path), net_options={"input_channels": 3})
    alone = create_model("resnet18", (BANDS, FRAMES), 3, weights=str(path), input_channels=3)
    mine = dict(model.branches.spectrogram.body.named_parameters())
    assert all(torch.equal(weight, mine[name]) for name, weight in alone.body.named_parameters())
    restored = create_to_restore(
        "spec-and-embed",
        model.input_shape,
        3,
        {"net": "resnet18", "weights": "imagenet", "bands": BANDS, "n_embedding": 20},
    )
    assert restored.state_dict().keys() == model.state_dict().keys(), "nothing is looked for when a run is restored"


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(UsageError, match="not 32 bands of a spectrogram and an embedding of 21"):
        create_model("spec-and-embed", (BANDS * FRAMES + 20,), 3, bands=BANDS, n_embedding=21)
    with pytest.raises(UsageError, match="not 32 bands"):
        create_model("spec-and-embed", (20,), 3, bands=BANDS, n_embedding=20)
    with pytest.raises(UsageError, match="Nearest: 'cnn2d'"):
        fused("cnn2")
    with pytest.raises(UsageError, match="Nearest: 'channels'"):
        fused("cnn2d", net_options={"chanels": [8]})
    with pytest.raises(UsageError, match="cannot take arrays"):
        fused("table-mlp")
    with pytest.raises(UsageError, match="knows no published ones"):
        fused("cnn2d", weights="imagenet")
    with pytest.raises(UsageError, match=r"Give them as model\.options\.weights"):
        fused("resnet18", net_options={"weights": "none"})
    with pytest.raises(UsageError, match="hidden=\\[\\]"):
        fused("cnn2d", hidden=[])
