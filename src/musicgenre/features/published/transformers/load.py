"""Make a hearing network from a model's own description, with fresh or published weights."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers.utils import logging

from musicgenre._text import short_repr
from musicgenre._weight_files import load_plain, why_unreadable
from musicgenre.errors import BundleError
from musicgenre.features.published.transformers.hearing import (
    SENSELESS,
    AstHearing,
    ClapHearing,
    Hearing,
    SpeechHearing,
    Wanted,
    no_network,
)
from musicgenre.features.published.transformers.hub import MERT, Published

# What the readers of PyTorch, safetensors and transformers make of a file that is damaged or something else.
_UNREADABLE = (
    safetensors.SafetensorError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Part of a file, yet neither learnt nor used here: the mask of pre-training, and tables that layers compute anew.
_UNUSED = ("masked_spec_embed", "relative_position_index", "position_ids")
_MOST_LAYERS = 1_000  # the largest published has 48
_MOST_FILTER_NUMBERS = 20_000_000  # the largest published has 64 mel filters of 513 numbers
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one type are read."""

    hearing: type[Hearing]
    config: Any
    processor: Any


_SPEECH_PROCESSOR = transformers.Wav2Vec2FeatureExtractor
FAMILIES = {
    "wav2vec2": Family(SpeechHearing, transformers.Wav2Vec2Config, _SPEECH_PROCESSOR),
    "hubert": Family(SpeechHearing, transformers.HubertConfig, _SPEECH_PROCESSOR),
    "wavlm": Family(SpeechHearing, transformers.WavLMConfig, _SPEECH_PROCESSOR),
    MERT: Family(SpeechHearing, transformers.HubertConfig, _SPEECH_PROCESSOR),
    "audio-spectrogram-transformer": Family(AstHearing, transformers.ASTConfig, transformers.ASTFeatureExtractor),
    "clap": Family(ClapHearing, transformers.ClapConfig, transformers.ClapFeatureExtractor),
    "clap_audio_model": Family(ClapHearing, transformers.ClapAudioConfig, transformers.ClapFeatureExtractor),
}
"""By the `model_type` of a model's configuration."""


def build(config: Mapping[str, Any], processor: Mapping[str, Any], wanted: Wanted, *, empty: bool = False) -> Hearing:
    """Make a network with fresh weights.

    Parameters
    ----------
    config, processor : Mapping
        Contents of `config.json` and `preprocessor_config.json`.
    wanted : Wanted
        What to give.
    empty : bool
        Draw no weights: those of a file come next.

    Raises
    ------
    BundleError
        The model is of a type that is not known here, or its configuration makes no sense.
    UsageError
        It cannot give what is wanted.
    """
    family, described = _described(config)
    expected = family.processor.__name__
    if (named := processor.get("feature_extractor_type", expected)) != expected:
        raise BundleError(f"its processor is a {named}", valid=f"{expected} for {config['model_type']}")

    # A processor makes its mel filters at once, however many it says.
    n_filters, window = processor.get("feature_size", 1), processor.get("fft_window_size", 1)
    if isinstance(n_filters, int) and isinstance(window, int) and abs(n_filters * window) > _MOST_FILTER_NUMBERS:
        raise BundleError(
            f"its processor asks for {short_repr(n_filters)} mel filters over {short_repr(window)} samples",
            valid=f"a product of {_MOST_FILTER_NUMBERS:,} at most",
            next_step="Fetch the model anew",
        )

    try:
        extractor = family.processor.from_dict(dict(processor))
        told_hz = config.get("sample_rate", extractor.sampling_rate)
        if told_hz != extractor.sampling_rate:
            raise BundleError(f"its configuration says {told_hz} Hz, its processor {extractor.sampling_rate} Hz")
        return family.hearing(described, extractor, wanted, empty=empty)
    except SENSELESS as error:
        raise no_network(config, error) from error


def load(published: Published, wanted: Wanted) -> Hearing:
    """Make a network with its published weights, in evaluation mode.

    Raises
    ------
    BundleError
        The weights cannot be read or do not fit: every number that the network has must be there.
    """
    hearing = build(published.config, published.processor, wanted, empty=True)
    with _quiet():
        try:
            # To transformers a MERT is a model of code of its own; its layers have a HuBERT's names.
            if published.config["model_type"] == MERT:
                hearing.model.load_state_dict(_tensors(published), strict=True, assign=True)
            else:
                hearing.model = _pretrained(published, hearing.model)
        except _UNREADABLE as error:
            reason = why_unreadable(error) if isinstance(error, pickle.UnpicklingError) else str(error)
            raise BundleError(
                f"{published.weights} does not fit the network ({' '.join(reason.split())[:300]})",
                valid="weights for the configuration beside it",
                next_step="Fetch the model anew",
            ) from error

    return hearing.float().eval()


def _described(config: Mapping[str, Any]) -> tuple[Family, Any]:
    """Find the family of a configuration, and make transformers' own object of it."""
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise BundleError(f"models of the type {kind!r} are not known here", valid=", ".join(FAMILIES))

    # What is left out describes no layer: code, names of classes, the type of the stored numbers.
    plain = {key: value for key, value in config.items() if key not in ("auto_map", "architectures", "dtype")}
    if kind == MERT:
        # A MERT is a HuBERT where none of its own options is on, as in MERT-v1-95M. Its `attention_relax` is left
        # aside: it takes the largest score off before the softmax, which changes no value.
        used = [name for name in ("feature_extractor_cqt", "deepnorm") if config.get(name, False)]
        if used:
            raise BundleError(
                f"this MERT needs {', '.join(used)}, which no HuBERT has, and MERT's own code is never run",
                valid="MERT models without, as m-a-p/MERT-v1-95M",
            )
        plain["model_type"] = "hubert"

    try:
        described = FAMILIES[kind].config.from_dict(plain)
    except (*SENSELESS, StrictDataclassError) as error:
        raise BundleError(
            f"the configuration of this {kind} makes no sense ({' '.join(str(error).split())})",
            next_step="Fetch the model anew",
        ) from error

    # A whole CLAP holds a text tower too, which hears nothing.
    layers = described.audio_config if kind == "clap" else described
    depths = getattr(layers, "depths", [layers.num_hidden_layers])
    for n_layers in depths:
        if not isinstance(n_layers, int) or not 0 < n_layers <= _MOST_LAYERS:
            raise BundleError(
                f"the configuration of this {kind} asks for {short_repr(n_layers)} layers",
                valid=f"1 to {_MOST_LAYERS}",
                next_step="Fetch the model anew",
            )
    return FAMILIES[kind], layers


def _pretrained(published: Published, fresh: Any) -> Any:
    """Load with transformers, which knows older names of the same layers, and let nothing be missing."""
    is_safe = published.weights.suffix == ".safetensors"
    model, found = type(fresh).from_pretrained(
        str(published.folder),
        config=fresh.config,
        local_files_only=True,
        use_safetensors=is_safe,
        weights_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )

    missing = [name for name in found["missing_keys"] if not name.endswith(_UNUSED)]

    # Weights of layers that we have not (a text tower, classes) may be there; others in layers that we have may not.
    prefix = f"{model.base_model_prefix}."
    layers = {name.partition(".")[0] for name in model.state_dict()}
    unknown = []
    for name in found["unexpected_keys"]:
        layer = name.removeprefix(prefix).partition(".")[0]
        if layer in layers and not name.endswith(_UNUSED):
            unknown.append(name)

    for what, names in (("missing", missing), ("unknown", unknown)):
        if names:
            raise ValueError(f"{what}: {', '.join(sorted(names)[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}")

    if hasattr(model, "masked_spec_embed"):
        model.masked_spec_embed.requires_grad_(False)  # pre-training alone uses it
    return model


def _tensors(published: Published) -> dict[str, Tensor]:
    """Read the weights of a file by name, whichever of the two formats it has."""
    if published.weights.suffix == ".safetensors":
        return dict(safetensors.torch.load_file(published.weights))

    content = load_plain(published.weights)
    if not isinstance(content, dict):
        raise TypeError("it holds no tensors by name")
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and reports to itself; what matters is checked here."""
    log: Any = logging  # it has no types
    level, had_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if had_bars:
            log.enable_progress_bar()
