"""1-D convolutions over time, mel bands as channels (B4, B5).

The reports give neither kernels nor what follows the last pool; ours: kernels 7, 5, 3 (B4) and 3 (B5), then the mean
over time, so that tracks and 4 s segments go through the same layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from musicgenre.models._network import Network
from musicgenre.models.registry import register


@register("cnn1d-baseline", tiny_shape=(16, 80))
def cnn1d_baseline(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    channels: int = 32,
    kernels: Sequence[int] = (7, 5, 3),
    pool: int = 4,
) -> Network:
    """B4: three blocks of 32 channels, kernels shrinking with depth; reads (bands, frames)."""
    return _cnn1d(input_shape, n_classes, [channels] * len(kernels), kernels, pool)


@register("cnn1d", tiny_shape=(16, 64))
def cnn1d(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    channels: Sequence[int] = (32, 64, 128, 256),
    kernel: int = 3,
    pool: int = 2,
) -> Network:
    """B5: four blocks, channels doubling; reads (bands, frames)."""
    return _cnn1d(input_shape, n_classes, channels, [kernel] * len(channels), pool)


def _cnn1d(
    input_shape: tuple[int, ...], n_classes: int, channels: Sequence[int], kernels: Sequence[int], pool: int
) -> Network:
    layers: list[nn.Module] = []
    for (before, after), kernel in zip(pairwise([input_shape[0], *channels]), kernels, strict=True):
        layers += [
            nn.Conv1d(before, after, kernel, padding=kernel // 2),
            nn.BatchNorm1d(after),
            nn.ReLU(),
            nn.MaxPool1d(pool),
        ]
    layers += [nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    return Network(nn.Sequential(*layers), input_shape, n_classes)
