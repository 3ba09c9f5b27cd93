"""The bundles in the cache folder: get, list, verify, remove."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from musicgenre._files import cache_folder
from musicgenre._locks import folder_lock
from musicgenre.bundle.container import read_sealed
from musicgenre.bundle.load import Bundle, load_bundle
from musicgenre.bundle.stages import read_stage
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.published.essentia.published import EFFNET, head_files
from musicgenre.models.head import DEFAULT_HEAD, heard_path, list_taught, taught_path

DEFAULT_BUNDLE = "msd-musicnn"
DEFAULT_NAMES = ("msd-musicnn", "mtt-musicnn")

_SUFFIX = ".onnx"


@dataclass(frozen=True, slots=True)
class CachedBundle:
    """One line of the list.

    Attributes
    ----------
    name : str
        Name of the bundle.
    path : Path
        Where it is, or would be.
    size_bytes : int or None
        Its size, with the published files that it needs; None when it is not cached.
    problem : str
        Why it cannot be used, or empty.
    """

    name: str
    path: Path
    size_bytes: int | None
    problem: str = ""

    @property
    def is_cached(self) -> bool:
        """Whether the file is there."""
        return self.size_bytes is not None


def bundles_folder() -> Path:
    """Folder of the cached bundles."""
    return cache_folder() / "bundles"


def bundle_path(name: str) -> Path:
    """Where the bundle of this name is, or would be."""
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"{name!r} is not a name of a bundle", valid="A plain name such as msd-musicnn")
    return bundles_folder() / f"{name}{_SUFFIX}"


def get_bundles(
    names: Sequence[str] = DEFAULT_NAMES,
    *,
    source: Path | None = None,
    allow_network: bool = True,
    force: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Provide published bundles; those that are cached and whole are left alone.

    The weights are kept next to them, for training on what the networks hear
    (`musicgenre.features.representations.musicnn`).

    Parameters
    ----------
    names : sequence of str
        Bundles of `musicgenre.features.published.musicnn.published.PUBLISHED`.
    source : Path, optional
        The published wheel, or a folder with its checkpoints.
    allow_network : bool
        Whether pip may download the wheel.
    force : bool
        Whether to convert again what is cached.
    report : callable
        Told what is going on, one line at a time.

    Returns
    -------
    list of Path
        The bundles, in the order of `names`.

    Raises
    ------
    BundleError
        When the weights cannot be had; the message names three ways.
    """
    from musicgenre.features.published.musicnn.published import published

    models = [published(name) for name in names]
    missing = [model for model in models if force or problem_of(bundle_path(model.name)) is not None]

    # Only conversion needs onnx and the weights: where all is there, neither is imported or looked for.
    if missing:
        from musicgenre.bundle.container import save_bundle
        from musicgenre.bundle.musicnn import convert
        from musicgenre.features.published.musicnn.weights import read_variables

        with folder_lock(bundles_folder(), "'musicgenre bundles get'", wait_s=math.inf):
            if not force:  # whoever was waited for may have brought them
                missing = [model for model in missing if problem_of(bundle_path(model.name)) is not None]
            variables = read_variables(missing, source=source, allow_network=allow_network, report=report)
            for model in missing:
                report(f"converting {model.name}")
                save_bundle(bundle_path(model.name), *convert(model, variables[model.name].__getitem__))

    for model in models:
        state = "ready" if model in missing else "already there"
        report(f"{model.name} is {state}: {bundle_path(model.name)}")
    return [bundle_path(model.name) for model in models]


def get_on_terms(
    name: str,
    *,
    accept_licence: bool = False,
    source: Path | None = None,
    labels: Path | None = None,
    unverified: bool = False,
    force: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    """Provide a network of Essentia's, whose terms somebody has to agree to; one that is whole is left alone.

    Parameters
    ----------
    name : str
        `discogs-effnet`, a published head, or with `source` a name for a head of one's own.
    accept_licence : bool
        Whether somebody agreed to `musicgenre.bundle.essentia.terms_of`.
    source, labels, unverified, report
        As `musicgenre.bundle.essentia.make_bundle` takes them.
    force : bool
        Whether to get again what is there.

    Returns
    -------
    Path
        The bundle.

    Raises
    ------
    BundleError
        When the files cannot be had, are others than published, or have another form.
    UsageError
        When nobody agreed, or there is no such name.
    """
    path = bundle_path(name)
    if name == DEFAULT_HEAD:
        raise UsageError(f"{name!r} is the name of the model that comes with musicgenre", next_step="Choose another")
    if source is None and not force and path.is_file() and problem_of(path) is None:
        report(f"{name} is already there: {path}")
        return path

    from musicgenre.bundle.container import save_bundle
    from musicgenre.bundle.essentia import make_bundle, terms_of

    if not accept_licence:
        brought = f" --from {source}" if source is not None else ""
        raise UsageError(
            f"nobody agreed to the terms of {name} yet: {terms_of(name).splitlines()[-1]}",
            next_step=f"If you do: musicgenre bundles get {name}{brought} --accept-licence",
        )
    with folder_lock(bundles_folder(), "'musicgenre bundles get'", wait_s=math.inf):
        if source is None and not force and path.is_file() and problem_of(path) is None:
            report(f"{name} is already there: {path}")  # whoever was waited for brought it
            return path
        save_bundle(path, *make_bundle(name, source=source, labels=labels, unverified=unverified, report=report))
    report(f"{name} is ready: {path}")
    return path


def is_bundle_name(name: str) -> bool:
    """Tell whether a name is that of a published bundle, there or not, or of one in the cache."""
    from musicgenre.features.published.musicnn.published import PUBLISHED

    if name in PUBLISHED or name == EFFNET or head_files(name) is not None:
        return True
    try:
        return bundle_path(name).is_file()
    except UsageError:
        return False


def is_model_name(name: str) -> bool:
    """Tell whether a name is that of a model: the default, one that somebody taught here, or a bundle."""
    return name == DEFAULT_HEAD or name in list_taught() or is_bundle_name(name)


def ensure_bundle(name: str, *, allow_fetch: bool = False, report: Callable[[str], None] = lambda _: None) -> Path:
    """Give the path of a bundle that is there.

    Parameters
    ----------
    name : str
        Name of the bundle.
    allow_fetch : bool
        Whether a missing published bundle may be fetched over the network. An installed copy of the published
        package is used either way.
    report : callable
        Told what is going on, one line at a time.

    Raises
    ------
    BundleError
        When it is not there and cannot be had.
    """
    from musicgenre.features.published.musicnn.published import PUBLISHED

    path = bundle_path(name)
    if path.is_file():
        return path
    if name == EFFNET or head_files(name) is not None:
        raise BundleError(
            f"{name} is not on this machine",
            next_step=f"musicgenre bundles get {name} shows its terms and gets it; it is never fetched unasked",
        )
    if name not in PUBLISHED:
        raise BundleError(f"there is no bundle {name!r}", next_step="musicgenre bundles list shows what there is")
    return get_bundles([name], allow_network=allow_fetch, report=report)[0]


def ensure_default(*, allow_fetch: bool = False, report: Callable[[str], None] = lambda _: None) -> Path:
    """Give the path of the default bundle; see `ensure_bundle`."""
    return ensure_bundle(DEFAULT_BUNDLE, allow_fetch=allow_fetch, report=report)


def get_default(*, threads: int | None = None) -> Bundle:
    """Load the default bundle from the cache."""
    return load_bundle(ensure_default(), threads=threads)


def list_bundles() -> list[CachedBundle]:
    """List the published bundles, cached or not, and whatever else lies in the cache."""
    from musicgenre.features.published.musicnn.published import PUBLISHED

    names = [*PUBLISHED, EFFNET]
    for path in sorted(bundles_folder().glob(f"*{_SUFFIX}")):
        if path.stem not in names and not path.name.startswith("."):
            names.append(path.stem)

    bundles = []
    for name in names:
        path = bundle_path(name)
        if path.is_file():
            size_bytes = path.stat().st_size + sum(file.stat().st_size for file in _published_files([path]))
            bundles.append(CachedBundle(name, path, size_bytes, problem_of(path) or ""))
        else:
            bundles.append(CachedBundle(name, path, None))
    return bundles


def problem_of(path: Path) -> str | None:
    """Say why a bundle cannot be used, or None when it is whole."""
    try:
        _, card = read_sealed(path)
        for stage in card.published_stages:
            read_stage(stage, card.name)
    except BundleError as error:
        return str(error)
    return None


def verify_bundles(names: Sequence[str] = ()) -> list[CachedBundle]:
    """Check the checksums of cached bundles (all of them by default).

    Raises
    ------
    BundleError
        When a named bundle is not cached.
    """
    cached = {entry.name: entry for entry in list_bundles() if entry.is_cached}
    for name in names:
        if name not in cached:
            raise _not_cached(name)
    return [cached[name] for name in names or cached]


def remove_bundles(names: Sequence[str]) -> list[Path]:
    """Delete cached bundles and taught models; of a bundle and a taught model of one name, the bundle.

    Published files that a bundle needs go with the last one that needs them, and what was heard for a taught model
    with the model.

    Raises
    ------
    BundleError
        When there is none of that name; nothing is deleted then.
    """
    taught = list_taught()
    paths = []
    for name in names:  # all of them before the first is deleted
        path = bundle_path(name)
        if not path.is_file():
            if name not in taught:
                raise _not_cached(name)
            path = taught_path(name)
            if heard_path(path).is_file():  # what was heard for it goes with it
                paths.append(heard_path(path))
        paths.append(path)

    needed_before = _published_files(bundles_folder().glob(f"*{_SUFFIX}"))
    for path in paths:
        path.unlink()
    for published in sorted(needed_before - _published_files(bundles_folder().glob(f"*{_SUFFIX}"))):
        for path in (published, published.with_suffix(".json")):
            if path.is_file():
                path.unlink()
                paths.append(path)
    return paths


def _published_files(bundles: Iterable[Path]) -> set[Path]:
    """The published files that bundles need, as far as they are there."""
    needed: set[Path] = set()
    for path in bundles:
        try:
            _, card = read_sealed(path)
        except BundleError:
            continue  # what a damaged one needed is not known
        needed |= {stage.path for stage in card.published_stages if stage.path.is_file()}
    return needed


def _not_cached(name: str) -> BundleError:
    cached = [entry.name for entry in list_bundles() if entry.is_cached]
    taught = list_taught()
    valid = f"Cached: {', '.join(cached) or 'none'}"
    if taught:
        valid += f"; taught: {', '.join(taught)}"
    return BundleError(f"there is no bundle {name!r} in the cache", valid=valid)
