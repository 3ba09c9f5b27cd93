"""The fine-tuned network: what is held, how fast each stage learns, restored without its model, exported to ONNX."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch

from musicgenre import Classifier
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.load import load_bundle
from musicgenre.errors import BundleError, MissingExtraError, UsageError
from musicgenre.exporting.export import export_run
from musicgenre.exporting.network_graph import write_graph
from musicgenre.features.registry import create_representation
from musicgenre.models.registry import create_model, create_to_restore
from musicgenre.models.transformer import LayerMixture, TransformerNetwork
from musicgenre.training.train import train
from musicgenre.training.trained import load_trained
from tests.labelled_music import LABELS, make_collection
from tests.tiny_transformers import FAMILIES, LAYERS, RATES_HZ, make_model

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

SEGMENT_S = 1.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny model of every family."""
    folder = tmp_path_factory.mktemp("models")
    return {family: make_model(folder, family) for family in FAMILIES}


def network(folder: Path, rate_hz: int = 16_000, **options: Any) -> TransformerNetwork:
    shape = (round(SEGMENT_S * rate_hz),)
    return cast("TransformerNetwork", create_model("transformer", shape, 3, model=str(folder), **options))


def noise(rate_hz: int, rows: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return 0.1 * torch.randn(rows, round(SEGMENT_S * rate_hz), generator=generator)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exported_and_agrees(family: str, models: dict[str, Path]) -> None:
    rate_hz = RATES_HZ[family]
    layers = "last" if family == "clap" else "weighted"
    made = network(models[family], rate_hz, layers=layers, hidden=[8]).eval()
    assert made.sample_rate_hz == rate_hz
    representation = create_representation("waveform", sample_rate_hz=rate_hz, segment_s=SEGMENT_S)
    session = onnxruntime.InferenceSession(write_graph(made, representation))
    for rows in (1, 3):
        x = noise(rate_hz, rows)
        with torch.inference_mode():
            expected = made(x).numpy()
        given = session.run(None, {"waveform": x.numpy()})[0]
        np.testing.assert_allclose(given, expected, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_hold_every_weight_once(family: str, models: dict[str, Path]) -> None:
    made = network(models[family], RATES_HZ[family], stage_rate=0.5)
    learnt = [weight for weight in made.parameters() if weight.requires_grad]
    grouped = [weight for group in made.parameter_groups(1.0) for weight in group["params"]]
    assert sorted(map(id, learnt)) == sorted(map(id, grouped))
    rates = [group["lr"] for group in made.parameter_groups(1.0)]
    n_front = 1 if family in ("ast", "clap") else 2
    assert rates == [0.5**depth for depth in range(1 + LAYERS + n_front)]


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "ast", "clap"])
@pytest.mark.parametrize("frozen", ["features", "body", 1])
def test_what_is_held_does_not_move(family: str, frozen: str | int, models: dict[str, Path]) -> None:
    made = network(models[family], RATES_HZ[family], frozen=frozen, hidden=[8])
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    optimiser = torch.optim.SGD(made.parameter_groups(0.5), lr=0.5)
    made.train()
    for _ in range(2):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(made(noise(RATES_HZ[family])), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()
    moved = {name for name, tensor in made.state_dict().items() if not torch.equal(tensor, before[name])}
    layers = {"ast": "layers.", "clap": "audio_encoder.layers."}.get(family, "encoder.layers.")
    assert any(f"{layers}1." in name for name in moved) == (frozen != "body")
    assert any(f"{layers}0." in name for name in moved) == (frozen == "features")
    first = {"ast": "embeddings", "clap": "patch_embed"}.get(family, "feature_extractor")
    assert not any(first in name for name in moved)
    assert any("head" in name for name in moved) and any("hidden" in name for name in moved)


def test_a_held_body_hears_the_same_in_training(models: dict[str, Path]) -> None:
    made = network(models["wav2vec2"], frozen="body")
    x = noise(16_000)
    evaluated = made.eval()(x)
    torch.testing.assert_close(made.train()(x), evaluated)
    free = network(models["wav2vec2"])
    assert not torch.allclose(free.train()(x), free.eval()(x))


def test_training_draws_from_torch_alone(models: dict[str, Path]) -> None:
    made = network(models["wav2vec2"]).train()
    given = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002 - the generator that the library's own masking draws from
        torch.manual_seed(0)
        given.append(made(noise(16_000)))
    torch.testing.assert_close(*given)


def test_layer_mixture_begins_with_equal_weights() -> None:
    x = torch.randn(2, 4, 5)
    torch.testing.assert_close(LayerMixture(4)(x), x.mean(dim=1))


def test_restored_without_the_model(models: dict[str, Path], tmp_path: Path) -> None:
    for family in FAMILIES:
        folder = Path(shutil.copytree(models[family], tmp_path / family))
        rate_hz = RATES_HZ[family]
        made = network(folder, rate_hz, hidden=[8])
        options = json.loads(json.dumps({"model": str(folder), "hidden": [8], **made.options_to_restore()}))
        shutil.rmtree(folder)
        again = create_to_restore("transformer", made.input_shape, 3, options)
        again.load_state_dict(made.state_dict(), strict=True)
        torch.testing.assert_close(again.eval()(noise(rate_hz)), made.eval()(noise(rate_hz)))


@pytest.mark.parametrize(
    "options",
    [
        {"frozen": "layer3"},
        {"frozen": 3},
        {"frozen": True},
        {"weights": "imagenet"},
        {"stage_rate": 0.0},
        {"dropout": 1.0},
        {"layers": "all"},
        {"pool": "none"},
        {"layers": 7},
        {"config": {"model_type": "hubert"}},
    ],
)
def test_impossible_options_are_said(options: dict[str, Any], models: dict[str, Path]) -> None:
    with pytest.raises(UsageError):
        network(models["distilhubert"], **options)


def test_a_network_without_a_model_is_refused() -> None:
    with pytest.raises(UsageError, match="model: NAME or FOLDER"):
        create_model("transformer", (16_000,), 3)


SMALL_TRAINING = [
    "training.epochs=1",
    "training.batch_size=4",
    "training.patience=null",
    "data.exclude=[]",
    "protocol.options={test_size: 0.34, validation_size: 0.17}",
    "representation.options.segment_s=1.0",
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of eighteen tracks of one second."""
    return make_collection(tmp_path_factory.mktemp("music"), duration_s=1.0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder."""
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_another_rate_is_an_error(collection: Path, cache: Path, tmp_path: Path, models: dict[str, Path]) -> None:
    wrong = [*SMALL_TRAINING, f"model.options.model={models['mert']}"]
    with pytest.raises(UsageError, match="hears sound at 24000 Hz, and the representation gives 16000 Hz"):
        train("distilhubert-finetune", collection, output=tmp_path / "run", overrides=wrong)


def test_a_run_lives_on_without_its_model(
    collection: Path, cache: Path, tmp_path: Path, models: dict[str, Path]
) -> None:
    folder = Path(shutil.copytree(models["distilhubert"], tmp_path / "mine"))
    run = train(
        "distilhubert-finetune",
        collection,
        output=tmp_path / "run",
        overrides=[*SMALL_TRAINING, f"model.options.model={folder}", "model.options.frozen=features"],
    )
    shutil.rmtree(folder)
    assert load_trained(run).labels == LABELS
    exported = export_run(run)
    assert exported.largest_difference <= 1e-3 and exported.card.extra == ""
    answer = Classifier(str(exported.path), threads=1).classify(collection.parent / "jazz" / "jazz.00000.wav")
    assert set(answer.scores) == set(LABELS)


def test_a_bundle_on_embeddings_says_what_it_needs(
    collection: Path, cache: Path, tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = cache / "models" / "hubert-base-ls960"
    shutil.copytree(models["hubert"], kept)
    run = train("hubert-linear-probe", collection, output=tmp_path / "run", overrides=SMALL_TRAINING)
    exported = export_run(run)
    assert exported.card.extra == "pretrained" and "musicgenre[pretrained]" in exported.to_text()
    assert exported.card.front_end["model"] == "facebook/hubert-base-ls960"
    card = load_bundle(exported.path).card
    assert isinstance(card, BundleCard) and len(card.front_end["weights_sha256"]) == 64
    track = collection.parent / "jazz" / "jazz.00000.wav"
    before = Classifier(str(exported.path), threads=1).classify(track)
    shutil.copy(make_model(tmp_path, "hubert", seed=9) / "model.safetensors", kept)
    with pytest.raises(BundleError, match="not those that were used before"):
        Classifier(str(exported.path), threads=1)
    shutil.copy(models["hubert"] / "model.safetensors", kept)
    assert Classifier(str(exported.path), threads=1).classify(track).scores == before.scores
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "transformers" else object())
    with pytest.raises(MissingExtraError, match="pretrained"):
        load_bundle(exported.path)
