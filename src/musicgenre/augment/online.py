"""Online augmentation of waveforms: a chain drawn afresh for every example of a training batch."""

from __future__ import annotations

import numpy as np

from musicgenre.augment.waveform import Chain, Float32, apply
from musicgenre.errors import needing
from musicgenre.features.base import fit_length

with needing("online augmentation", "train"):
    import torch
    from torch import Tensor


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
        return torch.from_numpy(np.stack(changed)).to(waveforms.device) if changed else waveforms.clone()

    def one(self, waveform: Float32, seed: int) -> Float32:
        """Change one waveform, shape (n_samples,), by a seed from 0 to 2**32 - 1."""
        return fit_length(apply(self.chain.draw(seed), waveform, self.sample_rate_hz), len(waveform))
