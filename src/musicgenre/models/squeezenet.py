"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016, https://arxiv.org/abs/1602.07360)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musicgenre.errors import UsageError
from musicgenre.models.imagenet import IMAGENET_CLASSES, Backbone, register_backbone

# Channels and kernel of the first convolution; then "pool", or what a fire module squeezes to (it gives 8 times that).
VARIANTS: dict[str, tuple[tuple[int, int], tuple[int | str, ...]]] = {
    "squeezenet-1.0": ((96, 7), ("pool", 16, 16, 32, "pool", 32, 48, 48, 64, "pool", 64)),
    "squeezenet-1.1": ((64, 3), ("pool", 16, 16, "pool", 32, 32, "pool", 48, 48, 64, 64)),
}

_WIDTH = 512  # channels that the last convolution reads


class SqueezeNet(Backbone):
    """Fire modules, then a convolution to the classes and an average pool.

    Parameters
    ----------
    variant : str
        A key of `VARIANTS`.
    """

    first = "features.0"

    def __init__(self, variant: str) -> None:
        super().__init__()
        (before, kernel), plan = VARIANTS[variant]
        layers: list[nn.Module] = [nn.Conv2d(3, before, kernel, stride=2), nn.ReLU(inplace=True)]
        starts = ["features.0"]
        for step in plan:
            if isinstance(step, int):
                layers.append(Fire(before, step))
                before = 8 * step
            else:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
                starts.append(f"features.{len(layers)}")

        self.stages = tuple(starts)
        self.features = nn.Sequential(*layers)  # (batch, 512, about height / 16, about width / 16)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Conv2d(_WIDTH, IMAGENET_CLASSES, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
        )

    def initialise(self) -> None:
        """Give every number its first value."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

        for layer in self.classifier:
            if isinstance(layer, nn.Conv2d):
                _initialise_last(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, width)."""
        features: Tensor = self.classifier(self.features(x))
        return features.flatten(1)

    def strip(self, *, own_head: bool) -> None:
        """Take the last convolution away, with the ReLU and the pool behind it."""
        if own_head:
            raise UsageError(
                "a SqueezeNet has no room for hidden layers: its last layer is a convolution",
                valid="hidden: null, which replaces that convolution",
            )
        self.classifier = nn.Sequential(*list(self.classifier)[:1])

    def drop_pool(self) -> None:
        """Refuse: the pool stands behind the last layer."""
        raise UsageError("a SqueezeNet needs its average pool, which stands behind its last layer")

    def make_head(self, width: int, n_classes: int) -> nn.Module:
        """Make a convolution with its ReLU and pool, for the map of (batch, 512, height, width) flattened."""
        return _LastConvolution(n_classes)


class Fire(nn.Module):
    """Squeeze by a 1x1 convolution, expand by 1x1 and 3x3 convolutions side by side.

    Parameters
    ----------
    before : int
        Channels that come in.
    squeezed : int
        Channels between; 8 times as many go out.
    """

    def __init__(self, before: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand3x3 = nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, height, width) to (batch, 8 * squeezed, height, width)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], dim=1)


class _LastConvolution(nn.Module):
    """1x1 convolution, ReLU and mean over the map, which comes flattened: (batch, 512 * cells) to (batch, classes)."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(_WIDTH, n_classes, 1)
        _initialise_last(self.convolution)

    def forward(self, features: Tensor) -> Tensor:
        cells = features.reshape(features.shape[0], _WIDTH, -1, 1)
        logits: Tensor = self.convolution(cells).relu().mean(dim=(2, 3))
        return logits


def _initialise_last(layer: nn.Conv2d) -> None:
    """Draw the weights of a convolution to the classes, near enough to 0 that all classes begin alike."""
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


for _name in VARIANTS:
    register_backbone(_name, SqueezeNet, _name)
