"""Published weight files of the ImageNet networks: which one a recipe means."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from musicgenre import _weight_files
from musicgenre._files import sha256_of
from musicgenre._weight_files import WeightFile, cached_or_fetched
from musicgenre.errors import BundleError
from musicgenre.models.cards import WeightCard, card_of
from musicgenre.models.cards.imagenet import IMAGENET, WEAKLY_SUPERVISED


def find_weights(weights: str, model: str) -> Path:
    """Find a weight file, downloaded where need be.

    Parameters
    ----------
    weights : str
        ``imagenet``, ``weakly-supervised``, or the path of a file.
    model : str
        Registered name of the network.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BundleError
        It is not there and cannot be fetched.
    """
    published = {"imagenet": IMAGENET, "weakly-supervised": WEAKLY_SUPERVISED}.get(weights)
    if published is None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise BundleError(
                f"there is no weights file {path}",
                valid="weights: none, imagenet, or the path of a file"
                + (", or weakly-supervised" if model in WEAKLY_SUPERVISED else ""),
                next_step=f"The file for {model} is {IMAGENET[model].url}",
            )
        return path
    if model not in published:
        raise BundleError(
            f"there are no {weights} weights for {model}", valid=f"They exist for {', '.join(published)}"
        )
    card = published[model]
    return cached_or_fetched(WeightFile(card.file, card.url, card.sha256), "model.options.weights")


def cards_of(weights: str, model: str) -> tuple[WeightCard | str, ...]:
    """Cards of these weights, or their names; none for fresh ones. The card of one's own file knows its checksum."""
    if weights == "none":
        return ()
    if weights in ("imagenet", "weakly-supervised"):
        return (f"{model}/{weights}",)
    known = {card.file: card.name for card in (*IMAGENET.values(), *WEAKLY_SUPERVISED.values())}
    path = Path(weights).expanduser()
    if path.name in known:
        return (known[path.name],)
    reads = IMAGENET[model].reads
    own = card_of(name=path.name, model=model, sha256=sha256_of(path), reads=reads, sample_rate_hz=None, window_s=None)
    return (own,)


def load_strictly(network: nn.Module, path: Path) -> None:
    """Put a file's tensors in the place of a network's own; see `musicgenre._weight_files.load_strictly`."""
    _weight_files.load_strictly(
        network, path, valid="torchvision's names and shapes, three colours in, 1,000 classes out"
    )
