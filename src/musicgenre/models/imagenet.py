"""Networks for photographs on spectrograms (B8's depth study, E6): VGG, ResNet, ResNeXt and SqueezeNet.

Layers are named as in torchvision, so that the published weights load with ``strict=True``; see ``docs/imagenet.md``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.features.representations.picture import resampled
from musicgenre.models import _resnet, _squeezenet, _vgg
from musicgenre.models._network import Network, width_after
from musicgenre.models._published_weights import cards_of, find_weights, load_strictly
from musicgenre.models._staged import Backbone, StagedNetwork
from musicgenre.models.registry import register

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Front(nn.Module):
    """What stands in front of the network: colours, size, scale.

    Parameters
    ----------
    input_shape : tuple of int
        (height, width) of a spectrogram, or (1 or 3, height, width) of a picture.
    channels : {1, 3}
        Channels that the network reads; a single one is given three times if it reads three.
    size : int, optional
        Resize to ``size`` x ``size``, linearly, wide enough that every value counts.
    imagenet_scale : bool
        Take pictures in [-1, 1] to mean 0 and deviation 1 of ImageNet's colours.
    """

    rows: Tensor
    columns: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, input_shape: tuple[int, ...], channels: int, size: int | None, imagenet_scale: bool) -> None:
        super().__init__()
        self.flat = len(input_shape) == 2
        self.repeat = channels == 3 and (self.flat or input_shape[0] == 1)
        height, width = input_shape[-2:]
        self.resize = size is not None and (height, width) != (size, size)
        self.imagenet_scale = imagenet_scale
        # made anew with the network: nothing here is learnt, so nothing is stored
        if size is not None and self.resize:
            self.register_buffer("rows", _resizing(height, size), persistent=False)
            self.register_buffer("columns", _resizing(width, size).T.contiguous(), persistent=False)
        if imagenet_scale:
            self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *input_shape) to (batch, channels, height, width)."""
        if self.flat:
            x = x.unsqueeze(1)
        if self.resize:
            x = self.rows @ x @ self.columns
        if self.repeat:
            x = torch.cat([x, x, x], dim=1)
        if self.imagenet_scale:
            x = ((x + 1.0) * 0.5 - self.mean) / self.std
        return x


class ImageNetNetwork(StagedNetwork):
    """A backbone without its last layer, what stands in front of it, and a last layer for our classes.

    Parameters
    ----------
    front : Front
        Arrays in, pictures out.
    backbone : Backbone
        Stripped of its last layer.
    hidden : sequence of int
        Widths of linear layers between backbone and last layer, each with ReLU and dropout.
    dropout : float
        Their rate.
    stage_rate : float
        How much slower each stage learns than the one behind it; the last layer and ``hidden`` learn at full rate.
    input_shape : tuple of int
        Shape of one input.
    n_classes : int
        Number of logits.
    """

    def __init__(
        self,
        front: Front,
        backbone: Backbone,
        hidden: Sequence[int],
        dropout: float,
        stage_rate: float,
        input_shape: tuple[int, ...],
        n_classes: int,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict(front=front, backbone=backbone)
        if hidden:
            before = width_after(nn.Sequential(front, backbone), input_shape)
            layers: list[nn.Module] = []
            for width in hidden:
                layers += [nn.Linear(before, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
                before = width
            parts["hidden"] = nn.Sequential(*layers)
        super().__init__(nn.Sequential(parts), backbone, stage_rate, input_shape, n_classes)
        self.own_layers = bool(hidden)
        self.reset_head(n_classes)

    @property
    def backbone(self) -> Backbone:
        """The published layers."""
        return cast("Backbone", self.body.get_submodule("backbone"))

    def reset_head(self, n_classes: int) -> None:
        """Replace the last layer by a fresh one with ``n_classes`` outputs."""
        if self.own_layers:
            super().reset_head(n_classes)
        else:
            self.head = self.backbone.make_head(self.embedding_width, n_classes)


def _maker(name: str, build: Callable[[float], Backbone]) -> Callable[..., Network]:
    def make(
        input_shape: tuple[int, ...],
        n_classes: int,
        *,
        weights: str = "none",
        input_channels: int | None = None,
        size: int | None = None,
        imagenet_scale: bool = False,
        frozen: str = "none",
        stage_rate: float = 1.0,
        hidden: Sequence[int] | None = None,
        average_pool: bool = True,
        dropout: float = 0.5,
    ) -> Network:
        channels = _checked_channels(input_shape, input_channels, imagenet_scale)
        if not 0.0 <= dropout < 1.0 or (size is not None and size < 1):
            raise UsageError(f"dropout={dropout}, size={size}", valid="dropout from 0 to below 1, size 1 or more")
        with torch.device("meta"):  # nothing is drawn only to be thrown away
            backbone = build(dropout)
        if weights != "none":
            load_strictly(backbone, find_weights(str(weights), name))
        backbone.strip(own_head=hidden is not None)
        if weights == "none":
            backbone.to_empty(device=torch.get_default_device())
            backbone.initialise()
        if channels == 1:
            backbone.fold_colours()
        if not average_pool:
            backbone.drop_pool()
        backbone.freeze(frozen)
        front = Front(input_shape, channels, size, imagenet_scale)
        made = ImageNetNetwork(front, backbone, hidden or (), dropout, stage_rate, input_shape, n_classes)
        made.weight_cards = cards_of(str(weights), name)
        return made

    return make


def _checked_channels(input_shape: tuple[int, ...], wanted: int | None, imagenet_scale: bool) -> int:
    given = 1 if len(input_shape) == 2 else input_shape[0]
    channels = given if wanted is None else wanted
    if given not in (1, 3) or channels not in (1, 3) or given > channels:
        raise UsageError(
            f"input_channels={wanted} with arrays of shape {input_shape}",
            valid="1 or 3 channels; (height, width), (1, height, width) or (3, height, width)",
        )
    if imagenet_scale and channels == 1:
        raise UsageError("imagenet_scale needs three channels", next_step="Set input_channels: 3, or leave it out")
    return channels


def _resizing(n_old: int, n_new: int) -> Tensor:
    """Weights of the old positions for each new one, (n_new, n_old)."""
    return torch.tensor(resampled(np.eye(n_old, dtype=np.float32), n_new, n_old))


def _register_all() -> None:
    makers: dict[str, Callable[[float], Backbone]] = {}
    for depth in _vgg.DEPTHS:
        makers[f"vgg{depth}"] = lambda dropout, depth=depth: _vgg.VGG(depth, dropout=dropout)  # type: ignore[misc]
    for name, variant in _resnet.VARIANTS.items():
        makers[name] = lambda _, variant=variant: _resnet.ResNet(variant)  # type: ignore[misc]
    for name in _squeezenet.VARIANTS:
        makers[name] = lambda dropout, name=name: _squeezenet.SqueezeNet(name, dropout=dropout)  # type: ignore[misc]
    for name, build in makers.items():
        small = {"hidden": (16,)} if name.startswith("vgg") else {}
        register(name, tiny_shape=(3, 32, 32), dims=(2, 3), tiny_options=small)(_maker(name, build))


_register_all()
