"""Networks of published sizes with fewer channels: every layer and block stays, and little time goes by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from musicgenre.features.published.vggish import network as vggish
from musicgenre.models import resnet, squeezenet, vgg


def narrow_vgg(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vgg, "_CHANNELS", (32,) * len(vgg._CHANNELS))


def narrow_resnet(patch: pytest.MonkeyPatch) -> None:
    full = resnet.ResNet.__init__

    def init(self: resnet.ResNet, variant: resnet.Variant) -> None:
        if variant.groups == 1:
            full(self, replace(variant, group_width=variant.group_width // 8))
        else:
            full(self, replace(variant, groups=variant.groups // 16, group_width=variant.group_width // 2))

    patch.setattr(resnet, "_STEM_CHANNELS", resnet._STEM_CHANNELS // 8)
    patch.setattr(resnet.ResNet, "__init__", init)


def narrow_squeezenet(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(squeezenet, "_WIDTH", squeezenet._WIDTH // 2)
    for name, ((channels, kernel), plan) in squeezenet.VARIANTS.items():
        patch.setitem(squeezenet.VARIANTS, name, ((channels // 2, kernel), _divided(plan, 2)))


def narrow_vggish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vggish, "_PLAN", _divided(vggish._PLAN, 8))
    patch.setattr(vggish, "_MAP_CHANNELS", vggish._MAP_CHANNELS // 8)


NARROW: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "vgg": narrow_vgg,
    "resnet": narrow_resnet,
    "squeezenet": narrow_squeezenet,
    "vggish": narrow_vggish,
}
"""What narrows a family that has no option for its width."""


def _divided(plan: tuple[int | str, ...], by: int) -> tuple[int | str, ...]:
    return tuple(step // by if isinstance(step, int) else step for step in plan)
