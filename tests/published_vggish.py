"""Names and shapes of the published VGGish files, written down apart from the code that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

SHAPES: dict[str, tuple[int, ...]] = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}
"""Layers and the shapes of their weights; each has a bias too."""


def write_network(path: Path, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> dict[str, torch.Tensor]:
    """Write a small file with the published names and these shapes: one number a tensor, stretched to its shape."""
    generator = torch.Generator().manual_seed(9)
    values: dict[str, torch.Tensor] = {}
    for layer, shape in shapes.items():
        size = float(np.prod(shape[1:])) ** -0.5
        values[f"{layer}.weight"] = (torch.rand(1, generator=generator) * size).expand(shape)
        values[f"{layer}.bias"] = torch.rand(1, generator=generator).expand(shape[0])
    torch.save(values, path)
    return values


def write_pca(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Write a file like ``vggish_pca_params.npz``; the means are a column, as there."""
    rng = np.random.default_rng(7)
    vectors = rng.normal(scale=0.3, size=(128, 128)).astype(np.float32)
    means = rng.normal(size=(128, 1)).astype(np.float32)
    np.savez_compressed(path, pca_eigen_vectors=vectors, pca_means=means)
    return vectors, means
