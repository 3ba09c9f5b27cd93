"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556), configurations B, D and E, without batch-norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musicgenre.models.imagenet import IMAGENET_CLASSES, Backbone, register_backbone

# Convolutions of each of the five blocks, by the number of layers with weights; every block ends in a pool.
DEPTHS = {13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

_CHANNELS = (64, 128, 256, 512, 512)  # of the blocks
_GRID = 7  # cells along each side of the map that the wide layers read
_WIDTH = 4_096  # of the wide layers


class VGG(Backbone):
    """VGG of 13, 16 or 19 layers.

    Parameters
    ----------
    depth : {13, 16, 19}
        Layers with weights.
    """

    first = "features.0"

    def __init__(self, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        starts: list[str] = []
        before = 3
        for channels, count in zip(_CHANNELS, DEPTHS[depth], strict=True):
            starts.append(f"features.{len(layers)}")
            for _ in range(count):
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
                before = channels
            layers.append(nn.MaxPool2d(2))

        self.stages = (*starts, "classifier")
        self.features = nn.Sequential(*layers)  # (batch, 512, height / 32, width / 32)
        self.avgpool: nn.Module = AveragePool(_GRID)
        self.classifier = nn.Sequential(
            nn.Linear(before * _GRID * _GRID, _WIDTH),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(_WIDTH, IMAGENET_CLASSES),
        )

    def initialise(self) -> None:
        """Give every number its first value."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, width)."""
        features: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return features

    def strip(self, *, own_head: bool) -> None:
        """Take the last layer away, or all three behind the convolutions."""
        kept = [] if own_head else list(self.classifier)[:-1]
        self.classifier = nn.Sequential(*kept)

    def drop_pool(self) -> None:
        """Take the average pool away: the convolutions' map is flattened as it is."""
        self.avgpool = nn.Identity()


class AveragePool(nn.Module):
    """Mean over the cells of a `size` x `size` grid, as `nn.AdaptiveAvgPool2d`, written so that it exports.

    Parameters
    ----------
    size : int
        Rows and columns of what comes out.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, channels, size, size)."""
        height, width = int(x.shape[2]), int(x.shape[3])
        if (height, width) == (self.size, self.size):
            return x

        rows, columns = (_cells(old, self.size).to(x) for old in (height, width))
        return rows @ x @ columns.T


def _cells(n_old: int, n_new: int) -> Tensor:
    """Weights of the old positions in every cell, (n_new, n_old)."""
    weights = torch.zeros(n_new, n_old, device="cpu")
    for cell in range(n_new):
        # cells begin at a position rounded down and end at one rounded up, so they may overlap by one
        begin, end = cell * n_old // n_new, -(-(cell + 1) * n_old // n_new)
        weights[cell, begin:end] = 1.0 / (end - begin)

    return weights


VARIANTS = {"vgg13": 13, "vgg16": 16, "vgg19": 19}

for _name, _depth in VARIANTS.items():
    register_backbone(_name, VGG, _depth, tiny_options={"hidden": (16,)})
