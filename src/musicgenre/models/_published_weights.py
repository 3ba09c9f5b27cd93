"""Published weight files of the ImageNet networks: where they lie, what they are, and how they are read safely.

The files carry the beginning of their SHA-256 in their name; it is compared before a byte is unpacked. Then PyTorch
reads tensors and plain values alone (``weights_only=True``), so that no file can run code.
"""

from __future__ import annotations

import pickle
import struct
import urllib.request
from http.client import HTTPException
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from musicgenre._files import cache_folder, replacing, sha256_of
from musicgenre.errors import BundleError
from musicgenre.models.cards import WeightCard
from musicgenre.models.cards.imagenet import IMAGENET, WEAKLY_SUPERVISED, hash_in_name

_BLOCK_BYTES = 1 << 18
_TIMEOUT_S = 30.0
_SHOWN = 3
# what PyTorch's reader lets through of a file that is something else or cut short
_UNREADABLE = (
    pickle.UnpicklingError,
    BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


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
    elif model not in published:
        raise BundleError(
            f"there are no {weights} weights for {model}", valid=f"They exist for {', '.join(published)}"
        )
    else:
        path = cache_folder() / "weights" / published[model].file
        if not path.is_file():
            _download(published[model], path)
    return path


def card_names(weights: str, model: str) -> tuple[str, ...]:
    """Names of the cards of these weights; none for fresh ones, or for a file that is none of the published."""
    if weights in ("imagenet", "weakly-supervised"):
        return (f"{model}/{weights}",)
    known = {card.file: card.name for card in (*IMAGENET.values(), *WEAKLY_SUPERVISED.values())}
    name = Path(weights).name
    return (known[name],) if name in known else ()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file that ``torch.save`` wrote from a ``state_dict``; a hash in its name is compared first.

    Raises
    ------
    BundleError
        If the hash is another one, or the file holds anything else than tensors by name.
    """
    _check_hash(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(
            f"{path} cannot be read as weights ({first})", valid="a state_dict that torch.save wrote"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BundleError(f"{path} holds no tensors by name", valid="a state_dict that torch.save wrote")
    return {str(name): value.float() if value.is_floating_point() else value for name, value in content.items()}


def load_strictly(network: nn.Module, path: Path) -> None:
    """Put a file's tensors in the place of a network's own; every name and shape must agree.

    Raises
    ------
    BundleError
        Naming what is missing, what is too much and what has another shape.
    """
    wanted = network.state_dict()
    # files older than PyTorch 0.4.1 do not count the batches that a norm has seen; only momentum=None would use it
    counts = (name for name in wanted if name.endswith(".num_batches_tracked"))
    arrays = dict.fromkeys(counts, torch.tensor(0)) | read_weights(path)
    missing = [name for name in wanted if name not in arrays]
    unknown = [name for name in arrays if name not in wanted]
    shapes = [
        f"{name} {tuple(arrays[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in arrays and arrays[name].shape != wanted[name].shape
    ]
    problems = [
        f"{what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("unknown", unknown), ("other shapes", shapes))
        if names
    ]
    if problems:
        raise BundleError(
            f"{path} does not fit this network ({'; '.join(problems)})",
            valid="torchvision's names and shapes, with 1,000 classes",
        )
    network.load_state_dict(arrays, strict=True, assign=True)


def _check_hash(path: Path) -> None:
    expected = hash_in_name(path.name)
    if expected and not (found := sha256_of(path)).startswith(expected):
        raise BundleError(
            f"{path} has another SHA-256 than its name says ({found[: len(expected)]})",
            valid=f"It should begin with {expected}",
            next_step="It is damaged or not the published file: delete it and fetch it again",
        )


def _download(card: WeightCard, path: Path) -> None:
    """Fetch a file to ``path``; it is put there only if its hash is the published one."""
    request = urllib.request.Request(card.url, headers={"User-Agent": "musicgenre"})
    try:
        with replacing(path) as temporary:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response, temporary.open("wb") as sink:
                while block := response.read(_BLOCK_BYTES):
                    sink.write(block)
            if not sha256_of(temporary).startswith(card.sha256):
                raise ValueError("what came has another SHA-256 than published, and was thrown away")
    except (OSError, HTTPException, ValueError) as error:
        raise BundleError(
            f"the weights {card.file} are not in {path.parent} and could not be downloaded ({error})",
            next_step=f"Fetch {card.url} where there is a network, then put it into that folder or name it: "
            "--set model.options.weights=FILE",
        ) from error
