"""VGGish in torch (Hershey et al. 2017, "CNN architectures for large-scale audio classification"), and its files.

VGG's configuration A without the last block, a linear layer of 128 in place of the classes: 72,141,184 parameters, of
which the convolutions have 4,499,712. Layers are named as in the published PyTorch file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from musicgenre._files import sha256_of
from musicgenre._weight_files import UNREADABLE, WeightFile, cached_or_fetched, check_hash, load_strictly
from musicgenre.errors import BundleError
from musicgenre.features.base import Float32

N_FRAMES, N_BANDS, WIDTH = 96, 64, 128
"""Frames and bands of an example, and width of the embedding."""

MAP_CHANNELS = 512
HIDDEN = (4_096, 4_096)
_PLAN = (64, "pool", 128, "pool", 256, 256, "pool", 512, MAP_CHANNELS, "pool")
_SHRINK = 16  # four pools halve both axes
_QUANTISED = (-2.0, 2.0)
_LARGEST_BYTE = 255.0
BATCH = 32
"""Examples that the network hears in one call."""


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
        before = MAP_CHANNELS * (n_frames // _SHRINK) * (n_bands // _SHRINK)
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(before, width), nn.ReLU()]
            before = width
        self.embeddings = nn.Sequential(*layers, nn.Linear(before, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, n_frames, n_bands) to (batch, 128), before any activation, as the published code gives it."""
        x = self.features(x)  # (batch, 512, n_frames / 16, n_bands / 16)
        x = x.permute(0, 2, 3, 1).flatten(1)  # channels last, as TensorFlow flattens
        embedding: Tensor = self.embeddings(x)
        return embedding


def load_published(network: VGGish, path: Path) -> None:
    """Put the published weights into ``network``, which may lie on the ``meta`` device.

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
    with torch.device("meta"):
        network = VGGish()
    if path is None:
        network.to_empty(device="cpu")
        initialise(network, torch.Generator().manual_seed(0))
    else:
        load_published(network, path)
    return network.eval().requires_grad_(False)


def embed(network: VGGish, examples: Float32) -> Float32:
    """Embed examples: (n, 96, 64) to (n, 128)."""
    with torch.inference_mode():
        made = [network(torch.from_numpy(part)[:, None]) for part in _batches(examples)]
    return torch.cat(made).numpy().copy()


def _batches(examples: Float32) -> list[Float32]:
    return [examples[start : start + BATCH] for start in range(0, len(examples), BATCH)]


def read_pca(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the eigenvectors, (128, 128), one a row, and the means, (128,), of the published ``.npz`` file.

    Raises
    ------
    BundleError
        If the file holds anything else.
    """
    check_hash(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            vectors, means = (np.asarray(arrays[name], np.float64) for name in ("pca_eigen_vectors", "pca_means"))
    except UNREADABLE as error:
        raise _no_pca(path, str(error) or type(error).__name__) from error
    if vectors.shape != (WIDTH, WIDTH) or means.size != WIDTH:
        raise _no_pca(path, f"shapes {vectors.shape} and {means.shape}")
    if not (np.isfinite(vectors).all() and np.isfinite(means).all()):
        raise _no_pca(path, "values that are no finite numbers")
    return vectors, means.reshape(-1)


def quantised(embeddings: Float32, pca: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Float32:
    """Post-process as AudioSet's released embeddings: PCA with whitening, clipped to [-2, 2], 256 levels.

    Parameters
    ----------
    embeddings : ndarray, shape (n, 128)
        From :func:`embed`.
    pca : tuple of ndarray
        From :func:`read_pca`.

    Returns
    -------
    ndarray of float32, shape (n, 128)
        Whole numbers from 0 to 255, rounded down as there.
    """
    vectors, means = pca
    rotated = (embeddings.astype(np.float64) - means) @ vectors.T
    low, high = _QUANTISED
    return np.floor((np.clip(rotated, low, high) - low) * (_LARGEST_BYTE / (high - low))).astype(np.float32)


def _no_pca(path: Path, why: str) -> BundleError:
    return BundleError(
        f"{path} cannot be read as PCA parameters ({why})",
        valid="an .npz file with pca_eigen_vectors (128, 128) and pca_means (128,)",
    )


PUBLISHED = "published"
"""What an option says for the file at its usual address."""

NONE = "none"
"""What it says for an untrained network."""

WEIGHTS_CARD, PCA_CARD = "vggish/published", "vggish-pca/published"
"""Names of the files' cards."""

READS = "log-mel examples, 96 frames of 10 ms by 64 bands from 125 to 7,500 Hz"
PCA_READS = "VGGish embeddings, 128 numbers"
"""What network and PCA take."""

WEIGHTS = WeightFile(
    file="vggish-10086976.pth",
    url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
    sha256="10086976",
)
"""The network of ``vggish_model.ckpt`` as a PyTorch ``state_dict``; the checkpoint's own format is TensorFlow's."""

PCA = WeightFile(
    file="vggish_pca_params.npz",
    url="https://storage.googleapis.com/audioset/vggish_pca_params.npz",
    sha256="",
)
"""PCA with whitening of the embedding; no hash is published."""


def weight_cards(weights: str) -> tuple[str | dict[str, Any], ...]:
    """Cards of what the option ``weights`` says, see `card_of_file`; none for an untrained network."""
    return () if weights == NONE else (card_of_file(weights, WEIGHTS, WEIGHTS_CARD, READS),)


def card_of_file(given: str, published: WeightFile, card: str, reads: str) -> str | dict[str, Any]:
    """Name of the published file's card, or what ``musicgenre.models.cards.card_of`` takes for one's own file."""
    path = Path(given).expanduser()
    if given == PUBLISHED or path.name == published.file:
        return card
    told = {"name": path.name, "model": "vggish", "reads": reads, "sample_rate_hz": 16_000, "window_s": 0.975}
    return {**told, "sha256": sha256_of(path)}


def find_file(given: str, published: WeightFile, option: str) -> Path:
    """Find a file: the published one, fetched where need be, or one's own.

    Parameters
    ----------
    given : str
        ``published``, or a path.
    published : WeightFile
        What it should be.
    option : str
        Name of the setting, for the message.

    Raises
    ------
    BundleError
        If there is none.
    """
    if given == PUBLISHED:
        return cached_or_fetched(published, option)
    path = Path(given).expanduser()
    if not path.is_file():
        raise BundleError(
            f"there is no file {path}",
            valid=f"{option}: {PUBLISHED}, or the path of a copy of {published.file}",
            next_step=f"Fetch {published.url}",
        )
    return path
