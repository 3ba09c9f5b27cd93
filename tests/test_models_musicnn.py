"""The torch MusiCNN and VGG: agreement with the published networks, what is held, what learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from musicgenre.errors import BundleError, UsageError
from musicgenre.features.mel.reference import melspectrogram
from musicgenre.features.published.musicnn.published import PUBLISHED, SPEC, published
from musicgenre.features.published.musicnn.weights import Variables, read_variables, variable_shapes
from musicgenre.features.registry import create_representation
from musicgenre.models.musicnn import MusiCnnBody, Tagger, VggBody, load_published
from musicgenre.models.network import Network, count_parameters
from musicgenre.models.registry import create_model
from tests import musicnn_reference
from tests.published_weights import random_variables

BODIES: dict[str, type[Tagger]] = {"musicnn": MusiCnnBody, "vgg": VggBody}
MODELS = {"musicnn": "musicnn", "vgg": "musicnn-vgg"}
TOLERANCE = 1e-4


def sound(n_samples: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(9)
    seconds = np.arange(n_samples) / 16_000
    tone = np.sin(2 * np.pi * 330 * seconds) * np.sin(2 * np.pi * 3 * seconds)
    return (0.3 * tone + 0.03 * rng.standard_normal(n_samples)).astype(np.float32)


def assert_close(found: torch.Tensor, expected: NDArray[np.floating]) -> None:
    """Within 1e-4 of the largest value: random batch-norms without variance give embeddings far above 1."""
    np.testing.assert_allclose(found.numpy(), expected, atol=TOLERANCE * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("family", ["musicnn", "vgg"])
def test_agrees_with_the_reference(family: str) -> None:
    variables = random_variables("musicnn" if family == "musicnn" else "vgg", np.random.default_rng(1), 0.9)
    waveform = sound(2 * 187 * 256 + 5_000)
    body = BODIES[family](377).eval()
    load_published(body, variables)
    mel = torch.from_numpy(melspectrogram(waveform, SPEC)[:, :377].astype(np.float32))
    reference = getattr(musicnn_reference, family)
    expected = [reference(patch, variables.__getitem__)[1] for patch in musicnn_reference.patches(waveform)]
    with torch.no_grad():
        assert_close(body(mel[None])[0], np.mean(expected, axis=0))
        single = body.embed(mel.T[:187][None, None])[0]
    assert_close(single, expected[0])


@pytest.mark.parametrize(("name", "family"), [("musicnn", "musicnn"), ("musicnn-vgg", "vgg")])
def test_sizes_are_those_of_the_published_networks(name: str, family: str) -> None:
    made = create_model(name, (96, 188), 50)
    shapes = variable_shapes("musicnn" if family == "musicnn" else "vgg")
    learnt = sum(int(np.prod(shape)) for key, shape in shapes.items() if "moving" not in key)
    assert count_parameters(made) == learnt
    assert made.embedding_width == {"musicnn": 200, "vgg": 256}[family]


def test_variables_that_do_not_fit_are_refused() -> None:
    variables = random_variables("vgg", np.random.default_rng(1))
    load_published(VggBody(187), variables)
    wrong = {**variables, "3CNN/bias": np.zeros(64, np.float32)}
    with pytest.raises(RuntimeError, match=r"size mismatch for blocks\.2\.convolution\.bias"):
        load_published(VggBody(187), wrong)
    with pytest.raises(RuntimeError, match="Missing key"):
        body = VggBody(187)
        body.published_layers = body.published_layers()[:-1].copy  # type: ignore[method-assign]
        load_published(body, variables)


@pytest.mark.parametrize(
    ("shape", "classes", "options", "said"),
    [
        ((128, 188), 4, {}, "preset: musicnn"),
        ((96, 100), 4, {}, "187 or more"),
        ((96, 188), 4, {"weights": "imagenet"}, "weights none, msd or mtt"),
        ((96, 188), 4, {"weights": "msd", "width": 0.5}, "1 with published weights"),
        ((96, 188), 4, {"weights": "msd", "head": "tags"}, "names 50 tags, not 4 classes"),
        ((96, 188), 50, {"head": "tags"}, "head: tags needs published weights"),
        ((96, 188), 4, {"stage_rate": 0.0}, "above 0 and up to 1"),
        ((96, 188), 4, {"frozen": "dence"}, "names no layer with weights"),
    ],
)
def test_what_cannot_be_made(shape: tuple[int, int], classes: int, options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        create_model("musicnn-vgg", shape, classes, **{"width": 1.0 if "weights" in options else 0.05, **options})


@pytest.mark.parametrize(
    ("frozen", "held"),
    [("none", ()), ("middle", ("norm", "timbral", "temporal")), ("body", ("norm", "timbral", "middle", "dense"))],
)
def test_frozen_layers_stay_with_their_statistics(frozen: str, held: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = create_model("musicnn", (96, 30), 3, width=0.05, frozen=frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_one_step(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "head.weight" in changed
    for part in held:
        assert not any(name.startswith(f"body.{part}.") for name in changed), part
    free = {"norm", "timbral", "middle", "dense"} - set(held)
    for part in free:
        assert any(name.startswith(f"body.{part}.") for name in changed), part


def train_one_step(model: Network) -> None:
    optimiser = torch.optim.SGD(model.parameter_groups(0.1))
    model.train()
    x = torch.randn(4, *model.input_shape, generator=torch.Generator().manual_seed(2))
    torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()


def test_stages_learn_more_slowly_towards_the_input() -> None:
    model = create_model("musicnn", (96, 30), 3, width=0.05, stage_rate=0.5)
    rates = [group["lr"] for group in model.parameter_groups(0.008)]
    assert rates == pytest.approx([0.008, 0.004, 0.002, 0.001])
    grouped = [weight for group in model.parameter_groups(0.1) for weight in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))


def test_fresh_networks_name_no_card() -> None:
    assert create_model("musicnn", (96, 30), 3, width=0.05).weight_cards == ()


@pytest.fixture(scope="session")
def variables() -> dict[str, Variables]:
    """The published weights themselves; skips where they cannot be had."""
    try:
        return read_variables([*PUBLISHED.values()])
    except BundleError as error:
        pytest.skip(f"no published MusiCNN weights: {error}")


@pytest.mark.real_data
@pytest.mark.default_model
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tags_agree_on_a_real_track(name: str, shared_data: Path, variables: dict[str, Variables]) -> None:
    """The network with its own tag head, the float64 reference, and the representation: all within 1e-4."""
    from musicgenre.audio import load

    family = published(name).family
    waveform = load(shared_data / "gtzan-mini/genres/metal/metal.00001.wav", 16_000).waveform[: 6 * 16_000]
    mel = create_representation("melspectrogram", preset="musicnn", segment_s=6.0).compute(waveform)
    patches = torch.from_numpy(np.stack([mel[:, :187], mel[:, 187:374]]))
    options = {"weights": name.partition("-")[0], "head": "tags"}
    model = create_model(MODELS[family], (96, 187), 50, **options).eval()
    assert model.weight_cards == (name,)
    read = variables[name].__getitem__
    truth = [getattr(musicnn_reference, family)(patch, read) for patch in musicnn_reference.patches(waveform)]
    with torch.no_grad():
        embeddings = model.forward_features(patches)
        tags = torch.sigmoid(model.forward_head(embeddings)).numpy()
    np.testing.assert_allclose(tags, [tags_of for tags_of, _ in truth], atol=TOLERANCE)
    np.testing.assert_allclose(embeddings.numpy(), [embedding for _, embedding in truth], rtol=1e-3, atol=1e-3)
    heard = create_representation("musicnn", model=name).compute(waveform)
    np.testing.assert_allclose(embeddings.mean(dim=0).numpy(), heard, rtol=1e-3, atol=1e-3)
