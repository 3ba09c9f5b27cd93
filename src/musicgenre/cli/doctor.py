"""`musicgenre doctor`: the state of this installation, for bug reports."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import typer

from musicgenre.errors import MusicgenreError

_LIGHT = ("numpy", "onnxruntime", "onnx", "av", "soundfile", "soxr", "typer", "rich", "platformdirs")
_OPTIONAL = ("scipy", "numba", "librosa", "matplotlib", "torch", "lightning", "scikit-learn", "audiomentations")


def doctor(context: typer.Context) -> None:
    """Print versions, inference providers, folders and model state for a bug report."""
    from musicgenre._text import printable

    rows = diagnose()
    if isinstance(context.obj, MusicgenreError):  # what the root command met when it read the config file
        rows.append(("problem", printable(str(context.obj))))
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        typer.echo(f"{printable(what):<{width}}  {printable(value)}")


def diagnose() -> list[tuple[str, str]]:
    """Collect the state of this installation as (what, value) pairs, in reading order.

    Whatever is broken becomes a row that says so: a report is wanted most where something is.
    """
    from musicgenre._files import cache_folder
    from musicgenre._parallel import usable_cores
    from musicgenre._version import __version__
    from musicgenre.bundle.store import list_bundles
    from musicgenre.config import config_path
    from musicgenre.models.head import list_taught, load_head

    rows = [
        ("musicgenre", __version__),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.platform()}, {platform.machine()}, {usable_cores()} cores"),
    ]
    packages = [(name, name) for name in _LIGHT]
    packages += [(name, f"{name} (optional)") for name in _OPTIONAL]
    for name, shown in packages:
        try:
            rows.append((shown, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append((shown, "not installed"))

    # These two bring libraries in C, which may be there and not fit this system.
    try:
        from musicgenre._onnxruntime import providers

        rows.append(("inference providers", ", ".join(providers())))
    except ImportError as error:
        rows.append(("inference providers", f"cannot be loaded: {error}"))
    try:
        import soundfile

        rows.append(("sound file library", str(soundfile.__libsndfile_version__)))
    except (ImportError, OSError) as error:
        rows.append(("sound file library", f"cannot be loaded: {error}"))

    rows.append(("cache folder", str(cache_folder())))
    path = config_path()
    try:
        rows.append(("config file", f"{path} ({'read' if path.exists() else 'none'})"))
    except OSError as error:
        rows.append(("config file", f"{path} (cannot be read: {error.strerror})"))

    try:
        for entry in list_bundles():
            state = "not cached"
            if entry.is_cached:
                state = entry.problem or f"{(entry.size_bytes or 0) / 1e6:.1f} MB, whole"
            rows.append((f"bundle {entry.name}", state))
    except OSError as error:
        rows.append(("bundles", f"cannot be listed: {error}"))

    # A cache that may not be entered does not keep the heads from being told of.
    try:
        rows.append(("genre head", load_head("default").name))
    except MusicgenreError as error:
        rows.append(("genre head", f"damaged: {error}"))
    try:
        rows += [("taught model", name) for name in list_taught()]
    except OSError as error:
        rows.append(("taught models", f"cannot be listed: {error}"))
    return rows
