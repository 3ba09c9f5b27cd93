"""What a bug report needs: versions, inference providers, folders, state of the models."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import musicgenre
from musicgenre._files import cache_folder
from musicgenre.bundle.store import CachedBundle, list_bundles
from musicgenre.config import config_path
from musicgenre.errors import MusicgenreError
from musicgenre.listening.batch import available_cores

_LIGHT = ("numpy", "onnxruntime", "onnx", "av", "soundfile", "soxr", "typer", "rich", "platformdirs")
_OPTIONAL = ("scipy", "numba", "librosa", "matplotlib", "torch", "lightning", "scikit-learn", "audiomentations")


def diagnose() -> list[tuple[str, str]]:
    """Collect the state of this installation as (what, value) pairs, in reading order."""
    rows = [
        ("musicgenre", musicgenre.__version__),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.platform()}, {platform.machine()}, {available_cores()} cores"),
    ]
    rows += [(name, _version(name)) for name in _LIGHT]
    rows += [(f"{name} (optional)", _version(name)) for name in _OPTIONAL]
    rows += [("inference providers", _providers()), ("sound file library", _libsndfile())]
    rows += [("cache folder", str(cache_folder())), ("config file", _config_state())]
    return rows + _models()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _providers() -> str:
    try:
        import onnxruntime
    except ImportError as error:
        return f"cannot be loaded: {error}"
    return ", ".join(onnxruntime.get_available_providers())


def _libsndfile() -> str:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        return f"cannot be loaded: {error}"
    return str(soundfile.__libsndfile_version__)


def _config_state() -> str:
    path = config_path()
    try:
        return f"{path} ({'read' if path.exists() else 'none'})"
    except OSError as error:
        return f"{path} (cannot be read: {error.strerror})"


def _bundle_state(entry: CachedBundle) -> str:
    if not entry.is_cached:
        return "not cached"
    return entry.problem or f"{(entry.size_bytes or 0) / 1e6:.1f} MB, whole"


def _models() -> list[tuple[str, str]]:
    from musicgenre.models.head import list_taught, load_head

    try:
        rows = [(f"bundle {entry.name}", _bundle_state(entry)) for entry in list_bundles()]
    except OSError as error:  # a cache that may not be entered is what a bug report should tell
        rows = [("bundles", f"cannot be listed: {error}")]
    try:
        rows.append(("genre head", load_head("default").name))
    except MusicgenreError as error:
        rows.append(("genre head", f"damaged: {error}"))
    try:
        return rows + [("taught model", name) for name in list_taught()]
    except OSError as error:
        return [*rows, ("taught models", f"cannot be listed: {error}")]
