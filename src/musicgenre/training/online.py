"""Online augmentation of a recipe: drawn afresh for every batch."""

from __future__ import annotations

from musicgenre.training.batches import Change
from musicgenre.training.datamodule import Augment
from musicgenre.training.material import Material
from musicgenre.training.normalise import Normalise
from musicgenre.training.recipes import Recipe


def online_augmentation(
    recipe: Recipe, material: Material, normalise: Normalise
) -> tuple[Augment | None, Change | None]:
    """Make the augmentations that the recipe asks for; ``None`` for each that it does not."""
    return None, None
