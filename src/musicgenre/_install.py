"""The line that installs an optional part of musicgenre, fitted to how musicgenre itself was installed."""

from __future__ import annotations

import json
import os
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

_WITH_TORCH = {"train", "pretrained", "stream", "search"}
"""Extras that bring torch, whose usual build is for graphics cards and takes gigabytes."""

_CONSTRAINTS = "constraints.txt"


def install_advice(extra: str) -> str:
    """Say how to install an extra, without the full stop.

    Beside a clone the versions are those of its `constraints.txt`; elsewhere a torch that is installed is kept. The
    name `musicgenre[...]` is right for a clone too: pip finds musicgenre installed and adds what the extra needs.

    Parameters
    ----------
    extra : str
        `features`, `plot`, `train`, `pretrained`, `stream`, `search`, `parquet`, `watch`, `serve`, `cluster` or
        `beets`.
    """
    torch = _version_of("torch") if extra in _WITH_TORCH else None
    words = ["pip", "install"]
    constraints = _constraints_file()
    if constraints is not None:
        words += ["-c", shlex.quote(os.path.relpath(constraints))]
    elif torch is not None:
        words.append(shlex.quote(f"torch=={torch}"))
    words.append(f"'musicgenre[{extra}]'")

    advice = f"Install them with: {' '.join(words)}"
    if extra in _WITH_TORCH and torch is None:
        advice += (
            ". It brings torch: where there is no NVIDIA card, install the CPU build of torch first, as torch's own"
            " page tells, and gigabytes are spared"
        )
    return advice


def _constraints_file() -> Path | None:
    """The tested versions, in the clone that this package runs in or was installed from; None where there is none."""
    clones = [Path(__file__).resolve().parents[2]]
    try:
        origin = json.loads(metadata.distribution("musicgenre").read_text("direct_url.json") or "{}")
        address = urlparse(origin.get("url", ""))
        if address.scheme == "file":
            clones.append(Path(url2pathname(address.path)))
    except (metadata.PackageNotFoundError, ValueError):
        pass  # run from its files, or the note on where it came from was damaged

    for clone in clones:
        if (clone / _CONSTRAINTS).is_file() and (clone / "pyproject.toml").is_file():
            return clone / _CONSTRAINTS
    return None


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
