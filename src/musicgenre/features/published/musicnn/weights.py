"""Obtain the published MusiCNN weights: an installed copy, else pip and the network, else a file that someone has.

Nothing of the published package is installed, imported or run: two checkpoint files a model are read, and only if
their checksums are the published ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import cache_folder, replacing
from musicgenre._npz import read_whole_npz
from musicgenre._transfer import refuse_unasked
from musicgenre.errors import BundleError
from musicgenre.features.published.musicnn.checkpoint import Checkpoint
from musicgenre.features.published.musicnn.published import Family, Published

Variables = dict[str, NDArray[np.float32]]
Report = Callable[[str], None]

PACKAGE = "musicnn"
VERSION = "0.1.0"
WHEEL_NAME = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
_WHEEL_MB = 29
_DOWNLOAD_TIMEOUT_S = 1800.0
_INDEX, _DATA = ".index", ".data-00000-of-00001"

THREE_WAYS = (
    f"Three ways lead to the weights: (1) `musicgenre bundles get` with pip and a network ({_WHEEL_MB} MB, once); "
    f"(2) `pip install --no-deps {PACKAGE}=={VERSION}` from wherever you install packages, "
    f"then `musicgenre bundles get`; (3) copy {WHEEL_NAME} here from another machine, "
    "then `musicgenre bundles get --from FILE`"
)

_KERNELS: dict[Family, dict[str, tuple[int, ...]]] = {
    "musicnn": {
        "conv2d": (7, 38, 1, 204),
        "conv2d_1": (7, 67, 1, 204),
        "conv2d_2": (128, 1, 1, 51),
        "conv2d_3": (64, 1, 1, 51),
        "conv2d_4": (32, 1, 1, 51),
        "conv2d_5": (7, 561, 1, 64),
        "conv2d_6": (7, 64, 1, 64),
        "conv2d_7": (7, 64, 1, 64),
        "dense": (1506, 200),
        "dense_1": (200, 50),
    },
    "vgg": {
        "1CNN": (3, 3, 1, 128),
        "2CNN": (3, 3, 128, 128),
        "3CNN": (3, 3, 128, 128),
        "4CNN": (3, 3, 128, 128),
        "5CNN": (3, 3, 128, 128),
        "dense": (256, 50),
    },
}
_NORMS: dict[Family, tuple[int, ...]] = {
    "musicnn": (1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200),
    "vgg": (1, 128, 128, 128, 128, 128),
}
_SEED = 20_019

_CHECKPOINT = "checkpoint_sha256"  # name of the entry that says which checkpoint a kept file was made from


class Weights(Protocol):
    """A place that holds the published checkpoints."""

    def read(self, name: str) -> bytes | None:
        """Give a file such as `MSD_musicnn/.index`, or None if it is not there."""
        ...


class FolderWeights:
    """A folder: the package's own, or one that holds the checkpoint files of a single model.

    Parameters
    ----------
    folder : Path
        The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """Give a file of the folder, or None."""
        model, _, file = name.partition("/")
        for path in (self._folder / model / file, self._folder / PACKAGE / model / file, self._folder / file):
            if path.is_file():
                return path.read_bytes()
        return None


class WheelWeights:
    """The published wheel.

    Parameters
    ----------
    path : Path
        The `.whl` file.

    Raises
    ------
    BundleError
        When it is not a zip file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file() or not zipfile.is_zipfile(path):
            raise BundleError(
                f"{path} is neither a folder nor a wheel", valid=f"{WHEEL_NAME}, or a folder with its checkpoints"
            )

    def read(self, name: str) -> bytes | None:
        """Give a file of the wheel, or None."""
        try:
            with zipfile.ZipFile(self._path) as archive:
                return archive.read(f"{PACKAGE}/{name}")
        except KeyError:
            return None
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:  # last: encrypted
            raise BundleError(f"{self._path} is damaged ({error})", next_step=THREE_WAYS) from error


def read_variables(
    models: Sequence[Published],
    *,
    source: Path | None = None,
    allow_network: bool = True,
    report: Report = lambda _: None,
) -> dict[str, Variables]:
    """Read the published variables, and keep them in the cache (3 MB a model).

    Parameters
    ----------
    models : sequence of Published
        Which networks.
    source : Path, optional
        The published wheel, or a folder with its checkpoints; it is read even if the cache has them.
    allow_network : bool
        Whether pip may download the wheel.
    report : callable
        Told what is going on, one line at a time.

    Returns
    -------
    dict
        The variables of every model, by the model's name.

    Raises
    ------
    BundleError
        When they cannot be had; the message names three ways.
    """
    found: dict[str, Variables] = {}
    if source is None:
        for model in models:
            kept = _kept_variables(model)
            if kept is not None:
                found[model.name] = kept

    missing = [model for model in models if model.name not in found]
    if not missing:
        return found

    with tempfile.TemporaryDirectory(prefix="musicgenre-", ignore_cleanup_errors=True) as folder:
        weights = find_weights(source, Path(folder), allow_network=allow_network, report=report)
        for model in missing:
            checkpoint = Checkpoint(*read_checkpoint(weights, model))
            variables = {name: checkpoint.read(name) for name in variable_shapes(model.family)}

            # The next time neither the wheel nor the checkpoint is needed.
            entries: dict[str, Any] = {**variables, _CHECKPOINT: np.array(model.data_sha256)}
            with replacing(variables_path(model)) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **entries)
            found[model.name] = variables
    return found


def random_variables(family: Family) -> Variables:
    """Draw the variables of an untrained network, always the same: for trying things out without the weights."""
    rng = np.random.default_rng(_SEED)
    variables = {}
    for name, shape in variable_shapes(family).items():
        if name.endswith("/kernel"):
            values = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[:-1]))  # keeps the signal's size
        else:
            values = np.full(shape, 1.0 if name.endswith(("gamma", "moving_variance")) else 0.0)
        variables[name] = values.astype(np.float32)

    return variables


def variable_shapes(family: Family) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's variables; kernels are (time, frequency, in, out) or (in, out)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in _KERNELS[family].items():
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[-1:]}

    for number, width in enumerate(_NORMS[family]):
        prefix = f"batch_normalization_{number}" if number else "batch_normalization"
        shapes |= {f"{prefix}/{part}": (width,) for part in ("gamma", "beta", "moving_mean", "moving_variance")}

    return shapes


def variables_path(model: Published) -> Path:
    """Where the variables of a model are kept, or would be."""
    return cache_folder() / "weights" / "musicnn" / f"{model.name}.npz"


def find_weights(source: Path | None, folder: Path, *, allow_network: bool, report: Report) -> Weights:
    """Find the published weights.

    Parameters
    ----------
    source : Path or None
        The wheel, or a folder with its checkpoints, if someone has one.
    folder : Path
        A temporary folder for the download.
    allow_network : bool
        Whether pip may be asked.
    report : callable
        Told what is going on, one line at a time.

    Raises
    ------
    BundleError
        When there is no way to the weights; the message names three.
    """
    if source is not None:
        if not source.exists():
            raise BundleError(f"{source} does not exist", valid=f"{WHEEL_NAME}, or a folder with its checkpoints")
        return FolderWeights(source) if source.is_dir() else WheelWeights(source)

    installed = installed_copy()
    if installed is not None:
        report(f"using the installed copy in {installed}")
        return FolderWeights(installed)

    if not allow_network:
        raise BundleError("the published MusiCNN weights are not on this machine", next_step=THREE_WAYS)
    refuse_unasked("the published MusiCNN weights", "msd-musicnn")
    report(f"downloading {PACKAGE} {VERSION} ({_WHEEL_MB} MB) with pip")
    return WheelWeights(_download(folder))


def installed_copy() -> Path | None:
    """Folder of an installed `musicnn` package, found without importing it, or None."""
    package = importlib.util.find_spec(PACKAGE)
    places = (package.submodule_search_locations or ()) if package is not None else ()
    for place in places:
        if any(Path(place).glob(f"*/{_INDEX}")):
            return Path(place)
    return None


def read_checkpoint(weights: Weights, model: Published) -> tuple[bytes, bytes]:
    """Read the two checkpoint files of a model, checked against the published checksums.

    Raises
    ------
    BundleError
        When a file is missing or is not the published one.
    """
    contents = []
    for file, sha256 in ((_INDEX, model.index_sha256), (_DATA, model.data_sha256)):
        content = weights.read(f"{model.folder}/{file}")
        if content is None:
            raise BundleError(f"there is no {model.folder}/{file} for {model.name} in it", next_step=THREE_WAYS)

        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise BundleError(
                f"{model.folder}/{file} is not the published file",
                valid=f"Its sha256 is {sha256}, not {found}",
                next_step=THREE_WAYS,
            )
        contents.append(content)

    index, data = contents
    return index, data


def _kept_variables(model: Published) -> Variables | None:
    """Take the variables from the cache; `None` where they are absent, damaged or of another checkpoint."""
    arrays = read_whole_npz(variables_path(model))
    shapes = variable_shapes(model.family)
    if arrays is None or arrays.keys() != {_CHECKPOINT, *shapes} or str(arrays[_CHECKPOINT]) != model.data_sha256:
        return None
    return {name: np.asarray(arrays[name], np.float32) for name in shapes}


def _download(folder: Path) -> Path:
    """Let pip fetch the one wheel, refusing any other content than the pinned one."""
    if importlib.util.find_spec("pip") is None:
        raise BundleError(
            "pip is not installed in this environment, so nothing can be downloaded", next_step=THREE_WAYS
        )

    # A hash can be given in a file alone, not on the command line.
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--disable-pip-version-check", "--dest", str(folder), "-r", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BundleError("pip did not finish the download in half an hour", next_step=THREE_WAYS) from error

    wheel = folder / WHEEL_NAME
    if done.returncode != 0 or not wheel.is_file():
        # Of all that pip says the last error tells most; warnings of retries come before it.
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")]
        reason = (errors or lines or ["no reason given"])[-1]
        raise BundleError(f"pip could not download the weights ({reason})", next_step=THREE_WAYS)
    return wheel
