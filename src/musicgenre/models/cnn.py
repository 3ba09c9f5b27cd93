"""Convolutional networks: 2-D on mel spectrograms (A5, B6), MFCCs (E3) and pictures (C4), 1-D over time (B4, B5)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from musicgenre.models._fused import FusedSequential
from musicgenre.models.network import Network, width_after
from musicgenre.models.registry import register


@register("mel-cnn", tiny_shape=(16, 24))
def mel_cnn(input_shape: tuple[int, ...], n_classes: int, *, width: int = 128, dropout: float = 0.5) -> Network:
    """A5: two convolutions with pools, linear 128, dropout (rate ours); 19,681,034 parameters on 128 x 301."""
    height, frames = input_shape[0] // 4, input_shape[1] // 4
    layers = [
        *mel_cnn_convolutions(),
        nn.Linear(64 * height * frames, width),
        nn.ReLU(),
        nn.Dropout(dropout),
    ]
    return Network(nn.Sequential(*layers), input_shape, n_classes)


def mel_cnn_convolutions() -> list[nn.Module]:
    """Return A5 up to its flatten: (batch, bands, frames) to (batch, 64 * (bands // 4) * (frames // 4))."""
    return [
        _AddChannel(),
        nn.Conv2d(1, 32, 3, padding=1),  # (batch, 32, bands, frames)
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),  # (batch, 64, bands / 2, frames / 2)
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
    ]


@register("cnn2d", tiny_shape=(16, 32))
def cnn2d(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    channels: Sequence[int] = (32, 64, 128, 256),
    kernel: int = 3,
    pool: int = 2,
) -> Network:
    """B6: the 2-D counterpart of `cnn1d` (B5): same kernel, channels, padding, pool and depth."""
    layers: list[nn.Module] = [_AddChannel()]
    for before, after in pairwise([1, *channels]):
        layers += _block(before, after, kernel, kernel // 2, pool)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]

    return Network(FusedSequential(*layers), input_shape, n_classes)


@register("mfcc-cnn", tiny_shape=(40, 13))
def mfcc_cnn(input_shape: tuple[int, ...], n_classes: int, *, width: int = 64, dropout: float = 0.3) -> Network:
    """E3: three convolutions, 32, 64 and 120 channels; 173,682 parameters on 130 x 13.

    Frames run along the width inside: the same network, but convolutions are quicker on wide pictures than on tall.
    """
    layers = [
        _AddChannel(turned=True),
        *_block(1, 32, 3, 1, 3, stride=2),
        *_block(32, 64, 3, 1, 3, stride=2),
        *_block(64, 120, 2, 1, 2, stride=2),
        nn.Flatten(),
    ]
    return Network(_with_linear(layers, input_shape, width, dropout), input_shape, n_classes)


@register("picture-cnn", tiny_shape=(3, 32, 32))
def picture_cnn(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    channels: Sequence[int] = (8, 16, 32, 64, 128),
    width: int = 128,
    dropout: float = 0.5,
) -> Network:
    """C4: five convolutions with pools, linear 128; dropout in front of the last layer (place and rate ours)."""
    layers: list[nn.Module] = []
    for before, after in pairwise([input_shape[0], *channels]):
        layers += _block(before, after, 3, 1, 2)
    layers.append(nn.Flatten())

    return Network(_with_linear(layers, input_shape, width, dropout), input_shape, n_classes)


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
    """Blocks of convolution, batch-norm, ReLU and pool over the frames, and the mean of what is left of them."""
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


def _block(
    before: int, after: int, kernel: int, padding: int, pool: int, *, stride: int | None = None
) -> list[nn.Module]:
    """Convolution, batch-norm, pool, ReLU: the ReLU commutes with the pool and is cheaper behind it."""
    return [
        nn.Conv2d(before, after, kernel, padding=padding),
        nn.BatchNorm2d(after),
        nn.MaxPool2d(pool, stride),
        nn.ReLU(),
    ]


def _with_linear(layers: list[nn.Module], input_shape: tuple[int, ...], width: int, dropout: float) -> nn.Sequential:
    """Put a linear layer, ReLU and dropout behind layers that end flat."""
    flat = width_after(nn.Sequential(*layers), input_shape)
    return FusedSequential(*layers, nn.Linear(flat, width), nn.ReLU(), nn.Dropout(dropout))


class _AddChannel(nn.Module):
    """(batch, height, width) to (batch, 1, height, width), or `turned` to (batch, 1, width, height)."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        self.turned = turned

    def forward(self, x: Tensor) -> Tensor:
        if self.turned:
            x = x.transpose(1, 2)
        return x.unsqueeze(1)
