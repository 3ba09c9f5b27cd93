"""Shard sets: a store whose training part lies in tar archives, on a disk or in object storage, read front to back.

A set is a folder or an address. ``shards.json`` describes the store and lists the archives with their counts and
SHA-256; ``index.csv`` has one line a row, as a store has; ``manifest.csv`` lists the tracks. :func:`write_shards`
makes it. Opening one copies index, manifest and the validation and test parts into the cache, so that these can be
read in any order and score as they do from a store; only the training part is streamed.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import cache_folder, parsed_json, replacing, write_bytes_atomic, write_text_atomic, writing_to
from musicgenre._locks import folder_lock
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.rows import Normalisation
from musicgenre.data.shard_places import (
    SHARDS_FILE,
    Place,
    Shard,
    fetch,
    looks_like_shards,
    place_of,
    read_or_fail,
    read_shard,
)
from musicgenre.data.shard_writer import FORMAT_VERSION, digest_of, write_shards
from musicgenre.data.store import FORMAT_VERSION as STORE_VERSION
from musicgenre.data.store import STORE_FILE, PartView, Store
from musicgenre.errors import DataError, UsageError

__all__ = ["Shard", "ShardSet", "looks_like_shards", "open_shards", "read_or_fail", "write_shards"]

_PART = re.compile(r"[a-z]+(-fold-\d+)?")
_TYPES: dict[str, type] = {
    "shards": list,
    "parts": dict,
    "index": str,
    "index_sha256": str,
    "manifest": str,
    "manifest_sha256": str,
    "shape": list,
    "dtype": str,
    "normalisation": dict,
    "labels": list,
    "representation": dict,
    "skipped": list,
}


class ShardSet(Store):
    """An opened set; a :class:`~musicgenre.data.store.Store` whose training features cannot be read at will.

    Parameters
    ----------
    folder : Path
        The local copy of index, manifest, validation and test part.
    place : Place
        Where the shards are.
    shards : sequence of Shard
        All of the set.

    Attributes
    ----------
    streamed : tuple of Shard
        The training shards that are wanted, in the set's order.
    """

    def __init__(self, folder: Path, place: Place, shards: Sequence[Shard]) -> None:
        self.place = place
        self.shards = tuple(shards)
        self.streamed = _wanted(place, shards)
        super().__init__(folder)
        file_of, row_of = self.everything.features.places
        for number, (name, n_rows) in enumerate(self._n_rows.items()):
            if sorted(row_of[file_of == number].tolist()) != list(range(n_rows)):
                raise ValueError(f"the part {name} has not the rows 0 to {n_rows - 1}, each once")
        self._keep_streamed()

    @cached_property
    def manifest(self) -> Manifest:
        """The tracks whose rows are at hand."""
        whole = read_manifest(self.folder / "manifest.csv")
        known = set(self.everything.track_ids.tolist())
        return whole.with_tracks(track for track in whole.tracks if track.track_id in known)

    def normalisation_of(self, part: PartView) -> Normalisation:
        """Mean and deviation of the whole training part: they were measured when the store was prepared."""
        assert self.normalisation is not None  # the index says so, or opening would have failed
        return self.normalisation

    def positions(self, part: PartView) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
        """Tell where the rows of a shard stand in ``part``.

        Returns
        -------
        dict
            For every part of the store an array: number of the row in it to index in ``part``, -1 for none.
        """
        file_of, row_of = part.features.places
        found = {}
        for number, (name, n_rows) in enumerate(self._n_rows.items()):
            found[name] = np.full(n_rows, -1, np.int64)
            here = np.flatnonzero(file_of == number)
            found[name][row_of[here]] = here
        return found

    def _check_files(self, description: dict[str, Any]) -> None:
        self._n_rows = {name: int(part["rows"]) for name, part in description["parts"].items()}

    def _keep_streamed(self) -> None:
        """Leave out the training rows of shards that are not wanted."""
        if not self.place.names:
            return
        file_of, row_of = self.everything.features.places
        keep = self._split != "train"
        names = list(self._n_rows)
        for shard in self.streamed:
            inside = (row_of >= shard.first_row) & (row_of < shard.first_row + shard.n_rows)
            keep |= (file_of == names.index(shard.part)) & inside
        rows = np.flatnonzero(keep)
        self.everything = self.everything.take(rows)
        self._split, self._fold = self._split[rows], self._fold[rows]


def open_shards(where: Path | str, *, cache: Path | None = None) -> ShardSet:
    """Open a set and copy its validation and test part into the cache, unless they are there.

    Parameters
    ----------
    where : Path or str
        Its folder or address, or a brace pattern of training shards, as ``URL/train-{000000..000003}.tar``.
    cache : Path, optional
        Where the copies go; ``shards`` in the cache folder by default.

    Raises
    ------
    UsageError
        An address that would run a command, or is of another kind than HTTP; shards that the set does not have.
    DataError
        There is no set, it is unfinished, of a newer version, or a file of it is missing or damaged.
    """
    place = place_of(where)
    content = _fetch_description(place)
    description = _checked(place, content)
    shards = [Shard.from_dict(entry) for entry in description["shards"]]
    folder = (cache or cache_folder() / "shards") / digest_of(content)
    with writing_to(folder), folder_lock(folder, "copy of the same shards", wait_s=600.0):
        _copy(place, description, shards, folder)
    try:
        return ShardSet(folder, place, shards)
    except (KeyError, ValueError, IndexError, TypeError, csv.Error) as error:
        raise DataError(
            f"{place.where(description['index'])} does not fit its {SHARDS_FILE} ({error})",
            next_step="Write the shards again",
        ) from error


def _fetch_description(place: Place) -> bytes:
    try:
        return fetch(place.where(SHARDS_FILE))
    except DataError as error:
        raise DataError(
            f"there are no shards in {place.base}: {error.problem}",
            valid=f"A finished set has a {SHARDS_FILE}",
            next_step="Write one with 'musicgenre shard'",
        ) from error


def _checked(place: Place, content: bytes) -> dict[str, Any]:
    where = place.where(SHARDS_FILE)
    try:
        description: dict[str, Any] = parsed_json(content)
        version = int(description["format_version"])
        if version <= FORMAT_VERSION:
            _check_types(description)
            _check_rows(description)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{where} is damaged ({error})", next_step="Write the shards again") from error
    if version > FORMAT_VERSION:
        raise DataError(
            f"{where} was made by a newer musicgenre (format {version})",
            valid=f"This one reads format {FORMAT_VERSION}",
            next_step="Update musicgenre",
        )
    return description


def _check_types(description: dict[str, Any]) -> None:
    for key, wanted in _TYPES.items():
        if description.get(key) is None:
            raise ValueError(f"it has no {key}")
        if not isinstance(description[key], wanted):
            raise ValueError(f"its {key} is {str(description[key])[:40]!r}")
    if not all(type(size) is int and size > 0 for size in description["shape"]):
        raise ValueError(f"its shape is {description['shape']}")
    if not all(isinstance(label, str) for label in description["labels"]):
        raise ValueError("its labels are no names")
    for key in ("segment_s", "hop_s"):
        if description.get(key) is not None and not float(description[key]) > 0:
            raise ValueError(f"its {key} is {description[key]}")
    shape = tuple(description["shape"])
    for measured in Normalisation.from_dict(description["normalisation"]).broadcast(len(shape)):
        if np.broadcast_shapes(measured.shape, shape) != shape:
            raise ValueError("its normalisation does not fit its shape")


def _check_rows(description: dict[str, Any]) -> None:
    """Every row of every part lies in one shard, and every shard is as large as its rows at least."""
    reached = dict.fromkeys(description["parts"], 0)
    if bad := [name for name in reached if not _PART.fullmatch(name)]:
        raise ValueError(f"the part {bad[0]!r}")
    row_bytes = int(np.prod(description["shape"])) * np.dtype(description["dtype"]).itemsize
    for shard in map(Shard.from_dict, description["shards"]):
        if shard.n_rows * row_bytes > shard.n_bytes:
            raise ValueError(f"the shard {shard.file} is smaller than its rows")
        if shard.n_rows < 1 or shard.first_row != reached[shard.part]:
            raise ValueError(f"the shard {shard.file} does not follow the one before it")
        reached[shard.part] += shard.n_rows
    if reached != description["parts"]:
        raise ValueError("its shards do not hold the rows of its parts")


def _copy(place: Place, description: dict[str, Any], shards: Sequence[Shard], folder: Path) -> None:
    """Bring everything but the training shards here; the description last, so that a copy with it is whole."""
    if (folder / STORE_FILE).is_file():
        return
    for name in ("index", "manifest"):
        content = fetch(place.where(description[name]), sha256=description[f"{name}_sha256"])
        write_bytes_atomic(folder / f"{name}.csv", content)
    parts = {name: {"file": f"{name}.npy", "rows": rows} for name, rows in description["parts"].items()}
    for name, part in parts.items():
        if not _trains(name):
            _copy_part(place, description, [shard for shard in shards if shard.part == name], folder / part["file"])
    left_out = {"shards", "manifest", "index_sha256", "manifest_sha256"}
    whole = {key: value for key, value in description.items() if key not in left_out}
    whole |= {"format_version": STORE_VERSION, "parts": parts, "index": "index.csv"}
    write_text_atomic(folder / STORE_FILE, json.dumps(whole, indent=1) + "\n")


def _copy_part(place: Place, description: dict[str, Any], shards: Sequence[Shard], path: Path) -> None:
    shape, dtype = tuple(description["shape"]), description["dtype"]
    whole = (sum(shard.n_rows for shard in shards), *shape)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": whole}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for shard in shards:
            rows = read_shard(shape, dtype, place.where(shard.file), shard)
            stream.write(rows.reshape(-1).view(np.uint8).data)


def _trains(part: str) -> bool:
    return part == "train" or part.startswith("train-")


def _wanted(place: Place, shards: Sequence[Shard]) -> tuple[Shard, ...]:
    training = {shard.file: shard for shard in shards if _trains(shard.part)}
    if unknown := [name for name in place.names if name not in training]:
        raise UsageError(
            f"{unknown[0]} is no training shard of {place.base}",
            valid=f"{next(iter(training))} to {list(training)[-1]}",
        )
    return tuple(training[name] for name in dict.fromkeys(place.names)) or tuple(training.values())
