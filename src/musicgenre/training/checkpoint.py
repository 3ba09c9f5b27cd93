"""Weights in the safetensors format: a JSON header and raw numbers, so that reading runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import replacing
from musicgenre.errors import RunError, needing

with needing("training", "train"):
    import safetensors
    import safetensors.numpy

Array = NDArray[Any]

_DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


def write_safetensors(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name, atomically.

    Raises
    ------
    RunError
        If an array has a type that the format, or NumPy, does not have (bfloat16).
    """
    plain: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise RunError(f"the array {name} has the type {array.dtype}", valid=f"Types: {', '.join(_DTYPES)}")
        plain[name] = np.asarray(array, order="C")  # the package writes memory as it lies, transposed or not

    content = safetensors.numpy.save(plain, metadata=dict(metadata) if metadata else None)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what `write_safetensors` wrote.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays, in memory.
    metadata : dict of str to str
        The texts beside them.

    Raises
    ------
    RunError
        If the file is missing, cut short, or its header does not fit its content.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return arrays, dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise RunError(f"there is no weights file {path}", next_step="Train again, or finish with --resume") from error
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise RunError(f"the weights file {path} is damaged ({error})", next_step="Train again") from error
