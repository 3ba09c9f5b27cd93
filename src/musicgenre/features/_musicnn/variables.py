"""The variables of the published networks by name: from the cache, from a published checkpoint, or drawn at random."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import cache_folder, replacing
from musicgenre.features._musicnn.checkpoint import Checkpoint
from musicgenre.features._musicnn.fetch import find_weights, read_checkpoint
from musicgenre.features._musicnn.published import Family, Published

Variables = dict[str, NDArray[np.float32]]

_CHECKPOINT = "checkpoint_sha256"  # name of the entry that says which checkpoint a kept file was made from
_SEED = 20_019
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)

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
    "vgg": {f"{n}CNN": (3, 3, 1 if n == 1 else 128, 128) for n in range(1, 6)} | {"dense": (256, 50)},
}
_NORMS: dict[Family, tuple[int, ...]] = {
    "musicnn": (1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200),
    "vgg": (1, 128, 128, 128, 128, 128),
}


def variable_shapes(family: Family) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's variables; kernels are (time, frequency, in, out) or (in, out)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in _KERNELS[family].items():
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[-1:]}
    for number, width in enumerate(_NORMS[family]):
        prefix = "batch_normalization" + (f"_{number}" if number else "")
        shapes |= {f"{prefix}/{part}": (width,) for part in ("gamma", "beta", "moving_mean", "moving_variance")}
    return shapes


def random_variables(family: Family) -> Variables:
    """Draw the variables of an untrained network, always the same: for trying things out without the weights."""
    rng = np.random.default_rng(_SEED)
    variables = {}
    for name, shape in variable_shapes(family).items():
        if name.endswith("/kernel"):
            values = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[:-1]))
        else:
            values = np.full(shape, 1.0 if name.endswith(("gamma", "moving_variance")) else 0.0)
        variables[name] = values.astype(np.float32)
    return variables


def read_variables(
    models: Sequence[Published],
    *,
    source: Path | None = None,
    allow_network: bool = True,
    report: Callable[[str], None] = lambda _: None,
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
    kept = {model.name: _kept(model) for model in models if source is None}
    found = {name: variables for name, variables in kept.items() if variables is not None}
    missing = [model for model in models if model.name not in found]
    if missing:
        with tempfile.TemporaryDirectory(prefix="musicgenre-", ignore_cleanup_errors=True) as folder:
            weights = find_weights(source, Path(folder), allow_network=allow_network, report=report)
            for model in missing:
                checkpoint = Checkpoint(*read_checkpoint(weights, model))
                found[model.name] = {name: checkpoint.read(name) for name in variable_shapes(model.family)}
                _keep(model, found[model.name])
    return found


def variables_path(model: Published) -> Path:
    """Where the variables of a model are kept, or would be."""
    return cache_folder() / "weights" / "musicnn" / f"{model.name}.npz"


def _keep(model: Published, variables: Variables) -> None:
    entries: dict[str, Any] = {**variables, _CHECKPOINT: np.array(model.data_sha256)}
    with replacing(variables_path(model)) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **entries)


def _kept(model: Published) -> Variables | None:
    """Take the variables from the cache; ``None`` where they are absent, damaged or of another checkpoint."""
    try:
        with np.load(variables_path(model), allow_pickle=False) as file:
            if str(file[_CHECKPOINT]) != model.data_sha256:
                return None
            return {name: np.asarray(file[name], np.float32) for name in variable_shapes(model.family)}
    except _UNREADABLE:
        return None
