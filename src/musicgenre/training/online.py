"""Online augmentation of a recipe: drawn afresh for every batch, and the same again for the same seed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from musicgenre.augment.online import OnlineChain
from musicgenre.augment.registry import create_spectrogram_augmentation, get_chain
from musicgenre.augment.spectrogram import Together
from musicgenre.features.base import Float32, Representation
from musicgenre.training.batches import Change
from musicgenre.training.datamodule import Augment, Batch


def waveform_change(chain: str, representation: Representation, seed: int) -> Change:
    """Make the function that augments waveforms (batch, n_samples) and computes ``representation`` of them.

    What happens to a waveform depends on the seed, the epoch and its row alone.
    """
    online = OnlineChain(get_chain(chain), representation.sample_rate_hz)

    def change(sound: Float32, rows: NDArray[np.int64], epoch: int) -> Float32:
        seeds = [int(np.random.SeedSequence([seed, epoch, int(row)]).generate_state(1)[0]) for row in rows]
        return np.stack([representation.compute(online.one(*pair)) for pair in zip(sound, seeds, strict=True)])

    return change


def spectrogram_augment(
    steps: Mapping[str, Mapping[str, Any]], representation: Representation, n_classes: int
) -> Augment | None:
    """Make the function that augments normalised batches; ``None`` when there are no steps.

    It draws from PyTorch's own generator, whose state is part of what a training resumes from.
    """
    if not steps:
        return None
    together = Together([_step(name, options, representation) for name, options in steps.items()])

    def augment(x: Tensor, labels: Tensor) -> Batch:
        return together(x, functional.one_hot(labels, n_classes).to(x.dtype), torch.default_generator)

    return augment


def _step(name: str, options: Mapping[str, Any], representation: Representation) -> Any:
    """Make one augmentation, told which axis counts the bands if it asks for that."""
    maker = type(create_spectrogram_augmentation(name))
    told = {"row_axis": representation.row_axis} if "row_axis" in inspect.signature(maker).parameters else {}
    return create_spectrogram_augmentation(name, **{**told, **options})
