"""Plumbing of archives: consecutive pieces of a file, read as the one file they were cut from."""

from __future__ import annotations

import bisect
import io
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _Pieces(io.RawIOBase):
    """A read-only, seekable stream over files that follow one another."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._streams = [path.open("rb") for path in paths]
        sizes = [os.fstat(stream.fileno()).st_size for stream in self._streams]
        self._starts = [0, *accumulate(sizes)]
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._starts[-1]}[whence]
        if origin + offset < 0:
            raise OSError("a place before the beginning")
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer from the piece that holds this place; fewer bytes than asked for at the end of a piece."""
        number = bisect.bisect_right(self._starts, self._place) - 1
        if number >= len(self._streams):
            return 0
        stream = self._streams[number]
        stream.seek(self._place - self._starts[number])
        data = stream.read(min(memoryview(buffer).nbytes, self._starts[number + 1] - self._place))
        memoryview(buffer).cast("B")[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        super().close()


def open_joined(paths: Sequence[Path]) -> io.BufferedReader:
    """Open consecutive pieces of a file as one, without joining them on disk.

    Parameters
    ----------
    paths : sequence of Path
        The pieces, in order.

    Returns
    -------
    io.BufferedReader
        Binary, seekable; closing it closes the pieces.
    """
    return io.BufferedReader(_Pieces(paths))
