"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556), configurations B, D and E, without batch-norm."""

from __future__ import annotations

from torch import Tensor, nn

from musicgenre.models._staged import IMAGENET_CLASSES, AveragePool, Backbone

# Convolutions of each of the five blocks; every block ends in a pool.
DEPTHS = {13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
_GRID = 7
_WIDTH = 4_096


class VGG(Backbone):
    """VGG of 13, 16 or 19 layers.

    Parameters
    ----------
    depth : {13, 16, 19}
        Layers with weights.
    dropout : float
        Rate behind each of the two wide layers.
    """

    first = "features.0"

    def __init__(self, depth: int, *, dropout: float = 0.5) -> None:
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
            nn.Dropout(dropout),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
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
        made: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return made

    def strip(self, *, own_head: bool) -> None:
        """Take the last layer away, or all three behind the convolutions."""
        self.classifier = nn.Sequential() if own_head else nn.Sequential(*list(self.classifier)[:-1])

    def drop_pool(self) -> None:
        """Take the average pool away: the convolutions' map is flattened as it is."""
        self.avgpool = nn.Identity()

    def make_head(self, width: int, n_classes: int) -> nn.Module:
        """Make a linear layer."""
        return nn.Linear(width, n_classes)
