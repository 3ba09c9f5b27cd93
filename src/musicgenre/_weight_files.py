"""Published weight files: where they lie, how they are fetched, and how they are read without running any code.

The hash that a file's name carries, or that its card gives, is compared before a byte is unpacked. Then PyTorch reads
tensors and plain values alone (`weights_only=True`).
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, is_zipfile

from musicgenre._files import cache_folder, remove_stale, replacing, room_advice, sha256_of
from musicgenre._locks import file_lock
from musicgenre._text import shortened
from musicgenre._transfer import lines, opened, receive, refuse_unasked
from musicgenre.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor, nn

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|npz)$")
_MOST_BYTES = 10_000_000_000
_SHOWN = 3  # names of tensors in a message
_STALE_S = 86_400  # no download takes a day
# what PyTorch's and NumPy's readers let through of a file that is something else or cut short
UNREADABLE = (
    pickle.UnpicklingError,
    BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One published file.

    Parameters
    ----------
    file : str
        Its name.
    url : str
        The usual address.
    sha256 : str
        Checksum, or the digits it is published with; empty where none is published.
    """

    file: str
    url: str
    sha256: str


def hash_in_name(name: str) -> str:
    """Digits of a SHA-256 at the end of a file's name, as `vgg19-dcbb9e9d.pth`; empty without."""
    found = _HASH_IN_NAME.search(name)
    return found[1] if found else ""


def cached_or_fetched(published: WeightFile, option: str) -> Path:
    """Find a published file in the cache folder's `weights`, fetched where need be.

    Parameters
    ----------
    published : WeightFile
        The file.
    option : str
        Name of the setting that takes another path, for the message, as `model.options.weights`.

    Raises
    ------
    BundleError
        If it is not there and cannot be fetched.
    """
    path = cache_folder() / "weights" / published.file
    if path.is_file():
        return path

    refuse_unasked(f"the weights {published.file}", published.file)
    with file_lock(path, "download of the same weights", wait_s=math.inf):
        if not path.is_file():  # whoever was waited for may have brought it
            remove_stale(path.parent, (".*.tmp",), older_than_s=_STALE_S)  # a kill leaves them, as large as the file
            _fetch(published, path, option)
    return path


def _fetch(published: WeightFile, path: Path, option: str) -> None:
    """Fetch a published file to `path`."""
    try:
        with replacing(path) as temporary:
            with opened(published.url) as response, temporary.open("wb") as sink:
                receive(response, sink, most=_MOST_BYTES, progress=lines(published.file))

            # in the temporary file, so that a wrong one never stands where it would be found
            if not sha256_of(temporary).startswith(published.sha256):
                raise ValueError("what came has another SHA-256 than published, and was thrown away")
            if not published.sha256 and not is_zipfile(temporary):  # an .npz is one
                raise ValueError(f"what came is no whole {path.suffix} file, and was thrown away")
    except (OSError, HTTPException, ValueError) as error:
        by_hand = f"Fetch {published.url} where there is a network, then put it into that folder or name it: "
        advice = room_advice(error) if isinstance(error, OSError) else ""
        raise BundleError(
            f"the weights {published.file} are not in {path.parent} and could not be downloaded ({error})",
            next_step=advice or by_hand + set_option(option),
        ) from error


def check_hash(path: Path) -> None:
    """Compare a file with the hash that its name carries, if it carries one.

    Raises
    ------
    BundleError
        If they differ.
    """
    expected = hash_in_name(path.name)
    if expected and not (found := sha256_of(path)).startswith(expected):
        raise BundleError(
            f"{path} has another SHA-256 than its name says ({found[: len(expected)]})",
            valid=f"It should begin with {expected}",
            next_step="It is damaged or not the published file: delete it and fetch it again",
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file that `torch.save` wrote from a `state_dict`; a hash in its name is compared first.

    Raises
    ------
    BundleError
        If the hash is another one, or the file holds anything else than tensors by name.
    """
    import torch

    check_hash(path)
    try:
        content = load_plain(path)
    except UNREADABLE as error:
        raise BundleError(
            f"{path} cannot be read as weights ({why_unreadable(error)})", valid="a state_dict that torch.save wrote"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise BundleError(f"{path} holds no tensors by name", valid="a state_dict that torch.save wrote")

    tensors: dict[str, Tensor] = {}
    odd = []
    for name, value in content.items():
        # PyTorch calls much a tensor that is no numbers in memory: sparse, quantised, complex, without values
        is_dense = value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_complex())
        if not is_dense or not _is_finite(value):
            odd.append(str(name))
            continue
        tensors[str(name)] = value.float() if value.is_floating_point() else value
    if odd:
        raise BundleError(
            f"{path} holds tensors that are no finite plain numbers: {shortened(odd, _SHOWN)}",
            valid="dense tensors with their values, not complex and not quantised",
        )
    return tensors


def _is_finite(value: Tensor) -> bool:
    """Whether every number is finite."""
    import torch

    # A sum takes a fraction of the time, and is finite only where all values are; where it runs over, each is asked.
    if value.dtype == torch.float32 and bool(value.sum().isfinite()):
        return True
    return bool(value.isfinite().all())


def load_plain(path: Path) -> Any:
    """Read what `torch.save` wrote: tensors and plain values alone, without PyTorch's remarks on other pickles."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def why_unreadable(error: Exception) -> str:
    """Say why a file is no weights; PyTorch itself would advise to run what is in it."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds something else than tensors and plain values, or is damaged; nothing of it was run"
    return (str(error).splitlines() or [type(error).__name__])[0]


def load_strictly(network: nn.Module, path: Path, *, valid: str) -> None:
    """Put a file's tensors in the place of a network's own; every name and shape must agree.

    Parameters
    ----------
    network : nn.Module
        May lie on the `meta` device.
    path : Path
        A file for `read_weights`.
    valid : str
        What the file should hold, for the message.

    Raises
    ------
    BundleError
        Naming what is missing, what is too much and what has another shape.
    """
    import torch

    wanted = network.state_dict()
    # files older than PyTorch 0.4.1 do not count the batches that a norm has seen; only momentum=None would use it
    counts = (name for name in wanted if name.endswith(".num_batches_tracked"))
    arrays = dict.fromkeys(counts, torch.tensor(0)) | read_weights(path)

    # all that does not fit, not just the first: it tells which network the file is of
    found: dict[str, list[str]] = {
        "missing": [name for name in wanted if name not in arrays],
        "unknown": [name for name in arrays if name not in wanted],
        "other shapes": [],
        "other numbers": [],
    }
    for name, own in wanted.items():
        if name not in arrays:
            continue
        if arrays[name].shape != own.shape:
            found["other shapes"].append(f"{name} {tuple(arrays[name].shape)} for {tuple(own.shape)}")
        if arrays[name].is_floating_point() != own.is_floating_point():
            found["other numbers"].append(f"{name} {arrays[name].dtype}")
    problems = [f"{what}: {shortened(names, _SHOWN)}" for what, names in found.items() if names]
    if problems:
        raise BundleError(f"{path} does not fit this network ({'; '.join(problems)})", valid=valid)

    # a file may hold one number for a whole tensor, which no optimiser could change in place
    whole = {name: array.contiguous() for name, array in arrays.items()}
    network.load_state_dict(whole, strict=True, assign=True)


def set_option(option: str) -> str:
    """Say how a file is named on the command line; outside of recipes a representation's option stands alone."""
    alone = option.removeprefix("representation.options.")
    if alone == option:
        return f"--set {option}=FILE"
    return f"--set {option}=FILE (prepare, embed: --set {alone}=FILE)"
