"""Networks for photographs on spectrograms (B8's depth study, E6): what VGG, ResNet and SqueezeNet have in common.

Each of these families has a file of its own. Layers are named as in torchvision, so that the published weights load
with `strict=True`; see `docs/imagenet.md`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from musicgenre._files import sha256_of
from musicgenre._weight_files import WeightFile, cached_or_fetched, load_strictly
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.representations.picture import resampled
from musicgenre.models.cards import WeightCard, card_of
from musicgenre.models.cards.imagenet import IMAGENET, WEAKLY_SUPERVISED
from musicgenre.models.network import Network, Staged, StagedNetwork, width_after
from musicgenre.models.registry import register

IMAGENET_CLASSES = 1_000
# Of red, green and blue in ImageNet's pictures, with values in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_PUBLISHED = {"imagenet": IMAGENET, "weakly-supervised": WEAKLY_SUPERVISED}

Variant = TypeVar("Variant")


def register_backbone(
    name: str,
    backbone_of: Callable[[Variant], Backbone],
    variant: Variant,
    *,
    tiny_options: Mapping[str, Any] | None = None,
) -> None:
    """Register the network `name`, whose layers are `backbone_of(variant)`.

    Parameters
    ----------
    name : str
        The registered name.
    backbone_of : type of Backbone
        Its family; called with `variant`.
    variant : object
        Which of the family.
    tiny_options : mapping, optional
        Options that make it small for tests.
    """

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
        channels = _channels_to_read(input_shape, input_channels, imagenet_scale)
        if not 0.0 <= dropout < 1.0 or (size is not None and size < 1):
            raise UsageError(f"dropout={dropout}, size={size}", valid="dropout from 0 to below 1, size 1 or more")

        with torch.device("meta"):  # nothing is drawn only to be thrown away
            backbone = backbone_of(variant)
        backbone.set_dropout(dropout)

        # Published weights go in while the layers are still all there; fresh ones are drawn for those that stay.
        if weights != "none":
            valid = "torchvision's names and shapes, three colours in, 1,000 classes out"
            load_strictly(backbone, find_weights(str(weights), name), valid=valid)
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
        network = ImageNetNetwork(front, backbone, hidden or (), dropout, stage_rate, input_shape, n_classes)
        network.weight_cards = cards_of(str(weights), name)
        return network

    make.__module__ = backbone_of.__module__  # the family is the file that holds the layers, not this one
    register(
        name,
        tiny_shape=(3, 32, 32),
        dims=(2, 3),
        tiny_options=tiny_options,
        find_weights=lambda model, options: find_weights(str(options["weights"]), model),
    )(make)


class Backbone(Staged):
    """A network for photographs, its layers named as in torchvision, so that the published files fit.

    Attributes
    ----------
    first : str
        Name of the first convolution.
    """

    first: str

    @abstractmethod
    def initialise(self) -> None:
        """Give every number its first value: weights drawn as torchvision draws them."""

    @abstractmethod
    def strip(self, *, own_head: bool) -> None:
        """Take the last layer away, and with `own_head` every layer behind the convolutions.

        Then `forward` gives what a last layer reads, (batch, width).
        """

    @abstractmethod
    def drop_pool(self) -> None:
        """Take the average pool away.

        Raises
        ------
        UsageError
            If the network cannot do without.
        """

    def make_head(self, width: int, n_classes: int) -> nn.Module:
        """Make a last layer with fresh weights: (batch, width) to (batch, n_classes)."""
        return nn.Linear(width, n_classes)

    def set_dropout(self, rate: float) -> None:
        """Set the rate of every dropout among the layers; a ResNet has none."""
        for layer in self.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = rate

    def fold_colours(self) -> None:
        """Let the first convolution read one channel: its weights are summed, as if three equal channels came."""
        owner, _, name = self.first.rpartition(".")
        old = self.get_submodule(self.first)
        assert isinstance(old, nn.Conv2d)

        new = nn.Conv2d(
            1,
            old.out_channels,
            cast("tuple[int, int]", old.kernel_size),
            cast("tuple[int, int]", old.stride),
            cast("tuple[int, int]", old.padding),
            bias=old.bias is not None,
        )
        with torch.no_grad():
            new.weight = nn.Parameter(old.weight.sum(dim=1, keepdim=True))
            new.bias = old.bias

        setattr(self.get_submodule(owner), name, new)


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
        How much slower each stage learns than the one behind it; the last layer and `hidden` learn at full rate.
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
        """Replace the last layer by a fresh one with `n_classes` outputs."""
        if self.own_layers:
            super().reset_head(n_classes)
        else:
            self.head = self.backbone.make_head(self.embedding_width, n_classes)


class Front(nn.Module):
    """What stands in front of the network: colours, size, scale.

    Parameters
    ----------
    input_shape : tuple of int
        (height, width) of a spectrogram, or (1 or 3, height, width) of a picture.
    channels : {1, 3}
        Channels that the network reads; a single one is given three times if it reads three.
    size : int, optional
        Resize to `size` x `size`, linearly, wide enough that every value counts.
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

        # Nothing here is learnt: it is computed again with every network, and not stored.
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


def find_weights(weights: str, model: str) -> Path:
    """Find a weight file, downloaded where need be.

    Parameters
    ----------
    weights : str
        `imagenet`, `weakly-supervised`, or the path of a file.
    model : str
        Registered name of the network.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BundleError
        It is not there and cannot be fetched.
    """
    if weights in _PUBLISHED:
        published = _PUBLISHED[weights]
        if model not in published:
            raise BundleError(
                f"there are no {weights} weights for {model}", valid=f"They exist for {', '.join(published)}"
            )

        card = published[model]
        return cached_or_fetched(WeightFile(card.file, card.url, card.sha256), "model.options.weights")

    path = Path(weights).expanduser()
    if not path.is_file():
        valid = "weights: none, imagenet, or the path of a file"
        if model in WEAKLY_SUPERVISED:
            valid += ", or weakly-supervised"
        raise BundleError(
            f"there is no weights file {path}",
            valid=valid,
            next_step=f"The file for {model} is {IMAGENET[model].url}",
        )
    return path


def cards_of(weights: str, model: str) -> tuple[WeightCard | str, ...]:
    """Cards of these weights, or their names; none for fresh ones. The card of one's own file knows its checksum."""
    if weights == "none":
        return ()
    if weights in _PUBLISHED:
        return (f"{model}/{weights}",)

    path = Path(weights).expanduser()
    for card in (*IMAGENET.values(), *WEAKLY_SUPERVISED.values()):
        if card.file == path.name:
            return (card.name,)

    reads = IMAGENET[model].reads
    own = card_of(name=path.name, model=model, sha256=sha256_of(path), reads=reads, sample_rate_hz=None, window_s=None)
    return (own,)


def _channels_to_read(input_shape: tuple[int, ...], wanted: int | None, imagenet_scale: bool) -> int:
    """Channels of the network, 1 or 3: what is wanted, else what is given."""
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
