"""A hearing network behind its front end: a waveform in, hidden states out. See `docs/transformers.md`."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank, window_function

from musicgenre._text import short_repr
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.published.transformers.front import FitFrames, LogMel, Repeat, Scale, Spectrum, kaldi_frames

SCALES = ("processor", "none", "peak", "standard")
POOLS = ("model", "mean", "none")
DEFAULT_SEGMENT_S = 10.0
"""Of the networks that take any length; ours."""

SENSELESS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What PyTorch and transformers make of numbers that no layer can have."""

_LONGEST_S = 600
_KALDI_WINDOW_S, _KALDI_HOP_S, _KALDI_PREEMPHASIS = 0.025, 0.010, 0.97
_KALDI_LOWEST_HZ = 20.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a hearing network.

    Parameters
    ----------
    segment_s : float or None
        Length of the sound; `None`: the network's own window, 10 s where it has none.
    layers : "last", "all" or int
        Which hidden states; 0 is what the first layer reads.
    pool : {"model", "mean", "none"}
        The model's own summary, the mean over time, or the sequence.
    scale : {"processor", "none", "peak", "standard"}
        What happens to the waveform first; `processor`: what the model's processor says.
    n_samples : int or None
        The length in samples, in place of `segment_s`.
    """

    segment_s: float | None = None
    layers: str | int = "last"
    pool: str = "model"
    scale: str = "processor"
    n_samples: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if self.pool not in POOLS or self.scale not in SCALES:
            raise UsageError(
                f"pool={self.pool!r}, scale={self.scale!r}",
                valid=f"pool: {', '.join(POOLS)}; scale: {', '.join(SCALES)}",
            )
        if self.segment_s is not None and not 0 < self.segment_s <= _LONGEST_S:
            raise UsageError(
                f"segment_s={self.segment_s} is no length of a segment", valid=f"seconds above 0, up to {_LONGEST_S}"
            )
        if self.layers == "all" and self.pool == "none":
            raise UsageError("all layers as sequences are too much", valid="layers: all with pool: model or mean")


def no_network(config: Mapping[str, Any], error: Exception) -> BundleError:
    """Say that a configuration, or the processor beside it, makes no network, and what most often is why."""
    layers = config.get("audio_config", config)  # CLAP's own is that of its two towers
    told = []
    for key in ("hidden_size", "num_attention_heads"):
        if isinstance(layers, Mapping) and key in layers:
            told.append(f"{key}={short_repr(layers[key])}")

    lines = str(error).splitlines() or [type(error).__name__]
    why = ", ".join([lines[0], *told])
    return BundleError(
        f"the configuration or processor of this {config.get('model_type')} makes no network ({why})",
        valid="numbers that fit each other: all sizes above 0, hidden_size a multiple of num_attention_heads",
        next_step="Fetch the model anew",
    )


class Hearing(nn.Module):
    """A network and its front end, (batch, n_samples) to (batch, *shape).

    Parameters
    ----------
    config : PreTrainedConfig
        The layers.
    processor : Any
        The model's own feature extractor; only its settings are used.
    wanted : Wanted
        What to give.
    empty : bool
        Draw no weights: those of a file come next.
    """

    def __init__(self, config: Any, processor: Any, wanted: Wanted, *, empty: bool = False) -> None:
        super().__init__()
        self.wanted = wanted
        self.sample_rate_hz = int(processor.sampling_rate)
        length_s = wanted.segment_s or self.window_s(config, processor) or DEFAULT_SEGMENT_S
        self.n_samples = wanted.n_samples or max(1, round(length_s * self.sample_rate_hz))
        self.segment_s = self.n_samples / self.sample_rate_hz if wanted.n_samples else float(length_s)

        self.front = self.make_front(config, processor)
        with torch.device("meta") if empty else nullcontext():
            self.model = self.make_model(config)

        count = len(self.layer_list())
        is_number = isinstance(wanted.layers, int) and 0 <= wanted.layers <= count
        if wanted.layers not in ("last", "all") and not is_number:
            raise UsageError(f"layers={wanted.layers!r}", valid=f"last, all, or a number from 0 to {count}")

    @staticmethod
    @abstractmethod
    def window_s(config: Any, processor: Any) -> float | None:
        """Longest sound that the network takes; `None`: any."""

    @abstractmethod
    def make_front(self, config: Any, processor: Any) -> nn.Module:
        """Make the layers from waveform (batch, n_samples) to what the network reads."""

    @abstractmethod
    def make_model(self, config: Any) -> Any:
        """Make the network with fresh weights."""

    @abstractmethod
    def layer_list(self) -> list[nn.Module]:
        """Transformer layers, from the input on."""

    @abstractmethod
    def stages(self) -> list[list[nn.Module]]:
        """All layers by depth: the first stages are the front part, the last ones a transformer layer each."""

    @abstractmethod
    def sequence(self, state: Tensor) -> Tensor:
        """Hidden state to (batch, frames, width), frames in time."""

    def summary(self, state: Tensor, output: Any) -> Tensor:
        """Hidden state to the model's own summary, (batch, width)."""
        return self.sequence(state).mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_samples) to (batch, width), (batch, layers, width) or (batch, frames, width)."""
        layers = self.wanted.layers
        with _exportable(self.model):
            output = self.model(self.front(x), output_hidden_states=layers != "last")
        if layers == "last":
            return self._pooled(output.last_hidden_state, output)

        # The last of the hidden states comes before the final layer norm in some models: it is replaced.
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        if layers == "all":
            return torch.stack([self._pooled(state, output) for state in states], dim=1)
        return self._pooled(states[int(layers)], output)

    def shape(self) -> tuple[int, ...]:
        """Shape of what comes out for one segment; costs a pass over it unless the network is on `meta`."""
        try:
            device = next(self.layer_list()[0].parameters()).device
            with torch.no_grad():
                given = self.eval()(torch.zeros(1, self.n_samples, device=device))
        except SENSELESS as error:  # some numbers show only where sound goes through
            raise no_network(self.model.config.to_dict(), error) from error
        return tuple(int(size) for size in given.shape[1:])

    def scaled(self, by_processor: str) -> Scale:
        """Make the first layer of the front end."""
        return Scale(by_processor if self.wanted.scale == "processor" else self.wanted.scale)

    def _pooled(self, state: Tensor, output: Any) -> Tensor:
        """Hidden state to what is wanted of it, (batch, width) or (batch, frames, width)."""
        if self.wanted.pool == "model":
            return self.summary(state, output)

        frames = self.sequence(state)
        return frames if self.wanted.pool == "none" else frames.mean(dim=1)


class SpeechHearing(Hearing):
    """wav2vec 2.0, HuBERT, DistilHuBERT, WavLM, MERT: convolutions on the waveform, then a transformer."""

    classes: Mapping[str, Any] = {
        "wav2vec2": transformers.Wav2Vec2Model,
        "hubert": transformers.HubertModel,
        "wavlm": transformers.WavLMModel,
    }

    @staticmethod
    def window_s(config: Any, processor: Any) -> float | None:
        """Any length."""
        return None

    def make_front(self, config: Any, processor: Any) -> nn.Module:
        """Only scaling."""
        return self.scaled("standard" if processor.do_normalize else "none")

    def make_model(self, config: Any) -> Any:
        """Make the network; its own masking is switched off, since it draws from NumPy's global generator."""
        # Samples that one frame of the last convolution stems from.
        reach = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            reach = (reach - 1) * stride + kernel
        if self.n_samples < reach:
            raise UsageError(f"segment_s={self.segment_s} is too short", valid=f"{reach} samples or more")

        config.apply_spec_augment = False
        model = self.classes[config.model_type](config)
        if hasattr(model, "masked_spec_embed"):
            model.masked_spec_embed.requires_grad_(False)
        return model

    def layer_list(self) -> list[nn.Module]:
        """Layers of the encoder."""
        return list(self.model.encoder.layers)

    def stages(self) -> list[list[nn.Module]]:
        """Convolutions, projection with positions, then the layers."""
        encoder = self.model.encoder
        parts: list[list[nn.Module]] = [[self.model.feature_extractor]]
        parts += [[self.model.feature_projection, encoder.pos_conv_embed, encoder.dropout]]
        parts += [[layer] for layer in self.layer_list()]

        # The norm of the whole stands behind the layers in some models, before them in others.
        parts[-1 if self.model.config.do_stable_layer_norm else 1].append(encoder.layer_norm)
        adapter = getattr(self.model, "adapter", None)
        if adapter is not None:
            parts[-1].append(adapter)
        return parts

    def sequence(self, state: Tensor) -> Tensor:
        """It is one."""
        return state


class AstHearing(Hearing):
    """Audio Spectrogram Transformer: patches of a Kaldi log-mel spectrogram."""

    @staticmethod
    def window_s(config: Any, processor: Any) -> float | None:
        """As many hops as the spectrogram has frames."""
        return float(processor.max_length * _KALDI_HOP_S)

    def make_front(self, config: Any, processor: Any) -> nn.Module:
        """Kaldi's log-mel filter bank, zeros behind it, mean and deviation of the processor."""
        rate_hz = self.sample_rate_hz
        length, hop = round(_KALDI_WINDOW_S * rate_hz), round(_KALDI_HOP_S * rate_hz)
        if not length <= self.n_samples < (processor.max_length + 1) * hop + length - hop:
            raise UsageError(
                f"segment_s={self.segment_s} does not fit this model",
                valid=f"from {_KALDI_WINDOW_S} to {processor.max_length * _KALDI_HOP_S:g} s",
            )

        n_fft = 1 << (length - 1).bit_length()  # the next power of two
        filters = _kaldi_filters(n_fft, processor.num_mel_bins, rate_hz)
        frames = kaldi_frames(window_function(length, "hann", periodic=False), _KALDI_PREEMPHASIS)
        floor = float(np.finfo(np.float32).eps)
        spectrum = Spectrum(frames, n_fft, hop, filters, center=False, floor=floor, decibels=False)

        # The processor divides by twice the deviation, as AST's authors do.
        mean, std = (processor.mean, 2.0 * processor.std) if processor.do_normalize else (0.0, 1.0)
        return nn.Sequential(self.scaled("none"), LogMel(spectrum), FitFrames(processor.max_length, mean, std))

    def make_model(self, config: Any) -> Any:
        """Make the network without its AudioSet classes."""
        return transformers.ASTModel(config)

    def layer_list(self) -> list[nn.Module]:
        """Layers of the encoder."""
        return list(self.model.layers)

    def stages(self) -> list[list[nn.Module]]:
        """Patches, then the layers."""
        parts: list[list[nn.Module]] = [[self.model.embeddings], *([layer] for layer in self.layer_list())]
        parts[-1].append(self.model.layernorm)
        return parts

    def sequence(self, state: Tensor) -> Tensor:
        """Mean over the patches of a moment."""
        embeddings = self.model.embeddings
        n_bands, n_frames = embeddings.get_shape(self.model.config)
        return state[:, 2:].reshape(-1, n_bands, n_frames, state.shape[2]).mean(dim=1)

    def summary(self, state: Tensor, output: Any) -> Tensor:
        """Mean of the two class tokens."""
        return (state[:, 0] + state[:, 1]) / 2


class ClapHearing(Hearing):
    """CLAP's audio tower (HTS-AT): a Swin transformer on a log-mel spectrogram of 10 s."""

    @staticmethod
    def window_s(config: Any, processor: Any) -> float | None:
        """Length the processor brings everything to."""
        return float(processor.max_length_s)

    def make_front(self, config: Any, processor: Any) -> nn.Module:
        """Short sound repeated, log-mel spectrogram in decibels, one channel."""
        if config.enable_fusion or processor.truncation == "fusion":
            raise UsageError(
                "this CLAP model fuses four views of long sound, drawn at random",
                valid="models without fusion, as laion/clap-htsat-unfused",
            )
        if self.wanted.layers != "last":
            raise UsageError(f"layers={self.wanted.layers!r}: CLAP's layers differ in width", valid="last")
        if self.n_samples > processor.nb_max_samples:
            raise UsageError(
                f"segment_s={self.segment_s} does not fit this model", valid=f"up to {processor.max_length_s} s"
            )

        window = np.diag(window_function(processor.fft_window_size, "hann"))
        spectrum = Spectrum(
            window,
            processor.fft_window_size,
            processor.hop_length,
            processor.mel_filters_slaney,
            center=True,
            floor=1e-10,
            decibels=True,
        )
        repeat = Repeat(processor.nb_max_samples, processor.padding)
        return nn.Sequential(self.scaled("none"), repeat, LogMel(spectrum), nn.Unflatten(0, (-1, 1)))

    def make_model(self, config: Any) -> Any:
        """Make the audio tower and its projection; there is no text tower."""
        return transformers.ClapAudioModelWithProjection(config)

    def layer_list(self) -> list[nn.Module]:
        """Stages of the Swin transformer."""
        return list(self.model.audio_model.audio_encoder.layers)

    def stages(self) -> list[list[nn.Module]]:
        """Patches, then the stages; the projection belongs to the last."""
        encoder = self.model.audio_model.audio_encoder
        parts: list[list[nn.Module]] = [[encoder.patch_embed, encoder.batch_norm]]
        parts += [[layer] for layer in self.layer_list()]
        parts[-1] += [encoder.norm, self.model.audio_projection]
        return parts

    def sequence(self, state: Tensor) -> Tensor:
        """(batch, width, bands, frames): mean over the bands."""
        return state.mean(dim=2).transpose(1, 2)

    def summary(self, state: Tensor, output: Any) -> Tensor:
        """The embedding that CLAP compares with texts."""
        embedding: Tensor = output.audio_embeds
        return embedding


@contextmanager
def _exportable(model: Any) -> Iterator[None]:
    """Let attention be written out step by step while the network is traced for ONNX, and fused otherwise."""
    if not torch.onnx.is_in_onnx_export():
        yield
        return

    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _kaldi_filters(n_fft: int, n_mels: int, rate_hz: int) -> NDArray[np.float64]:
    """Kaldi's mel filters, (bins, n_mels); the lowest ones are narrower than a bin and may be empty, as published."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one mel filter", category=UserWarning)
        filters: NDArray[np.float64] = mel_filter_bank(
            n_fft // 2 + 1,
            n_mels,
            _KALDI_LOWEST_HZ,
            rate_hz // 2,
            rate_hz,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return filters
