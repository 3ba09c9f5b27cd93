"""What stands in front of a model: normalisation, a layer that an exported model carries, and online augmentation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from musicgenre.augment.online import OnlineChain, Together, create_spectrogram_augmentation
from musicgenre.augment.waveform import get_chain
from musicgenre.data.rows import Normalisation
from musicgenre.features.base import Float32, Representation
from musicgenre.training.batches import Batch

Kind = Literal["standard", "row_l2", "none"]

_SMALLEST_LENGTH = 1e-12
"""Silence has no direction: a row shorter than this is divided by this."""


class Normalise(nn.Module):
    """Scale a batch of representation arrays, (batch, *shape) to the same shape.

    Parameters
    ----------
    kind : {"standard", "row_l2", "none"}
        `standard`: subtract the mean, divide by the deviation, both of the training part. `row_l2`: divide every
        example by its Euclidean length. `none`: as it is.
    n_dims : int
        Dimensions of one example.
    measured : Normalisation, optional
        Mean and deviation; needed for `standard`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: Kind, n_dims: int, measured: Normalisation | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.measured = measured if kind == "standard" else None
        if self.measured is not None:
            # buffers, so that they move to the model's device and into the exported graph
            mean, std = self.measured.broadcast(n_dims)
            self.register_buffer("mean", torch.from_numpy(mean))
            self.register_buffer("std", torch.from_numpy(std))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the batch."""
        if self.measured is not None:
            return (x - self.mean) / self.std
        if self.kind == "row_l2":
            length = torch.sqrt((x * x).flatten(1).sum(dim=1))
            return x / length.clamp(min=_SMALLEST_LENGTH).reshape(-1, *([1] * (x.ndim - 1)))
        return x

    def as_dict(self) -> dict[str, Any]:
        """Content of `normalisation.json`."""
        if self.measured is None:
            return {"kind": self.kind, "mean": [], "std": [], "row_axis": None}
        return {"kind": self.kind, **self.measured.as_dict()}


def normalise_from_dict(content: Mapping[str, Any], n_dims: int) -> Normalise:
    """Undo `Normalise.as_dict`."""
    kind = cast("Kind", content["kind"])
    if kind != "standard":
        return Normalise(kind, n_dims)
    return Normalise(kind, n_dims, Normalisation.from_dict(dict(content)))


class WaveformChange:
    """Augment waveforms and compute a representation of them; a `musicgenre.data.rows.Change`.

    What happens to a waveform depends on the seed, the epoch and its row alone.

    Parameters
    ----------
    chain : str
        Name of the waveform chain.
    representation : Representation
        What the model reads.
    seed : int
        Of the training.
    """

    def __init__(self, chain: str, representation: Representation, seed: int) -> None:
        self.online = OnlineChain(get_chain(chain), representation.sample_rate_hz)
        self.representation = representation
        self.seed = seed

    def __call__(self, sound: Float32, rows: NDArray[np.int64], epoch: int) -> Float32:
        """Turn waveforms (batch, n_samples) into arrays (batch, *shape)."""
        arrays = []
        for waveform, row in zip(sound, rows, strict=True):
            # a seed of its own for each: whichever process computes it, it comes out the same
            seed = int(np.random.SeedSequence([self.seed, epoch, int(row)]).generate_state(1)[0])
            arrays.append(self.representation.compute(self.online.one(waveform, seed)))
        return np.stack(arrays)


class SpectrogramAugment:
    """Augment normalised batches; a `musicgenre.training.batches.Augment`.

    It draws from PyTorch's own generator, whose state is part of what a training resumes from.

    Parameters
    ----------
    steps : Mapping
        Spectrogram augmentations by name, each with its options.
    representation : Representation
        What the batches hold.
    n_classes : int
        Number of labels.
    """

    def __init__(self, steps: Mapping[str, Mapping[str, Any]], representation: Representation, n_classes: int) -> None:
        augmentations = []
        for name, options in steps.items():
            # whatever masks bands must know which axis counts them; the recipe may still say otherwise
            maker = type(create_spectrogram_augmentation(name))
            defaults = {}
            if "row_axis" in inspect.signature(maker).parameters:
                defaults["row_axis"] = representation.row_axis
            augmentations.append(create_spectrogram_augmentation(name, **{**defaults, **options}))
        self.together = Together(augmentations)
        self.n_classes = n_classes

    def __call__(self, x: Tensor, labels: Tensor) -> Batch:
        """Change a batch; class numbers become shares (batch, n_classes), the values of tags stay shares.

        Blended with an unknown tag (NaN), a tag is unknown.
        """
        if labels.ndim == 1:
            labels = functional.one_hot(labels, self.n_classes)
        return self.together(x, labels.to(x.dtype), torch.default_generator)
