"""The published files of VGGish: which they are and where they lie. Needs neither torch nor NumPy."""

from __future__ import annotations

from pathlib import Path

from musicgenre._weight_files import WeightFile, cached_or_fetched
from musicgenre.errors import BundleError

PUBLISHED = "published"
"""What an option says for the file at its usual address."""

NONE = "none"
"""What it says for an untrained network."""

WEIGHTS_CARD, PCA_CARD = "vggish/published", "vggish-pca/published"
"""Names of the files' cards."""

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


def weight_cards(weights: str) -> tuple[str, ...]:
    """Names of the cards of what the option ``weights`` says; none for a file that is not the published one."""
    return (WEIGHTS_CARD,) if weights == PUBLISHED or Path(weights).name == WEIGHTS.file else ()


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
