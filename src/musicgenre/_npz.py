"""Files of NumPy arrays: looked at before room is made for what they promise, and read so that no damage passes."""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MOST_INFLATION = 20
"""Times its size that a compressed file may hold: numbers of ours shrink to a tenth at the best."""

ALWAYS_ALLOWED_BYTES = 16_000_000
"""What any file may hold, however small it is."""

_ENCRYPTED = 0x1  # bit of an entry's flags

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


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What a `.npy` file says of its array; `n_header_bytes` stand in front of the values."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    n_header_bytes: int

    @property
    def n_bytes(self) -> int:
        """Size of the whole file, header included."""
        return self.n_header_bytes + self.dtype.itemsize * math.prod(self.shape)


def read_npy_header(stream: IO[bytes]) -> ArrayHeader:
    """Read the header of a `.npy` file from its beginning.

    Raises
    ------
    ValueError
        It is none, is damaged, or announces Python objects, which are never loaded.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array is of format {version}")
    is_first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    try:
        shape, is_fortran, dtype = read(stream)
    except (TokenError, SyntaxError, RecursionError, MemoryError, TypeError) as error:  # what damage makes of the text
        raise ValueError(f"the header of an array cannot be read ({type(error).__name__})") from error

    if dtype.hasobject:
        raise ValueError("an array holds Python objects, which are not loaded: allow_pickle=False")
    if any(length < 0 for length in shape):
        raise ValueError(f"an array has the shape {shape}")
    return ArrayHeader(shape, is_fortran, dtype, stream.tell())


def check_npz(path: Path) -> None:
    """Refuse an `.npz` file that is not whole, or inflates to much more than its size.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile
        What is wrong with it. Arrays of objects, encryption and rare kinds of compression are.
    """
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):  # NumPy would speak of pickles, and of a switch to allow them
            raise zipfile.BadZipFile("it is no whole .npz file")
        size = stream.seek(0, 2)
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            n_inflated = sum(entry.file_size for entry in entries)
            if n_inflated > MOST_INFLATION * size + ALWAYS_ALLOWED_BYTES:
                raise ValueError(f"its {size:,} bytes would become {n_inflated:,}")

            for entry in entries:
                is_known = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                if entry.flag_bits & _ENCRYPTED or not is_known:
                    raise ValueError(f"{entry.filename!r} is encrypted or compressed in an unknown way")
                with archive.open(entry) as inside:
                    header = read_npy_header(inside)
                if header.n_bytes != entry.file_size:
                    raise ValueError(f"the array {entry.filename!r} is of another size than its header says")


def read_whole_npz(path: Path) -> dict[str, NDArray[Any]] | None:
    """Read all arrays of a file; `None` where it is missing or damaged.

    Every member is read to its end, where its checksum is compared: `numpy.load` stops where an array ends that a
    damaged header makes shorter, and compares nothing then.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        check_npz(path)
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = io.BytesIO(archive.read(name))
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(content, allow_pickle=False)
    except _DAMAGED:
        return None
    return arrays
