"""wav2vec 2.0, HuBERT (DistilHuBERT too), WavLM and MERT: networks that read the waveform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.features._transformers.hearing import Hearing


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
        parts[-1 if self.model.config.do_stable_layer_norm else 1].append(encoder.layer_norm)
        adapter = getattr(self.model, "adapter", None)
        return [*parts[:-1], [*parts[-1], adapter]] if adapter is not None else parts

    def sequence(self, state: Tensor) -> Tensor:
        """It is one."""
        return state
