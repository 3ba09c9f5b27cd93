"""Online augmentation: batches changed while a training runs, drawn afresh every time.

Spectrograms are masked, rolled, blurred by noise and mixed; waveforms go through a chain. The augmentations of
spectrograms take `(x, targets, generator)` and return new `(x, targets)`: `x` (batch, *shape), normalised, `targets`
(batch, n_classes) with the share of each class, and a CPU generator that alone decides what is drawn, so that a
training can be repeated. After normalisation the value 0 is the mean, so masks are filled with 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from musicgenre._registry import Registry
from musicgenre.augment.waveform import Chain, Float32, apply
from musicgenre.errors import UsageError, needing
from musicgenre.features.base import fit_length

with needing("online augmentation", "train"):
    import torch
    from torch import Tensor

Batch = tuple[Tensor, Tensor]


class SpectrogramAugmentation(Protocol):
    """Changes a batch of training examples."""

    def __call__(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        """Return new examples (batch, *shape) and targets (batch, n_classes); the arguments stay as they are."""
        ...


_SPECTROGRAM: Registry[Callable[..., SpectrogramAugmentation]] = Registry(
    "spectrogram augmentation", "spectrogram augmentations", "musicgenre.augment"
)
register_spectrogram = _SPECTROGRAM.register


def list_spectrogram_augmentations() -> list[str]:
    """Names that `create_spectrogram_augmentation` knows, sorted."""
    return _SPECTROGRAM.names()


def create_spectrogram_augmentation(name: str, **options: Any) -> SpectrogramAugmentation:
    """Make the spectrogram augmentation `name` with its `options`.

    Raises
    ------
    UsageError
        If there is none of that name; the nearest one is named.
    """
    return _SPECTROGRAM.get(name)(**options)


class Together:
    """Several augmentations, one after another.

    Parameters
    ----------
    steps : sequence of SpectrogramAugmentation
        In the order they are applied.
    """

    def __init__(self, steps: Sequence[SpectrogramAugmentation]) -> None:
        self.steps = tuple(steps)

    def __call__(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        """Apply every step."""
        for step in self.steps:
            x, targets = step(x, targets, generator)
        return x, targets


@register_spectrogram("specaugment")
class SpecAugment:
    """Hide random bands and stretches of time (SpecAugment without time warping).

    Parameters
    ----------
    time_masks, frequency_masks : int
        Masks an example.
    time_width, frequency_width : int
        Widest mask in frames and bands; widths are drawn from 0 to it, never more than half the axis.
    row_axis : int
        Axis of one example that counts bands or coefficients: 0 for mel spectrograms, 1 for MFCCs (time first).
    """

    def __init__(
        self,
        *,
        time_masks: int = 2,
        frequency_masks: int = 2,
        time_width: int = 30,
        frequency_width: int = 12,
        row_axis: int = 0,
    ) -> None:
        if min(time_masks, frequency_masks, time_width, frequency_width) < 0 or row_axis not in (0, 1):
            raise UsageError("a SpecAugment setting is out of range", valid="Numbers from 0 on; row_axis 0 or 1")
        self.masks = {row_axis + 1: (frequency_masks, frequency_width), 2 - row_axis: (time_masks, time_width)}

    def __call__(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        """Hide parts of `x`, shape (batch, rows, frames) or (batch, frames, rows)."""
        _require_dims(x, 3, "SpecAugment")

        # Drawn on the CPU, where the generator lives: the masks are the same on every device.
        hidden = torch.zeros(x.shape, dtype=torch.bool)
        for axis, (count, width) in sorted(self.masks.items()):
            shape = [len(x), 1, 1]
            shape[axis] = x.shape[axis]
            for _ in range(count):
                hidden |= _stretches(len(x), x.shape[axis], width, generator).reshape(shape)

        return x.masked_fill(hidden.to(x.device), 0.0), targets


@register_spectrogram("time-roll")
class TimeRoll:
    """Roll every example along time by a random part of its length; what leaves one end enters at the other.

    Parameters
    ----------
    largest : float
        Largest part of the length, 0 to 1, in both directions.
    row_axis : int
        As in `SpecAugment`.
    """

    def __init__(self, *, largest: float = 0.5, row_axis: int = 0) -> None:
        if not 0 <= largest <= 1 or row_axis not in (0, 1):
            raise UsageError(f"largest={largest}, row_axis={row_axis}", valid="A part from 0 to 1; row_axis 0 or 1")
        self.largest, self.time_axis = largest, 2 - row_axis

    def __call__(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        """Roll `x`, shape (batch, rows, frames) or (batch, frames, rows)."""
        _require_dims(x, 3, "the time roll")
        length = x.shape[self.time_axis]
        parts = (2 * torch.rand(len(x), generator=generator) - 1) * self.largest
        shifts = (parts * length).round().long()  # (batch,)
        source = (torch.arange(length)[None, :] - shifts[:, None]) % length  # (batch, length)
        shape = [len(x), 1, 1]
        shape[self.time_axis] = length
        return x.gather(self.time_axis, source.reshape(shape).expand(x.shape).to(x.device)), targets


@register_spectrogram("noise")
class SpectrogramNoise:
    """Add normal noise of a random strength to every example.

    Parameters
    ----------
    largest : float
        Largest standard deviation, in those of the normalised values; drawn from 0 to it.
    """

    def __init__(self, *, largest: float = 0.1) -> None:
        if largest < 0:
            raise UsageError(f"largest={largest} is negative", valid="0 or more")
        self.largest = largest

    def __call__(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        """Add noise to `x`, shape (batch, *shape)."""
        strength = torch.rand(len(x), generator=generator).reshape(-1, *[1] * (x.ndim - 1)) * self.largest
        noise = torch.randn(x.shape, generator=generator) * strength
        return x + noise.to(device=x.device, dtype=x.dtype), targets


@register_spectrogram("mixup")
class Mixup:
    """Blend every example with another one of the batch, and their targets by the same share.

    Parameters
    ----------
    alpha : float
        The larger share is drawn from Beta(alpha, alpha), folded at one half: small values leave most examples
        nearly as they are.
    """

    def __init__(self, *, alpha: float = 0.2) -> None:
        if alpha <= 0:
            raise UsageError(f"alpha={alpha} is not positive", valid="More than 0")
        self.alpha = alpha

    def __call__(self, x: Tensor, targets: Tensor, generator: torch.Generator) -> Batch:
        """Blend `x` (batch, *shape) and `targets` (batch, n_classes)."""
        _require_dims(targets, 2, "mixup's targets")
        share = _beta(self.alpha, len(x), generator)  # (batch,), one half to 1: each example stays its own
        partner = torch.randperm(len(x), generator=generator).to(x.device)
        own = share.to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        own_target = share.to(device=targets.device, dtype=targets.dtype)[:, None]
        mixed = own * x + (1 - own) * x[partner]
        return mixed, own_target * targets + (1 - own_target) * targets[partner.to(targets.device)]


class OnlineChain:
    """A waveform chain for training batches; examples keep their length.

    Parameters
    ----------
    chain : Chain
        What may happen; see `get_chain`.
    sample_rate_hz : int
        Rate of the waveforms.
    """

    def __init__(self, chain: Chain, sample_rate_hz: int) -> None:
        self.chain = chain
        self.sample_rate_hz = sample_rate_hz

    def __call__(self, waveforms: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch, shape (batch, n_samples); the generator alone decides how."""
        seeds = torch.randint(2**32, (len(waveforms),), generator=generator).tolist()
        sounds = waveforms.detach().cpu().numpy()
        changed = [self.one(sound, seed) for sound, seed in zip(sounds, seeds, strict=True)]
        if not changed:
            return waveforms.clone()
        return torch.from_numpy(np.stack(changed)).to(waveforms.device)

    def one(self, waveform: Float32, seed: int) -> Float32:
        """Change one waveform, shape (n_samples,), by a seed from 0 to 2**32 - 1."""
        return fit_length(apply(self.chain.draw(seed), waveform, self.sample_rate_hz), len(waveform))


def _stretches(batch: int, length: int, widest: int, generator: torch.Generator) -> Tensor:
    """One random stretch an example, true inside it; shape (batch, length)."""
    widest = min(widest, length // 2)  # a mask as long as the axis would leave nothing to learn from
    width = torch.randint(widest + 1, (batch, 1), generator=generator)
    start = (torch.rand(batch, 1, generator=generator) * (length - width + 1)).long()
    place = torch.arange(length)[None, :]
    return (place >= start) & (place < start + width)


def _beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw from Beta(alpha, alpha), folded so that each value is one half or more; shape (count,)."""
    # torch has no Beta that takes a generator; NumPy's gets its seed from ours.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, count)
    return torch.from_numpy(np.maximum(drawn, 1 - drawn))


def _require_dims(x: Tensor, n_dims: int, what: str) -> None:
    """Raise `UsageError` unless a batch has as many dimensions."""
    if x.ndim != n_dims:
        raise UsageError(f"{what} got shape {tuple(x.shape)}", valid=f"{n_dims} dimensions, the batch first")
