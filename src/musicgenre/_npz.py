"""Files of named arrays (`.npz`) in a cache, read so that no damage is taken for numbers."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What the zip file reader and NumPy say of files that something befell.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,  # encrypted, or of a method that there is not
    TypeError,
    ValueError,
)


def read_whole_npz(path: Path) -> dict[str, NDArray[Any]] | None:
    """Read all arrays of a file; `None` where it is missing or damaged.

    Every member is read to its end, where its checksum is compared: `numpy.load` stops where an array ends that a
    damaged header makes shorter, and compares nothing then.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = io.BytesIO(archive.read(name))
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(content, allow_pickle=False)
    except _DAMAGED:
        return None
    return arrays
