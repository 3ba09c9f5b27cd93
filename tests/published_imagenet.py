"""Names and shapes of the published ImageNet weight files, written down apart from the code that reads them."""

from __future__ import annotations

from pathlib import Path

import torch

Shapes = dict[str, tuple[int, ...]]

_VGG_PLANS = {
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
# blocks a stage, whether a block is a bottleneck, channels of the first 3x3 convolution, groups
_RESNETS = {
    "resnet18": ((2, 2, 2, 2), False, 64, 1),
    "resnet34": ((3, 4, 6, 3), False, 64, 1),
    "resnet50": ((3, 4, 6, 3), True, 64, 1),
    "resnet101": ((3, 4, 23, 3), True, 64, 1),
    "resnext50-32x4d": ((3, 4, 6, 3), True, 128, 32),
    "resnext101-32x8d": ((3, 4, 23, 3), True, 256, 32),
}
# number of a fire module in ``features``: channels in, squeezed, expanded by each of its two convolutions
_FIRES = {
    "squeezenet-1.0": {3: (96, 16, 64), 4: (128, 16, 64), 5: (128, 32, 128), 7: (256, 32, 128), 8: (256, 48, 192),
                       9: (384, 48, 192), 10: (384, 64, 256), 12: (512, 64, 256)},
    "squeezenet-1.1": {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128), 9: (256, 48, 192),
                       10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)},
}  # fmt: skip
PARAMETERS = {
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnext50-32x4d": 25_028_904,
    "resnext101-32x8d": 88_791_336,
    "squeezenet-1.0": 1_248_424,
    "squeezenet-1.1": 1_235_496,
}
"""Published counts, with 1,000 classes."""


def published_shapes(name: str) -> Shapes:
    """Names and shapes in the published file of a model, in its order."""
    if name in _VGG_PLANS:
        return _vgg(_VGG_PLANS[name].split())
    return _resnet(*_RESNETS[name]) if name in _RESNETS else _squeezenet(name)


def write_published(folder: Path, name: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a small file with the published names and shapes: one number a tensor, stretched to its shape."""
    generator = torch.Generator().manual_seed(9)
    values = {
        key: torch.rand(1, generator=generator).expand(shape) if shape else torch.tensor(0)
        for key, shape in published_shapes(name).items()
    }
    path = folder / f"{name}.pth"
    torch.save(values, path)
    return path, values


def _layer(found: Shapes, name: str, *shape: int, bias: bool = True) -> None:
    found[f"{name}.weight"] = shape
    if bias:
        found[f"{name}.bias"] = shape[:1]


def _norm(found: Shapes, name: str, channels: int) -> None:
    for part in ("weight", "bias", "running_mean", "running_var"):
        found[f"{name}.{part}"] = (channels,)
    found[f"{name}.num_batches_tracked"] = ()


def _vgg(plan: list[str]) -> Shapes:
    found: Shapes = {}
    at, before = 0, 3
    for step in plan:
        if step == "M":
            at += 1
            continue
        _layer(found, f"features.{at}", int(step), before, 3, 3)
        at, before = at + 2, int(step)
    _layer(found, "classifier.0", 4096, 25088)
    _layer(found, "classifier.3", 4096, 4096)
    _layer(found, "classifier.6", 1000, 4096)
    return found


def _resnet(blocks: tuple[int, ...], bottleneck: bool, inner: int, groups: int) -> Shapes:
    found: Shapes = {}
    _layer(found, "conv1", 64, 3, 7, 7, bias=False)
    _norm(found, "bn1", 64)
    before, after = 64, 256 if bottleneck else 64
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            if bottleneck:
                steps = [(inner, before, 1), (inner, inner // groups, 3), (after, inner, 1)]
            else:
                steps = [(inner, before, 3), (after, inner, 3)]
            for number, (new, old, kernel) in enumerate(steps, 1):
                _layer(found, f"{at}.conv{number}", new, old, kernel, kernel, bias=False)
                _norm(found, f"{at}.bn{number}", new)
            if before != after:
                _layer(found, f"{at}.downsample.0", after, before, 1, 1, bias=False)
                _norm(found, f"{at}.downsample.1", after)
            before = after
        inner, after = 2 * inner, 2 * after
    _layer(found, "fc", 1000, before)
    return found


def _squeezenet(name: str) -> Shapes:
    found: Shapes = {}
    first, kernel = (96, 7) if name.endswith("0") else (64, 3)
    _layer(found, "features.0", first, 3, kernel, kernel)
    for at, (before, squeezed, expanded) in _FIRES[name].items():
        _layer(found, f"features.{at}.squeeze", squeezed, before, 1, 1)
        _layer(found, f"features.{at}.expand1x1", expanded, squeezed, 1, 1)
        _layer(found, f"features.{at}.expand3x3", expanded, squeezed, 3, 3)
    _layer(found, "classifier.1", 1000, 512, 1, 1)
    return found
