"""Hearing networks give what the transformers library gives, and no number of their weights may be missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from musicgenre.errors import BundleError, UsageError
from musicgenre.features.published.transformers.hearing import Wanted
from musicgenre.features.published.transformers.hub import find_model
from musicgenre.features.published.transformers.load import build, load
from tests.tiny_transformers import CLAP_SOUND, FAMILIES, LAYERS, WIDTH, make_model

SEGMENT_S = 2.0
FRAMES = {"ast": 19, "clap": 32, "mert": 93}
SPEECH_FRAMES = 62


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny model of every family."""
    folder = tmp_path_factory.mktemp("models")
    return {family: make_model(folder, family) for family in FAMILIES}


def sound(rate_hz: int, seconds: float = SEGMENT_S, seed: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return torch.tensor(0.3 * np.sin(2 * np.pi * 440 * time_s) + 0.1 * rng.standard_normal(len(time_s))).float()


def heard(folder: Path, rate_hz: int, **wanted: Any) -> torch.Tensor:
    hearing = load(find_model(str(folder)), Wanted(segment_s=SEGMENT_S, **wanted))
    assert hearing.sample_rate_hz == rate_hz
    with torch.inference_mode():
        given = hearing(sound(rate_hz)[None])[0]
    assert tuple(given.shape) == hearing.shape()
    return given


@pytest.mark.parametrize(
    ("family", "processor", "model"),
    [
        ("wav2vec2", transformers.Wav2Vec2FeatureExtractor, transformers.Wav2Vec2Model),
        ("hubert", transformers.Wav2Vec2FeatureExtractor, transformers.HubertModel),
        ("distilhubert", transformers.Wav2Vec2FeatureExtractor, transformers.HubertModel),
        ("wavlm", transformers.Wav2Vec2FeatureExtractor, transformers.WavLMModel),
        ("ast", transformers.ASTFeatureExtractor, transformers.ASTModel),
    ],
)
@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_as_the_library_itself(family: str, processor: Any, model: Any, models: dict[str, Path]) -> None:
    folder = models[family]
    extractor = processor.from_pretrained(folder)
    fed = extractor(sound(16_000).numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    theirs = model.from_pretrained(folder).eval()
    with torch.inference_mode():
        output = theirs(fed, output_hidden_states=True)
    last = output.last_hidden_state[0]
    summary = output.pooler_output[0] if family == "ast" else last.mean(dim=0)
    close = {"atol": 2e-3, "rtol": 2e-3} if family == "ast" else {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(heard(folder, 16_000), summary, **close)
    if family != "ast":
        torch.testing.assert_close(heard(folder, 16_000, pool="none"), last, **close)
        every = torch.stack([state[0].mean(dim=0) for state in (*output.hidden_states[:-1], last[None])])
        torch.testing.assert_close(heard(folder, 16_000, layers="all"), every, **close)
        torch.testing.assert_close(heard(folder, 16_000, layers=1), every[1], **close)


def test_clap_is_the_audio_embedding_of_the_library(models: dict[str, Path]) -> None:
    extractor = transformers.ClapFeatureExtractor.from_pretrained(models["clap"])
    rate_hz = CLAP_SOUND["sampling_rate"]
    fed = extractor(sound(rate_hz).numpy(), sampling_rate=rate_hz, return_tensors="pt").input_features.float()
    with torch.inference_mode():
        theirs = transformers.ClapModel.from_pretrained(models["clap"]).eval()
        expected = theirs.audio_projection(theirs.audio_model(fed).pooler_output)[0]
    torch.testing.assert_close(heard(models["clap"], rate_hz), expected, atol=1e-4, rtol=1e-4)


def test_mert_is_its_hubert(models: dict[str, Path]) -> None:
    config = json.loads((models["mert"] / "config.json").read_text("utf-8"))
    theirs = transformers.HubertModel(transformers.HubertConfig.from_dict({**config, "model_type": "hubert"}))
    theirs.load_state_dict(torch.load(models["mert"] / "pytorch_model.bin", weights_only=True), strict=True)
    x = sound(24_000).double()
    x = ((x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7)).float()
    with torch.inference_mode():
        expected = theirs.eval()(x[None]).last_hidden_state[0].mean(dim=0)
    torch.testing.assert_close(heard(models["mert"], 24_000), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_full_size_spectrograms_are_those_of_the_processors() -> None:
    config = transformers.ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    processor = transformers.ASTFeatureExtractor()
    hearing = build(config.to_dict(), processor.to_dict(), Wanted())
    x = sound(16_000, 10.24)
    theirs = processor(x.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    assert theirs.shape == (1, 1024, 128)
    torch.testing.assert_close(hearing.front(x[None]), theirs, atol=2e-3, rtol=0)

    clap = transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50)
    tower = transformers.ClapAudioConfig(depths=[1, 1], num_attention_heads=[1, 1], patch_embeds_hidden_size=4)
    for seconds in (10.0, 3.0):
        hearing = build(tower.to_dict(), clap.to_dict(), Wanted(segment_s=seconds))
        x = sound(48_000, seconds)
        theirs = clap(x.numpy(), sampling_rate=48_000, return_tensors="pt").input_features.float()
        assert theirs.shape == (1, 1, 1001, 64)
        torch.testing.assert_close(hearing.front(x[None]), theirs, atol=2e-2, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes(family: str, models: dict[str, Path]) -> None:
    published = find_model(str(models[family]))

    def shape(**wanted: Any) -> tuple[int, ...]:
        with torch.device("meta"):
            hearing = build(published.config, published.processor, Wanted(segment_s=SEGMENT_S, **wanted))
        return hearing.shape()

    assert shape() == (12 if family == "clap" else WIDTH,)
    assert shape(pool="mean") == (WIDTH,)
    assert shape(pool="none") == (FRAMES.get(family, SPEECH_FRAMES), WIDTH)
    if family == "clap":
        with pytest.raises(UsageError, match="differ in width"):
            shape(layers="all")
    else:
        assert shape(layers="all") == (LAYERS + 1, WIDTH)
        assert shape(layers=1) == (WIDTH,)
        with pytest.raises(UsageError, match="from 0 to 2"):
            shape(layers=3)


def test_scaling_is_the_processors_unless_named(models: dict[str, Path]) -> None:
    quiet, loud = sound(16_000)[None] * 0.1, sound(16_000)[None]

    def differs(family: str, scale: str) -> bool:
        hearing = load(find_model(str(models[family])), Wanted(segment_s=SEGMENT_S, scale=scale))
        with torch.inference_mode():
            return not torch.allclose(hearing.front(quiet), hearing.front(loud), atol=1e-3)

    assert not differs("wav2vec2", "processor")  # do_normalize: true
    assert differs("distilhubert", "processor")  # do_normalize: false
    assert differs("wav2vec2", "none")
    assert not differs("distilhubert", "peak") and not differs("distilhubert", "standard")


def test_published_names_of_ast_are_the_old_ones(models: dict[str, Path]) -> None:
    names = load_file(models["ast"] / "model.safetensors")
    assert "audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight" in names


@pytest.fixture
def spoilt(models: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Copy a model and change its tensors."""

    def make(family: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
        folder = Path(shutil.copytree(models[family], tmp_path / family))
        safe, plain = folder / "model.safetensors", folder / "pytorch_model.bin"
        tensors = load_file(safe) if safe.exists() else torch.load(plain, weights_only=True)
        change(tensors)
        if safe.exists():
            save_file(tensors, safe, metadata={"format": "pt"})
        else:
            torch.save(tensors, plain)
        return folder

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_renamed_or_misshapen_tensor_is_an_error(family: str, spoilt: Callable[..., Path]) -> None:
    def body(tensors: dict[str, torch.Tensor]) -> str:
        return next(
            name for name in tensors if name.endswith(("q_proj.weight", "query.weight")) and "text" not in name
        )

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        name = body(tensors)
        tensors[name.replace("weight", "wait")] = tensors.pop(name)

    def reshape(tensors: dict[str, torch.Tensor]) -> None:
        name = body(tensors)
        tensors[name] = tensors[name][:-1].clone()

    for change in (rename, reshape, lambda tensors: tensors.pop(body(tensors))):
        folder = spoilt(family, change)
        with pytest.raises(BundleError, match="does not fit the network"):
            load(find_model(str(folder)), Wanted(segment_s=SEGMENT_S))
        shutil.rmtree(folder)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was run')",))


@pytest.mark.parametrize("family", ["mert", "hubert"])
def test_pickles_are_not_run(family: str, models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models[family], tmp_path / "evil"))
    (folder / "model.safetensors").unlink(missing_ok=True)
    torch.save({"encoder": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(BundleError, match="does not fit"):
        load(find_model(str(folder)), Wanted(segment_s=SEGMENT_S))


def test_plain_torch_files_are_read_too(models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["wav2vec2"], tmp_path / "plain"))
    tensors = load_file(folder / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, before in old.items():
        tensors = {name.replace(new, before): tensor for name, tensor in tensors.items()}
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    torch.testing.assert_close(heard(folder, 16_000), heard(models["wav2vec2"], 16_000))


@pytest.mark.parametrize(
    ("family", "config", "processor", "message"),
    [
        ("mert", {"feature_extractor_cqt": True}, {}, "needs feature_extractor_cqt"),
        ("mert", {"deepnorm": True}, {}, "needs deepnorm"),
        ("mert", {}, {"sampling_rate": 16_000}, "says 24000 Hz, its processor 16000 Hz"),
        ("hubert", {"model_type": "bert"}, {}, "'bert' are not known"),
        ("hubert", {"hidden_size": "wide"}, {}, "makes no sense"),
        ("wav2vec2", {"hidden_size": -3}, {}, "makes no network"),
        ("wav2vec2", {}, {"sampling_rate": "x"}, "makes no network"),
        ("hubert", {}, {"feature_extractor_type": "ASTFeatureExtractor"}, "its processor is a ASTFeatureExtractor"),
        ("clap", {}, {"truncation": "fusion"}, "fuses four views"),
    ],
)
def test_what_cannot_be_read_is_said(
    family: str, config: dict[str, Any], processor: dict[str, Any], message: str, models: dict[str, Path]
) -> None:
    published = find_model(str(models[family]))
    with pytest.raises((BundleError, UsageError), match=message):
        build(published.config | config, published.processor | processor, Wanted(segment_s=SEGMENT_S))


@pytest.mark.parametrize(
    ("family", "config", "processor", "message"),
    [
        ("wav2vec2", {"num_attention_heads": 0}, {}, "hidden_size=16, num_attention_heads=0"),
        ("wav2vec2", {"num_attention_heads": 3}, {}, "hidden_size=16, num_attention_heads=3"),
        ("hubert", {"num_attention_heads": -1}, {}, "num_attention_heads=-1"),
        ("wavlm", {"num_attention_heads": 0}, {}, "num_attention_heads=0"),
        ("mert", {"num_conv_pos_embedding_groups": 0}, {}, "makes no network"),
        ("hubert", {"conv_stride": [0, 0, 0]}, {}, "makes no network"),
        ("ast", {"num_attention_heads": 0}, {}, "num_attention_heads=0"),
        ("ast", {}, {"mean": "x"}, "makes no network"),
        ("clap", {"window_size": 0}, {}, "makes no network .*modulo by zero"),
        ("clap", {"spec_size": 0}, {}, "makes no network .*by zero"),
        ("clap", {"num_attention_heads": [0, 0]}, {}, r"num_attention_heads=\[0, 0\]"),
        ("clap", {}, {"hop_length": 0}, "makes no network"),
        ("clap", {}, {"fft_window_size": 10**12}, "asks for 16 mel filters over 1000000000000 samples"),
        ("clap", {}, {"feature_size": 10**6}, "asks for 1000000 mel filters over 256 samples"),
        ("hubert", {"num_hidden_layers": 10**30}, {}, r"asks for 10{30} layers\. Valid: 1 to 1000"),
        ("hubert", {"num_hidden_layers": 0}, {}, "asks for 0 layers"),
    ],
)
def test_numbers_that_make_no_network_are_said(
    family: str, config: dict[str, Any], processor: dict[str, Any], message: str, models: dict[str, Path]
) -> None:
    """Some are met while it is made, others only where sound goes through it."""
    published = find_model(str(models[family]))
    layers = {"audio_config": published.config["audio_config"] | config} if family == "clap" else config
    with pytest.raises(BundleError, match=message) as caught, torch.device("meta"):
        build(published.config | layers, published.processor | processor, Wanted(segment_s=SEGMENT_S)).shape()
    assert "Valid: " in str(caught.value) and "Fetch the model anew" in str(caught.value)


@pytest.mark.parametrize(
    ("family", "wanted", "message"),
    [
        ("ast", {"segment_s": 4.0}, "to 3.04 s"),
        ("clap", {"segment_s": 4.0}, "up to 3 s"),
        ("hubert", {"segment_s": 0.001}, "too short"),
    ],
)
def test_segments_must_fit(family: str, wanted: dict[str, Any], message: str, models: dict[str, Path]) -> None:
    published = find_model(str(models[family]))
    with pytest.raises(UsageError, match=message):
        build(published.config, published.processor, Wanted(**wanted))


@pytest.mark.parametrize(
    "wanted", [{"pool": "max"}, {"scale": "db"}, {"segment_s": -1.0}, {"layers": "all", "pool": "none"}]
)
def test_impossible_wishes_are_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Wanted(**wanted)
