"""Plumbing of shard sets: the bytes of one shard to its rows. It runs in a thread, or in processes of its own.

A shard is a tar archive as webdataset writes and reads it. One sample a track: ``KEY.npy`` with its rows (n, *shape),
and ``KEY.json`` with ``track_id`` and ``row``, the number of the first of them in its part. Nothing else is decoded;
above all no pickle, which webdataset's own decoder would load.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import parsed_json
from musicgenre.data._shard_places import fetch
from musicgenre.data.rows import Features
from musicgenre.errors import DataError, MissingExtraError

_SUFFIXES = frozenset({"npy", "json"})


@dataclass(frozen=True)
class Shard:
    """One archive of a set.

    Parameters
    ----------
    file, part : str
        Its name, and the part of the store its rows belong to.
    first_row, n_rows : int
        The rows of the part that it holds.
    n_tracks, n_bytes : int
        What else is known of it.
    sha256 : str
        Of the whole file.
    """

    file: str
    part: str
    first_row: int
    n_rows: int
    n_tracks: int
    n_bytes: int
    sha256: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Shard:
        """Read an entry of ``shards.json``; raises KeyError, TypeError or ValueError."""
        numbers = {name: int(data[name]) for name in ("first_row", "n_rows", "n_tracks", "n_bytes")}
        if min(numbers.values()) < 0 or "/" in data["file"] or "\\" in data["file"]:
            raise ValueError(f"the shard {data['file']!r}")
        return cls(str(data["file"]), str(data["part"]), **numbers, sha256=str(data["sha256"]))


def read_shard(shape: tuple[int, ...], dtype: str, where: str, shard: Shard) -> Features:
    """Fetch and check a shard.

    Returns
    -------
    ndarray, shape (n_rows, *shape)
        Its rows, in their order.

    Raises
    ------
    DataError
        It is missing, cut short, damaged, or holds something else; the message names it.
    """
    content = fetch(where, n_bytes=shard.n_bytes, sha256=shard.sha256)
    done = 0
    try:
        rows = np.empty((shard.n_rows, *shape), dtype)
        for sample in _samples(content, where):
            found, first = _decoded(sample, shape, dtype)
            if first != shard.first_row + done or done + len(found) > shard.n_rows:
                raise ValueError(f"{sample['__key__']} holds the rows from {first} on")
            rows[done : done + len(found)] = found
            done += len(found)
    except (ValueError, KeyError, TypeError, EOFError, tarfile.TarError) as error:
        reason = next((str(part) for part in error.args if str(part)), type(error).__name__)
        raise DataError(f"the shard {where} cannot be used ({reason})", next_step=_WRITE) from error
    if done != shard.n_rows:
        raise DataError(f"the shard {where} holds {done} rows", valid=f"{shard.n_rows}", next_step=_WRITE)
    return rows


def read_or_fail(shared: tuple[tuple[int, ...], str], wanted: tuple[str, Shard]) -> tuple[Shard, Features | DataError]:
    """Read a shard; what is wrong with it is an answer, not an error, so that the caller may go on without it."""
    try:
        return wanted[1], read_shard(*shared, *wanted)
    except DataError as error:
        return wanted[1], error


_WRITE = "Write the shards again with 'musicgenre shard'"


def _samples(content: bytes, where: str) -> Iterator[dict[str, Any]]:
    try:
        from webdataset.tariterators import group_by_keys, tar_file_expander
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading shards", "stream") from error
    opened = [{"url": where, "stream": io.BytesIO(content)}]
    found: Iterator[dict[str, Any]] = group_by_keys(tar_file_expander(opened))
    return found


def _decoded(sample: dict[str, Any], shape: tuple[int, ...], dtype: str) -> tuple[NDArray[Any], int]:
    suffixes = {name for name in sample if not name.startswith("__")}
    if suffixes != _SUFFIXES:
        raise ValueError(f"{sample['__key__']} has the files {', '.join(sorted(suffixes))}, not one npy and one json")
    rows = np.load(io.BytesIO(sample["npy"]), allow_pickle=False)
    if rows.shape[1:] != shape or rows.dtype != np.dtype(dtype):
        raise ValueError(f"{sample['__key__']} has {rows.dtype} {rows.shape}, not {dtype} (n, {shape})")
    return rows, int(parsed_json(sample["json"])["row"])
