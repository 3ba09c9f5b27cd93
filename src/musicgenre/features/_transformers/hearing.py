"""A hearing network behind its front end: a waveform in, hidden states out. See ``docs/transformers.md``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.features._transformers.front import Scale

SCALES = ("processor", "none", "peak", "standard")
POOLS = ("model", "mean", "none")
_LONGEST_S = 600
DEFAULT_SEGMENT_S = 10.0
"""Of the networks that take any length; ours."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a hearing network.

    Parameters
    ----------
    segment_s : float or None
        Length of the sound; ``None``: the network's own window, 10 s where it has none.
    layers : "last", "all" or int
        Which hidden states; 0 is what the first layer reads.
    pool : {"model", "mean", "none"}
        The model's own summary, the mean over time, or the sequence.
    scale : {"processor", "none", "peak", "standard"}
        What happens to the waveform first; ``processor``: what the model's processor says.
    n_samples : int or None
        The length in samples, in place of ``segment_s``.
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
        self.sample_rate_hz = int(processor.sampling_rate)
        length_s = wanted.segment_s or self.window_s(config, processor) or DEFAULT_SEGMENT_S
        self.n_samples = wanted.n_samples or max(1, round(length_s * self.sample_rate_hz))
        self.segment_s = self.n_samples / self.sample_rate_hz if wanted.n_samples else float(length_s)
        self.wanted = wanted
        self.front = self.make_front(config, processor)
        with torch.device("meta") if empty else nullcontext():
            self.model = self.make_model(config)
        count = len(self.layer_list())
        if wanted.layers not in ("last", "all") and not (
            isinstance(wanted.layers, int) and 0 <= wanted.layers <= count
        ):
            raise UsageError(f"layers={wanted.layers!r}", valid=f"last, all, or a number from 0 to {count}")

    @staticmethod
    @abstractmethod
    def window_s(config: Any, processor: Any) -> float | None:
        """Longest sound that the network takes; ``None``: any."""

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
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        if layers == "all":
            return torch.stack([self._pooled(state, output) for state in states], dim=1)
        return self._pooled(states[int(layers)], output)

    def shape(self) -> tuple[int, ...]:
        """Shape of what comes out for one segment; costs a pass over it unless the network is on ``meta``."""
        device = next(self.layer_list()[0].parameters()).device
        with torch.no_grad():
            given = self.eval()(torch.zeros(1, self.n_samples, device=device))
        return tuple(int(size) for size in given.shape[1:])

    def scaled(self, by_processor: str) -> Scale:
        """Make the first layer of the front end."""
        return Scale(by_processor if self.wanted.scale == "processor" else self.wanted.scale)

    def _pooled(self, state: Tensor, output: Any) -> Tensor:
        if self.wanted.pool == "model":
            return self.summary(state, output)
        frames = self.sequence(state)
        return frames if self.wanted.pool == "none" else frames.mean(dim=1)


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
