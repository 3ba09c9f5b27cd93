"""Versions of one deployed model: a folder of them, and a pointer to the one in use that is switched as a whole.

`served/current` holds one line, the name of a folder beside it: `v0002`. There lie the bundle, what is kept of the run
it was made of, and `version.json`. Whoever reads the pointer reads the old name or the new one, never half of one, and
an older version stays where it is.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musicgenre._files import replacing_folder, write_text_atomic
from musicgenre._json import pretty_json, read_versioned_json
from musicgenre._text import printable
from musicgenre.errors import BundleError

POINTER = "current"
"""File that names the version in use."""

_FORMAT_VERSION = 1
_BUNDLE, _RUN, _ABOUT = "model.onnx", "run", "version.json"
_NAME = re.compile(r"v\d{4,8}")
_LONGEST_NAME = 100  # bytes of a pointer that are read


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model.

    Parameters
    ----------
    folder : Path
        Where it lies.
    model_sha256 : str
        Checksum of its bundle, as its card has it.
    run_sha256 : str
        What tells its run from others.
    instead_of : str
        Name of the version that it took the place of; empty for the first.
    """

    folder: Path
    model_sha256: str
    run_sha256: str
    instead_of: str = ""

    @property
    def name(self) -> str:
        """Its name, as `v0002`."""
        return self.folder.name

    @property
    def bundle(self) -> Path:
        """Its bundle."""
        return self.folder / _BUNDLE

    @property
    def run(self) -> Path:
        """What is kept of its run: description, recipe and what it said of the test part."""
        return self.folder / _RUN


def holds_versions(folder: Path) -> bool:
    """Whether a folder holds versions, one of them in use."""
    return (folder / POINTER).is_file()


def current_version(folder: Path) -> Version | None:
    """Read which version is in use; None where none ever was.

    Raises
    ------
    BundleError
        The pointer, or what it points to, is damaged.
    """
    pointer = folder / POINTER
    try:
        with pointer.open("rb") as stream:
            name = stream.read(_LONGEST_NAME).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{pointer} cannot be read ({error.strerror or error})") from error
    return read_version(folder, name)


def read_version(folder: Path, name: str) -> Version:
    """Read what is known of a version.

    Raises
    ------
    BundleError
        There is none of that name, or it is damaged.
    """
    known = version_names(folder)
    if name not in known:
        raise BundleError(
            f"{folder / POINTER} names the version {printable(name)[:_LONGEST_NAME]!r}, which is not there",
            valid=", ".join(known) or "none: the folder holds no version",
            next_step=f"Write the name of one into {POINTER}",
        )
    remedy = f"Write the name of another version into {folder / POINTER}"
    path = folder / name / _ABOUT
    try:
        about = read_versioned_json(path, _FORMAT_VERSION, kind="version", error=BundleError, remedy=remedy)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is not there", next_step=remedy) from error
    told = [about.get(key) for key in ("model_sha256", "run_sha256", "instead_of")]
    if not all(isinstance(value, str) for value in told):
        raise BundleError(f"{path} is damaged: it lacks a checksum", next_step=remedy)
    return Version(folder / name, *map(str, told))


def version_names(folder: Path) -> list[str]:
    """Names of all versions, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(
        (path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=lambda name: int(name[1:])
    )


def current_bundle(model: str | os.PathLike[str]) -> Path | None:
    """The bundle in use where `model` is the path of a folder of versions; None for anything else.

    A plain name is no path, whatever lies in the working folder: write `./served` for a folder there.

    Raises
    ------
    BundleError
        The pointer, or what it points to, is damaged.
    """
    text = os.fspath(model)
    if not any(separator in text for separator in (os.sep, os.altsep or os.sep)) or not holds_versions(Path(text)):
        return None
    version = current_version(Path(text))
    return None if version is None else version.bundle


def add_version(
    folder: Path, bundle: Path, run_files: Sequence[Path], *, model_sha256: str, run_sha256: str
) -> Version:
    """Put a bundle into the folder beside the version in use, which stays in use; the same bundle is put there once.

    Parameters
    ----------
    folder : Path
        The folder of versions; it is made where it is not there.
    bundle : Path
        The bundle.
    run_files : sequence of Path
        What to keep of its run.
    model_sha256, run_sha256 : str
        As `Version` has them.

    Returns
    -------
    Version
        What was put there, made to take the place of the version in use.
    """
    names = version_names(folder)
    now = current_version(folder)
    version = None
    for name in names:
        if (folder / name / _ABOUT).is_file() and read_version(folder, name).model_sha256 == model_sha256:
            version = Version(folder / name, model_sha256, run_sha256)
    if version is not None and now is not None and version.name == now.name:
        return now

    before = "" if now is None else now.name
    if version is None:
        number = 1 + max((int(name[1:]) for name in names), default=0)
        version = Version(folder / f"v{number:04d}", model_sha256, run_sha256, before)
        with replacing_folder(version.folder) as temporary:
            (temporary / _RUN).mkdir()
            shutil.copyfile(bundle, temporary / _BUNDLE)
            for path in run_files:
                shutil.copyfile(path, temporary / _RUN / path.name)
            write_text_atomic(temporary / _ABOUT, _about(version))
        return version

    version = Version(version.folder, model_sha256, run_sha256, before)
    write_text_atomic(version.folder / _ABOUT, _about(version))
    return version


def use_version(folder: Path, name: str) -> None:
    """Point to a version, or, by an empty name, to none."""
    if name:
        write_text_atomic(folder / POINTER, f"{name}\n")
    else:
        (folder / POINTER).unlink(missing_ok=True)


def _about(version: Version) -> str:
    content: dict[str, Any] = {"format_version": _FORMAT_VERSION, **asdict(version)}
    del content["folder"]
    return pretty_json(content)
