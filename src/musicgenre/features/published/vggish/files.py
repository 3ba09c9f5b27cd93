"""The published files of VGGish: which they are, where they lie, and their cards. Needs neither torch nor NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musicgenre._files import sha256_of
from musicgenre._weight_files import WeightFile, cached_or_fetched
from musicgenre.errors import BundleError

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
"""The network of `vggish_model.ckpt` as a PyTorch `state_dict`; the checkpoint's own format is TensorFlow's."""

PCA = WeightFile(
    file="vggish_pca_params.npz",
    url="https://storage.googleapis.com/audioset/vggish_pca_params.npz",
    sha256="",
)
"""PCA with whitening of the embedding; no hash is published."""


def weight_cards(weights: str) -> tuple[str | dict[str, Any], ...]:
    """Cards of what the option `weights` says, see `card_of_file`; none for an untrained network."""
    return () if weights == NONE else (card_of_file(weights, WEIGHTS, WEIGHTS_CARD, READS),)


def card_of_file(given: str, published: WeightFile, card: str, reads: str) -> str | dict[str, Any]:
    """Name of the published file's card, or what `musicgenre.models.cards.card_of` takes for one's own file."""
    path = Path(given).expanduser()
    if given == PUBLISHED or path.name == published.file:  # a copy of the published one has its card
        return card

    return {
        "name": path.name,
        "model": "vggish",
        "sha256": sha256_of(path),
        "reads": reads,
        "sample_rate_hz": 16_000,
        "window_s": 0.975,
    }


def find_file(given: str, published: WeightFile, option: str) -> Path:
    """Find a file: the published one, fetched where need be, or one's own.

    Parameters
    ----------
    given : str
        `published`, or a path.
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
