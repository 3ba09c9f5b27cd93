"""ResNet (He et al. 2015, https://arxiv.org/abs/1512.03385) and ResNeXt (Xie et al. 2016, arXiv:1611.05431)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from musicgenre.models.imagenet import IMAGENET_CLASSES, Backbone, register_backbone

_STEM_CHANNELS = 64
_EXPANSION = 4  # channels that leave a bottleneck for each that its 3x3 convolution has in a ResNet


@dataclass(frozen=True, slots=True)
class Variant:
    """One network of the family.

    Parameters
    ----------
    blocks : tuple of int
        Blocks of the four stages.
    bottleneck : bool
        Blocks of three convolutions (1x1, 3x3, 1x1) in place of two (3x3).
    groups, group_width : int
        Groups of the 3x3 convolutions and channels of one group in the first stage; 1 and 64 is a ResNet.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    groups: int = 1
    group_width: int = 64


VARIANTS = {
    "resnet18": Variant((2, 2, 2, 2), bottleneck=False),
    "resnet34": Variant((3, 4, 6, 3), bottleneck=False),
    "resnet50": Variant((3, 4, 6, 3), bottleneck=True),
    "resnet101": Variant((3, 4, 23, 3), bottleneck=True),
    "resnext50-32x4d": Variant((3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
    "resnext101-32x8d": Variant((3, 4, 23, 3), bottleneck=True, groups=32, group_width=8),
}


class ResNet(Backbone):
    """A stem, four stages of blocks, an average pool, one linear layer.

    Parameters
    ----------
    variant : Variant
        Which.
    """

    first = "conv1"
    stages = ("conv1", "layer1", "layer2", "layer3", "layer4")

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM_CHANNELS, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)  # (batch, 64, height / 4, width / 4)

        before = _STEM_CHANNELS
        for number, count in enumerate(variant.blocks):
            # Every stage has twice the channels of the one in front of it, and all but the first halve both axes.
            plain = _STEM_CHANNELS << number
            inner = plain * variant.groups * variant.group_width // _STEM_CHANNELS
            after = plain * _EXPANSION if variant.bottleneck else plain

            blocks = []
            for position in range(count):
                stride = 2 if position == 0 and number else 1
                blocks.append(_Block(before, inner, after, stride, variant.groups, variant.bottleneck))
                before = after
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))

        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Linear(before, IMAGENET_CLASSES)

    def initialise(self) -> None:
        """Give every number its first value."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.BatchNorm2d | nn.Linear):
                layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, width)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages[1:]:
            x = self.get_submodule(name)(x)

        features: Tensor = self.fc(self.avgpool(x).flatten(1))
        return features

    def strip(self, *, own_head: bool) -> None:
        """Take the last layer away; there is none other behind the convolutions."""
        self.fc = nn.Identity()

    def drop_pool(self) -> None:
        """Take the average pool away: the convolutions' map is flattened as it is."""
        self.avgpool = nn.Identity()


class _Block(nn.Module):
    """Two or three convolutions, their result added to their input.

    The stride is taken by the 3x3 convolution of a bottleneck, as in the published weights.
    """

    def __init__(self, before: int, inner: int, after: int, stride: int, groups: int, bottleneck: bool) -> None:
        super().__init__()
        # channels in, channels out, kernel, stride, groups
        if bottleneck:
            steps = [(before, inner, 1, 1, 1), (inner, inner, 3, stride, groups), (inner, after, 1, 1, 1)]
        else:
            steps = [(before, inner, 3, stride, 1), (inner, after, 3, 1, 1)]

        self.depth = len(steps)
        for number, (old, new, kernel, step, parts) in enumerate(steps, 1):
            convolution = nn.Conv2d(old, new, kernel, step, kernel // 2, groups=parts, bias=False)
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"bn{number}", nn.BatchNorm2d(new))
        self.relu = nn.ReLU(inplace=True)

        # where the shape changes, the input has to be brought to it before it can be added
        self.downsample: nn.Sequential | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        past = x if self.downsample is None else self.downsample(x)
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x))
            if number < self.depth:
                x = self.relu(x)

        summed: Tensor = self.relu(x + past)
        return summed


for _name, _variant in VARIANTS.items():
    register_backbone(_name, ResNet, _variant)
