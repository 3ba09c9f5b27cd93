"""Published weight files of the ImageNet networks: where they lie, what they are, and how they are read safely.

The files carry the beginning of their SHA-256 in their name; it is compared before a byte is unpacked. Then PyTorch
reads tensors and plain values alone (``weights_only=True``), so that no file can run code.
"""

from __future__ import annotations

import pickle
import re
import struct
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from musicgenre._files import cache_folder, replacing, sha256_of
from musicgenre.errors import BundleError

_ADDRESS = "https://download.pytorch.org/models/"
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")
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
_VGG = "Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, 2014"
_RESNET = "He, Zhang, Ren and Sun, Deep residual learning for image recognition, 2015"
_RESNEXT = "Xie, Girshick, Dollar, Tu and He, Aggregated residual transformations for deep neural networks, 2016"
_SQUEEZENET = "Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016"
_WSL = "Mahajan et al., Exploring the limits of weakly supervised pretraining, 2018"
_TORCHVISION = "ImageNet-1k (ILSVRC 2012), trained by torchvision"
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); ImageNet's own terms bind its pictures"


@dataclass(frozen=True, slots=True)
class WeightCard:
    """One published file.

    Parameters
    ----------
    model : str
        Registered name of the network it fits.
    file : str
        Its name, the beginning of its SHA-256 inside.
    citation : str
        The paper.
    origin : str
        What it was trained on, by whom.
    licence : str
        As published.
    input_px : int
        Width and height of the pictures it was trained on.
    classes : int
        Outputs of its last layer.
    """

    model: str
    file: str
    citation: str
    origin: str = _TORCHVISION
    licence: str = _TORCHVISION_LICENCE
    input_px: int = 224
    classes: int = 1_000

    @property
    def url(self) -> str:
        """The usual address."""
        return _ADDRESS + self.file

    @property
    def sha256_prefix(self) -> str:
        """First digits of the SHA-256."""
        return hash_in_name(self.file)


IMAGENET = {
    card.model: card
    for card in (
        WeightCard("vgg13", "vgg13-19584684.pth", _VGG),
        WeightCard("vgg16", "vgg16-397923af.pth", _VGG),
        WeightCard("vgg19", "vgg19-dcbb9e9d.pth", _VGG),
        WeightCard("resnet18", "resnet18-f37072fd.pth", _RESNET),
        WeightCard("resnet34", "resnet34-b627a593.pth", _RESNET),
        WeightCard("resnet50", "resnet50-0676ba61.pth", _RESNET),
        WeightCard("resnet101", "resnet101-63fe2227.pth", _RESNET),
        WeightCard("resnext50-32x4d", "resnext50_32x4d-7cdf4587.pth", _RESNEXT),
        WeightCard("resnext101-32x8d", "resnext101_32x8d-8ba56ff5.pth", _RESNEXT),
        WeightCard("squeezenet-1.0", "squeezenet1_0-b66bff10.pth", _SQUEEZENET),
        WeightCard("squeezenet-1.1", "squeezenet1_1-b8a52dc0.pth", _SQUEEZENET),
    )
}
"""Weights trained on ImageNet, by the model's name."""

WEAKLY_SUPERVISED = {
    "resnext101-32x8d": WeightCard(
        "resnext101-32x8d",
        "ig_resnext101_32x8-c38310e5.pth",
        _WSL,
        origin="940 million pictures with hashtags, then ImageNet-1k; by Facebook AI",
        licence="CC BY-NC 4.0: not for commercial use",
    )
}
"""E6's weakly supervised weights."""


def hash_in_name(name: str) -> str:
    """Digits of a SHA-256 at the end of a file's name, as ``vgg19-dcbb9e9d.pth``; empty without."""
    found = _HASH_IN_NAME.search(name)
    return found[1] if found else ""


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
            if not sha256_of(temporary).startswith(card.sha256_prefix):
                raise ValueError("what came has another SHA-256 than published, and was thrown away")
    except (OSError, HTTPException, ValueError) as error:
        raise BundleError(
            f"the weights {card.file} are not in {path.parent} and could not be downloaded ({error})",
            next_step=f"Fetch {card.url} where there is a network, then put it into that folder or name it: "
            "--set model.options.weights=FILE",
        ) from error
