"""Load a model by its name or its file: whatever it is, the rest hears with it through one contract."""

from __future__ import annotations

from pathlib import Path

from musicgenre.bundle.ensemble import load_ensemble
from musicgenre.bundle.load import load_bundle, read_card
from musicgenre.bundle.store import ensure_bundle
from musicgenre.errors import BundleError
from musicgenre.features._musicnn.published import PUBLISHED
from musicgenre.inference.ensembles import EnsembleListener
from musicgenre.inference.listeners import ClassifierListener, HeadListener, Listener
from musicgenre.inference.taggers import TagListener
from musicgenre.inference.taught import list_taught, load_head


def load_listener(model: str, *, threads: int | None = None) -> Listener:
    """Load a model by name or path.

    Parameters
    ----------
    model : str
        ``default``, the name of a taught head or of a published tagger (``mtt-musicnn``), or the path of a bundle or
        head file.
    threads : int, optional
        Threads one inference may use; all cores by default.

    Raises
    ------
    BundleError
        When the model does not exist, is damaged or needs something that is not installed.
    """
    path = Path(model)
    if path.suffix == ".onnx":
        return _exported(path, threads)
    if model in PUBLISHED and model not in list_taught():
        return TagListener(load_bundle(_published_bundle(model), threads=threads))
    head = load_head(model)
    return HeadListener(load_bundle(ensure_bundle(head.bundle_name), threads=threads), head)


def _exported(path: Path, threads: int | None) -> Listener:
    if read_card(path).kind == "ensemble":
        return EnsembleListener(load_ensemble(path, threads=threads))
    bundle = load_bundle(path, threads=threads)
    return TagListener(bundle) if bundle.card.names_tags else ClassifierListener(bundle)


def _published_bundle(name: str) -> Path:
    """Where a published tagger is; an error that names the command which provides it."""
    try:
        return ensure_bundle(name)
    except BundleError as error:
        raise BundleError(
            error.problem,
            valid=error.valid,
            next_step=f"Get it with: musicgenre bundles get {name}. {error.next_step}",
        ) from error
