"""Obtain the published MusiCNN weights: an installed copy, else pip and the network, else a file that someone has.

Nothing of the published package is installed, imported or run: two checkpoint files a model are read, and only if
their checksums are the published ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from musicgenre.errors import BundleError
from musicgenre.features._musicnn.published import Published

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


class Weights(Protocol):
    """A place that holds the published checkpoints."""

    def read(self, name: str) -> bytes | None:
        """Give a file such as ``MSD_musicnn/.index``, or None if it is not there."""
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
        The ``.whl`` file.

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


def read_checkpoint(weights: Weights, model: Published) -> tuple[bytes, bytes]:
    """Read the two checkpoint files of a model, checked against the published checksums.

    Raises
    ------
    BundleError
        When a file is missing or is not the published one.
    """
    return (
        _checked(weights, model, _INDEX, model.index_sha256),
        _checked(weights, model, _DATA, model.data_sha256),
    )


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
    report(f"downloading {PACKAGE} {VERSION} ({_WHEEL_MB} MB) with pip")
    return WheelWeights(_download(folder))


def installed_copy() -> Path | None:
    """Folder of an installed ``musicnn`` package, found without importing it, or None."""
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        if any(Path(place).glob(f"*/{_INDEX}")):
            return Path(place)
    return None


def _download(folder: Path) -> Path:
    """Let pip fetch the one wheel, refusing any other content than the pinned one."""
    if importlib.util.find_spec("pip") is None:
        raise BundleError(
            "pip is not installed in this environment, so nothing can be downloaded", next_step=THREE_WAYS
        )
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
        raise BundleError(f"pip could not download the weights ({_reason(done.stderr)})", next_step=THREE_WAYS)
    return wheel


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no reason given"])[-1]


def _checked(weights: Weights, model: Published, file: str, sha256: str) -> bytes:
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
    return content
