"""VGGish in torch (Hershey et al. 2017, "CNN architectures for large-scale audio classification").

VGG's configuration A without the last block, a linear layer of 128 in place of the classes: 72,141,184 parameters, of
which the convolutions have 4,499,712. Layers are named as in the published PyTorch file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from musicgenre._npz import check_npz
from musicgenre._weight_files import UNREADABLE, check_hash, load_strictly
from musicgenre.errors import BundleError
from musicgenre.features.base import Float32

N_FRAMES, N_BANDS, WIDTH = 96, 64, 128
"""Frames and bands of an example, and width of the embedding."""

HIDDEN = (4_096, 4_096)
"""Widths of the layers between map and embedding."""

BATCH = 32
"""Examples that the network hears in one call."""

_PLAN = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")  # widths of convolutions, and pools
_MAP_CHANNELS = 512
_SHRINK = 16  # four pools halve both axes
_QUANTISED = (-2.0, 2.0)  # what the released 8 bits span
_LARGEST_BYTE = 255.0


class VGGish(nn.Module):
    """Log-mel examples in, embeddings out.

    Parameters
    ----------
    n_frames, n_bands : int
        Size of an example; the published file fits 96 x 64 alone.
    hidden : sequence of int
        Widths of the layers between the map and the embedding; the published file fits the default.
    """

    def __init__(self, n_frames: int = N_FRAMES, n_bands: int = N_BANDS, hidden: Sequence[int] = HIDDEN) -> None:
        super().__init__()
        self.features = convolutions()

        before = _MAP_CHANNELS * (n_frames // _SHRINK) * (n_bands // _SHRINK)
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(before, width), nn.ReLU()]
            before = width
        # Without a ReLU behind it: the released embeddings have negative values.
        self.embeddings = nn.Sequential(*layers, nn.Linear(before, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, n_frames, n_bands) to (batch, 128), before any activation, as the published code gives it."""
        x = self.features(x)  # (batch, 512, n_frames / 16, n_bands / 16)
        x = x.permute(0, 2, 3, 1).flatten(1)  # channels last, as TensorFlow flattens
        embedding: Tensor = self.embeddings(x)
        return embedding


def convolutions() -> nn.Sequential:
    """(batch, 1, frames, bands) to (batch, 512, frames // 16, bands // 16)."""
    layers: list[nn.Module] = []
    before = 1
    for step in _PLAN:
        if isinstance(step, int):
            layers += [nn.Conv2d(before, step, 3, padding=1), nn.ReLU()]
            before = step
        else:
            layers.append(nn.MaxPool2d(2))

    return nn.Sequential(*layers)


def load_published(network: VGGish, path: Path) -> None:
    """Put the published weights into `network`, which may lie on the `meta` device.

    Raises
    ------
    BundleError
        If the hash in the file's name, a name or a shape does not fit.
    """
    load_strictly(network, path, valid="the names and shapes of torchvggish's VGGish, as in vggish-10086976.pth")


def initialise(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw fresh weights that keep the size of the signal."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@lru_cache(maxsize=1)
def network_of(path: Path | None, sha256: str) -> VGGish:
    """Make the network of a file, or an untrained one, always the same; kept for the next call (it is 289 MB)."""
    with torch.device("meta"):  # no memory for weights that are replaced at once
        network = VGGish()

    if path is None:
        network.to_empty(device="cpu")
        initialise(network, torch.Generator().manual_seed(0))
    else:
        load_published(network, path)

    return network.eval().requires_grad_(False)


def embed(network: VGGish, examples: Float32) -> Float32:
    """Embed examples: (n, 96, 64) to (n, 128)."""
    made = []
    with torch.inference_mode():
        for start in range(0, len(examples), BATCH):
            batch = torch.from_numpy(examples[start : start + BATCH])
            made.append(network(batch[:, None]))

    return torch.cat(made).numpy().copy()


def read_pca(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the eigenvectors, (128, 128), one a row, and the means, (128,), of the published `.npz` file.

    Raises
    ------
    BundleError
        If the file holds anything else.
    """
    check_hash(path)

    def damaged(why: str) -> BundleError:
        return BundleError(
            f"{path} cannot be read as PCA parameters ({why})",
            valid="an .npz file with pca_eigen_vectors (128, 128) and pca_means (128,)",
        )

    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as arrays:
            vectors = np.asarray(arrays["pca_eigen_vectors"], np.float64)
            means = np.asarray(arrays["pca_means"], np.float64)
    except UNREADABLE as error:
        raise damaged(str(error) or type(error).__name__) from error

    if vectors.shape != (WIDTH, WIDTH) or means.size != WIDTH:
        raise damaged(f"shapes {vectors.shape} and {means.shape}")
    if not (np.isfinite(vectors).all() and np.isfinite(means).all()):
        raise damaged("values that are no finite numbers")

    return vectors, means.reshape(-1)  # the published means are a column


def quantised(embeddings: Float32, pca: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Float32:
    """Post-process as AudioSet's released embeddings: PCA with whitening, clipped to [-2, 2], 256 levels.

    Parameters
    ----------
    embeddings : ndarray, shape (n, 128)
        From `embed`.
    pca : tuple of ndarray
        From `read_pca`.

    Returns
    -------
    ndarray of float32, shape (n, 128)
        Whole numbers from 0 to 255, rounded down as there.
    """
    vectors, means = pca
    rotated = (embeddings.astype(np.float64) - means) @ vectors.T

    low, high = _QUANTISED
    levels = (np.clip(rotated, low, high) - low) * (_LARGEST_BYTE / (high - low))
    return np.floor(levels).astype(np.float32)
