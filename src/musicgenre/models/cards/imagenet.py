"""Published weights of the ImageNet networks; the beginning of its SHA-256 stands in each file's name."""

from __future__ import annotations

from musicgenre._weight_files import hash_in_name
from musicgenre.models.cards import WeightCard

ADDRESS = "https://download.pytorch.org/models/"

_VGG = "Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2014"
_RESNET = "He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2015"
_RESNEXT = "Xie, Girshick, Dollar, Tu and He, Aggregated residual transformations for deep neural networks, 2016"
_SQUEEZENET = "Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016"
_WSL = "Mahajan et al., Exploring the limits of weakly supervised pretraining, 2018"


def _card(
    model: str,
    file: str,
    citation: str,
    *,
    source: str = "imagenet",
    origin: str = "ImageNet-1k (ILSVRC 2012), trained by torchvision",
    licence: str = "BSD-3-Clause (torchvision); ImageNet's own terms bind its pictures",
) -> WeightCard:
    return WeightCard(
        name=f"{model}/{source}",
        model=model,
        file=file,
        url=ADDRESS + file,
        sha256=hash_in_name(file),
        reads="pictures, red, green and blue, 224 x 224",
        sample_rate_hz=None,
        window_s=None,
        classes=1_000,
        licence=licence,
        origin=origin,
        citation=citation,
    )


IMAGENET = {
    card.model: card
    for card in (
        _card("vgg13", "vgg13-19584684.pth", _VGG),
        _card("vgg16", "vgg16-397923af.pth", _VGG),
        _card("vgg19", "vgg19-dcbb9e9d.pth", _VGG),
        _card("resnet18", "resnet18-f37072fd.pth", _RESNET),
        _card("resnet34", "resnet34-b627a593.pth", _RESNET),
        _card("resnet50", "resnet50-0676ba61.pth", _RESNET),
        _card("resnet101", "resnet101-63fe2227.pth", _RESNET),
        _card("resnext50-32x4d", "resnext50_32x4d-7cdf4587.pth", _RESNEXT),
        _card("resnext101-32x8d", "resnext101_32x8d-8ba56ff5.pth", _RESNEXT),
        _card("squeezenet-1.0", "squeezenet1_0-b66bff10.pth", _SQUEEZENET),
        _card("squeezenet-1.1", "squeezenet1_1-b8a52dc0.pth", _SQUEEZENET),
    )
}
"""Weights trained on ImageNet, by the model's name."""

WEAKLY_SUPERVISED = {
    "resnext101-32x8d": _card(
        "resnext101-32x8d",
        "ig_resnext101_32x8-c38310e5.pth",
        _WSL,
        source="weakly-supervised",
        origin="940 million pictures with hashtags, then ImageNet-1k; by Facebook AI",
        licence="CC BY-NC 4.0: not for commercial use",
    )
}
"""E6's weakly supervised weights."""

CARDS = (*IMAGENET.values(), *WEAKLY_SUPERVISED.values())
