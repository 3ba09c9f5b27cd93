"""AST and CLAP's audio tower: networks that read a log-mel spectrogram, which is computed here."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank, window_function

from musicgenre.errors import UsageError
from musicgenre.features._transformers.front import FitFrames, LogMel, Repeat, Spectrum, kaldi_frames
from musicgenre.features._transformers.hearing import Hearing

_KALDI_WINDOW_S, _KALDI_HOP_S, _KALDI_PREEMPHASIS = 0.025, 0.010, 0.97
_KALDI_LOWEST_HZ = 20.0


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
        n_fft = 1 << (length - 1).bit_length()
        filters = _kaldi_filters(n_fft, processor.num_mel_bins, rate_hz)
        frames = kaldi_frames(window_function(length, "hann", periodic=False), _KALDI_PREEMPHASIS)
        floor = float(np.finfo(np.float32).eps)
        spectrum = Spectrum(frames, n_fft, hop, filters, center=False, floor=floor, decibels=False)
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
