"""MusiCNN and the VGG tagger of Pons and Serra (2019), to be trained further (A8's further work, E9).

The same networks as in the default bundle, from the same checkpoints, in plain layers that learn; facts about them
stand in `docs/musicnn.md`. They read log-mel frames as the representation `melspectrogram` with the preset `musicnn`
gives them, without normalisation, cut them into patches of 187 frames (3 s) and average what these give.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.features.published.musicnn.published import PATCH_FRAMES, SPEC, Family, published
from musicgenre.features.published.musicnn.weights import read_variables
from musicgenre.models.network import Staged, StagedNetwork
from musicgenre.models.registry import register

EPSILON = 1e-3
"""Of every batch-norm; some published variances are near 1e-36, so it matters."""

WEIGHTS = ("none", "msd", "mtt")
HEADS = ("new", "tags")

_N_TAGS = 50  # that the published last layers name
_TIMBRAL = ((7, 38, 204), (7, 67, 204))  # frames, bands, filters
_TEMPORAL = ((128, 51), (64, 51), (32, 51))  # frames, filters
_MIDDLE = 64  # filters of the convolutions over time
_DENSE = 200  # width of the embedding
_VGG = 128  # filters of each block
_VGG_POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))  # (frames, bands), stride
# Our names of a batch-norm's numbers, and TensorFlow's.
_NORM_PARTS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}

Arrays = Mapping[str, NDArray[np.float32]]


def _register(name: str, family: Family, build: Callable[[int, float], Tagger], shortest: int) -> None:
    """Register the network `name`; `build(n_frames, width)` makes its layers, for `shortest` frames or more."""

    def make(
        input_shape: tuple[int, ...],
        n_classes: int,
        *,
        weights: str = "none",
        head: str = "new",
        frozen: str = "none",
        stage_rate: float = 1.0,
        width: float = 1.0,
    ) -> StagedNetwork:
        if input_shape[0] != SPEC.n_mels or input_shape[1] < shortest:
            raise UsageError(
                f"arrays of shape {tuple(input_shape)} do not fit",
                valid=f"({SPEC.n_mels}, {shortest} or more): bands and frames",
                next_step="Use the representation melspectrogram with preset: musicnn",
            )
        if weights not in WEIGHTS or head not in HEADS:
            raise UsageError(f"weights={weights!r}, head={head!r}", valid="weights none, msd or mtt; head new or tags")
        if width <= 0.0 or (weights != "none" and width != 1.0):
            raise UsageError(f"width={width} with weights {weights}", valid="above 0; 1 with published weights")
        if head == "tags" and weights == "none":
            raise UsageError("head: tags needs published weights", next_step="Set weights: msd or mtt, or head: new")
        if head == "tags" and n_classes != _N_TAGS:
            raise UsageError(
                f"the published last layer names 50 tags, not {n_classes} classes", next_step="Set head: new"
            )

        body = build(input_shape[1], width)
        network = StagedNetwork(body, body, stage_rate, input_shape, n_classes)

        if weights != "none":
            model = published(f"{weights}-{family}")
            variables = read_variables([model])[model.name]
            load_published(body, variables)
            network.weight_cards = (model.name,)
            if head == "tags":
                last = "dense_1" if family == "musicnn" else "dense"
                network.head.load_state_dict(_published_state(network.head, last, variables))

        body.freeze(frozen)
        return network

    register(name, tiny_shape=(SPEC.n_mels, max(24, shortest)), tiny_options={"width": 0.05})(make)


class Tagger(Staged):
    """A published network without its last layer: (batch, 96, frames) to (batch, width).

    Parameters
    ----------
    n_frames : int
        Frames of one input; those behind the last whole patch are left out.
    """

    def __init__(self, n_frames: int) -> None:
        super().__init__()
        self.patch_frames = min(n_frames, PATCH_FRAMES)
        self.n_patches = n_frames // self.patch_frames

    def forward(self, x: Tensor) -> Tensor:
        """Average the embedding over the patches of each input."""
        kept = x[:, :, : self.n_patches * self.patch_frames]
        patches = kept.reshape(-1, SPEC.n_mels, self.n_patches, self.patch_frames).permute(0, 2, 3, 1)

        embedding = self.embed(patches.reshape(-1, 1, self.patch_frames, SPEC.n_mels))  # (batch x patches, width)
        return embedding.reshape(-1, self.n_patches, embedding.shape[1]).mean(dim=1)

    @abstractmethod
    def embed(self, patches: Tensor) -> Tensor:
        """(patches, 1, frames, 96) to (patches, width)."""

    @abstractmethod
    def published_layers(self) -> list[tuple[str, nn.Module]]:
        """Every layer with weights, with its published name, in the order of the batch-norms' numbers."""


class MusiCnnBody(Tagger):
    """MusiCNN up to its penultimate layer.

    Parameters
    ----------
    n_frames : int
        Frames of one input.
    width : float
        Scales the number of filters of every layer; 1: as published.
    """

    stages = ("norm", "middle", "pool_norm")

    def __init__(self, n_frames: int, width: float = 1.0) -> None:
        super().__init__(n_frames)
        self.norm = nn.BatchNorm2d(1, EPSILON)
        n_channels = 0

        # the front end: filters over many bands for timbre, over many frames for rhythm
        self.timbral = nn.ModuleList()
        for frames, bands, filters in _TIMBRAL:
            n = _scaled(filters, width)
            self.timbral.append(_convolution2d(1, n, (frames, bands), (0, 0, 3, 3)))
            n_channels += n
        self.temporal = nn.ModuleList()
        for frames, filters in _TEMPORAL:
            n = _scaled(filters, width)
            self.temporal.append(_convolution2d(1, n, (frames, 1), (0, 0, (frames - 1) // 2, frames // 2)))
            n_channels += n

        middle = _scaled(_MIDDLE, width)
        self.middle = nn.ModuleList()
        for before in (n_channels, middle, middle):
            self.middle.append(Block(nn.Conv1d(before, middle, 7), nn.BatchNorm1d(middle, EPSILON), (3, 3)))

        # maximum and mean of the front end's channels and of those of the three layers behind it
        n_pooled = 2 * (n_channels + 3 * middle)
        self.pool_norm = nn.BatchNorm1d(n_pooled, EPSILON)
        self.dense = nn.Linear(n_pooled, _scaled(_DENSE, width))
        self.dense_norm = nn.BatchNorm1d(_scaled(_DENSE, width), EPSILON)

    def channels(self, patches: Tensor) -> Tensor:
        """All channels of the convolutions over time, (patches, 1, frames, 96) to (patches, 753, frames)."""
        normed = self.norm(patches)
        front = [layer(normed).amax(dim=3) for layer in (*self.timbral, *self.temporal)]
        layers = [torch.cat(front, dim=1)]

        for number, layer in enumerate(self.middle):
            hidden = layer(layers[-1])
            if number:  # the first has other channels than what it reads
                hidden = hidden + layers[-1]
            layers.append(hidden)

        return torch.cat(layers, dim=1)

    def embed(self, patches: Tensor) -> Tensor:
        """(patches, 1, frames, 96) to (patches, 200)."""
        channels = self.channels(patches)
        pooled = torch.stack([channels.amax(dim=2), channels.mean(dim=2)], dim=2).flatten(1)  # max0, mean0, max1 ...
        embedding: Tensor = self.dense_norm(torch.relu(self.dense(self.pool_norm(pooled))))
        return embedding

    def published_layers(self) -> list[tuple[str, nn.Module]]:
        """Every layer with weights, with its published name."""
        blocks = [*self.timbral, *self.temporal, *self.middle]
        convolutions = [block.get_submodule("convolution") for block in blocks]
        norms = [self.norm, *(block.get_submodule("norm") for block in blocks), self.pool_norm, self.dense_norm]
        return [
            *_numbered("conv2d", convolutions),
            ("dense", self.dense),
            *_numbered("batch_normalization", norms),
        ]


class VggBody(Tagger):
    """The VGG tagger up to its only dense layer; parameters as in `MusiCnnBody`."""

    stages = ("norm", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4")

    def __init__(self, n_frames: int, width: float = 1.0) -> None:
        super().__init__(n_frames)
        self.norm = nn.BatchNorm2d(1, EPSILON)
        n = _scaled(_VGG, width)
        sizes = (1, n, n, n, n)
        self.blocks = nn.ModuleList(_convolution2d(before, n, (3, 3), (1, 1, 1, 1)) for before in sizes)

    def embed(self, patches: Tensor) -> Tensor:
        """(patches, 1, frames, 96) to (patches, 256)."""
        hidden = self.norm(patches)
        for block, (size, stride) in zip(self.blocks, _VGG_POOLS, strict=True):
            hidden = nn.functional.max_pool2d(block(hidden), size, stride)

        flat: Tensor = hidden.permute(0, 2, 3, 1).flatten(1)  # in TensorFlow's order
        return flat

    def published_layers(self) -> list[tuple[str, nn.Module]]:
        """Every layer with weights, with its published name."""
        convolutions = [(f"{n}CNN", block.get_submodule("convolution")) for n, block in enumerate(self.blocks, 1)]
        norms = [self.norm, *(block.get_submodule("norm") for block in self.blocks)]
        return [*convolutions, *_numbered("batch_normalization", norms)]


class Block(nn.Module):
    """Convolution, bias, ReLU, batch-norm, as published: many batch-norm scales are negative, so no pool before it."""

    def __init__(self, convolution: nn.Module, norm: nn.Module, padding: tuple[int, ...]) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Zero-pad, convolve."""
        normed: Tensor = self.norm(torch.relu(self.convolution(nn.functional.pad(x, self.padding))))
        return normed


def load_published(body: Tagger, variables: Arrays) -> None:
    """Put the published variables in the place of a network's own; every name and shape must agree."""
    names = {id(module): name for name, module in body.published_layers()}
    state: dict[str, Tensor] = {}
    for path, module in body.named_modules():
        if id(module) in names:
            for key, value in _published_state(module, names[id(module)], variables).items():
                state[f"{path}.{key}"] = value

    body.load_state_dict(state, strict=True)


def _published_state(module: nn.Module, name: str, variables: Arrays) -> dict[str, Tensor]:
    """State of one layer from the variables of its published name, their axes in PyTorch's order."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        state = {ours: _tensor(variables[f"{name}/{theirs}"]) for ours, theirs in _NORM_PARTS.items()}
        return {**state, "num_batches_tracked": torch.tensor(0)}

    kernel = variables[f"{name}/kernel"]
    if isinstance(module, nn.Conv1d):  # (frames, in, 1, out)
        kernel = kernel[:, :, 0].transpose(2, 1, 0)
    elif isinstance(module, nn.Conv2d):  # (frames, bands, in, out)
        kernel = kernel.transpose(3, 2, 0, 1)
    else:
        kernel = kernel.T

    return {"weight": _tensor(kernel), "bias": _tensor(variables[f"{name}/bias"])}


def _tensor(array: NDArray[np.float32]) -> Tensor:
    """Copy an array: learning must not change the published ones."""
    return torch.from_numpy(np.array(array, np.float32))


def _numbered(name: str, layers: Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Name layers as TensorFlow numbers them."""
    return [(f"{name}_{number}" if number else name, layer) for number, layer in enumerate(layers)]


def _convolution2d(before: int, n: int, size: tuple[int, int], padding: tuple[int, ...]) -> Block:
    """Make a block of a two-dimensional convolution."""
    return Block(nn.Conv2d(before, n, size), nn.BatchNorm2d(n, EPSILON), padding)


def _scaled(n: int, width: float) -> int:
    """Number of filters of a network `width` times as wide."""
    return max(1, round(n * width))


_register("musicnn", "musicnn", MusiCnnBody, shortest=1)
_register("musicnn-vgg", "vgg", VggBody, shortest=PATCH_FRAMES)
