"""Tiny models with random weights, laid out on disk as the published ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    WavLMConfig,
    WavLMModel,
)
from transformers.utils import logging

WIDTH = 16
LAYERS = 2
SPEECH: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (8, 8, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.0,
}
AST: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_length": 304,
    "num_mel_bins": 32,
    "frequency_stride": 16,
    "time_stride": 16,
}
CLAP_AUDIO: dict[str, Any] = {
    "window_size": 4,
    "num_mel_bins": 16,
    "spec_size": 64,
    "depths": [1, 1],
    "num_attention_heads": [2, 2],
    "patch_embeds_hidden_size": 8,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
}
CLAP_TEXT: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 20,
}
CLAP_SOUND: dict[str, Any] = {
    "feature_size": 16,
    "sampling_rate": 8_000,
    "hop_length": 120,
    "max_length_s": 3,
    "fft_window_size": 256,
    "frequency_min": 50,
    "frequency_max": 4_000,
    "truncation": "rand_trunc",
}
MERT_RATE_HZ = 24_000
FAMILIES = ("wav2vec2", "hubert", "distilhubert", "wavlm", "mert", "ast", "clap")
RATES_HZ = dict.fromkeys(FAMILIES, 16_000) | {"mert": MERT_RATE_HZ, "clap": 8_000}


def make_model(folder: Path, family: str, seed: int = 3) -> Path:
    """Write ``config.json``, ``preprocessor_config.json`` and weights into ``folder``/``family``."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = folder / family
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "mert":
            return _mert(folder)
        model, processor = _made(family)
        _enliven(model)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def _made(family: str) -> tuple[Any, Any]:
    if family == "wav2vec2":  # as published: below its own name, with the quantiser of its pre-training
        heads = {"num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 8}
        return Wav2Vec2ForPreTraining(Wav2Vec2Config(**SPEECH, **heads)), Wav2Vec2FeatureExtractor()
    if family == "hubert":
        stable = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
        return HubertModel(HubertConfig(**SPEECH, **stable)), Wav2Vec2FeatureExtractor()
    if family == "distilhubert":
        config = HubertConfig(**SPEECH, feat_proj_layer_norm=False)
        return HubertModel(config), Wav2Vec2FeatureExtractor(do_normalize=False)
    if family == "wavlm":
        config = WavLMConfig(**SPEECH, num_buckets=8, max_bucket_distance=16)
        return WavLMModel(config), Wav2Vec2FeatureExtractor(do_normalize=False)
    if family == "ast":
        processor = ASTFeatureExtractor(max_length=AST["max_length"], num_mel_bins=AST["num_mel_bins"])
        return ASTForAudioClassification(ASTConfig(**AST)), processor
    config = ClapConfig(audio_config=CLAP_AUDIO, text_config=CLAP_TEXT, projection_dim=12)
    return ClapModel(config), ClapFeatureExtractor(**CLAP_SOUND)


def _mert(folder: Path) -> Path:
    """MERT as published: a HuBERT's tensors under their old names, a type of its own, and code we must not run."""
    folder.mkdir(parents=True)
    model = HubertModel(HubertConfig(**SPEECH))
    _enliven(model)
    own = {
        "model_type": "mert_model",
        "architectures": ["MERTModel"],
        "auto_map": {"AutoConfig": "configuration_MERT.MERTConfig", "AutoModel": "modeling_MERT.MERTModel"},
        "feature_extractor_cqt": False,
        "feature_extractor_cqt_bins": 84,
        "deepnorm": False,
        "attention_relax": -1.0,
        "sample_rate": MERT_RATE_HZ,
    }
    (folder / "config.json").write_text(json.dumps(model.config.to_dict() | own), encoding="utf-8")
    Wav2Vec2FeatureExtractor(sampling_rate=MERT_RATE_HZ).save_pretrained(folder)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = model.state_dict()
    for new, before in old.items():
        tensors = {name.replace(new, before): tensor for name, tensor in tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    for name in ("configuration_MERT", "modeling_MERT"):
        code = f"raise SystemExit('code of a model was run: {name}')\n"
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return folder


def _enliven(model: torch.nn.Module) -> None:
    """Give every number a value, so that none left out can go unnoticed."""
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.2 * torch.randn(tensor.shape))
