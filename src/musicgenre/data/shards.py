"""Shard sets: a store whose training part lies in tar archives, on a disk or in object storage, read front to back.

A set is a folder or an address. `shards.json` describes the store and lists the archives with their counts and
SHA-256; `index.csv` has one line a row, as a store has; `manifest.csv` lists the tracks. `write_shards` makes it.
Opening one copies index, manifest and the validation and test parts into the cache, so that these can be
read in any order and score as they do from a store; only the training part is streamed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import cache_folder, replacing, sha256_of, write_bytes_atomic, write_text_atomic, writing_to
from musicgenre._json import check_version, json_sha256, parsed_json
from musicgenre._locks import folder_lock
from musicgenre.data.manifest import Manifest, read_manifest
from musicgenre.data.rows import Normalisation, is_whole, write_npy
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
from musicgenre.data.shard_writer import FORMAT_VERSION, write_shards
from musicgenre.data.store import FORMAT_VERSION as STORE_VERSION
from musicgenre.data.store import STORE_FILE, PartView, Store, is_training_part
from musicgenre.errors import DataError, UsageError

__all__ = ["Shard", "ShardSet", "looks_like_shards", "open_shards", "read_or_fail", "write_shards"]

_REMEDY = "Write the shards again"
# of the description: what its copy, which is a store, does without
_SHARDS_ALONE = frozenset({"shards", "manifest", "index_sha256", "manifest_sha256", "sha256"})
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
    """An opened set; a `Store` whose training features cannot be read at will.

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

        training = {shard.file: shard for shard in shards if is_training_part(shard.part)}
        for name in place.names:
            if name not in training:
                raise UsageError(
                    f"{name} is no training shard of {place.base}",
                    valid=f"{next(iter(training))} to {list(training)[-1]}",
                )
        wanted = dict.fromkeys(place.names) or training  # a pattern may name one twice
        self.streamed = tuple(training[name] for name in wanted)

        super().__init__(folder)
        file_of, row_of = self.everything.features.places
        for number, (name, n_rows) in enumerate(self._n_rows.items()):
            # a stream finds the place of a row by its number alone
            if sorted(row_of[file_of == number].tolist()) != list(range(n_rows)):
                raise ValueError(f"the part {name} has not the rows 0 to {n_rows - 1}, each once")

        # with a pattern, the training rows of other shards are not there
        if place.names:
            wanted_rows = self._split != "train"
            names = list(self._n_rows)
            for shard in self.streamed:
                inside = (row_of >= shard.first_row) & (row_of < shard.first_row + shard.n_rows)
                wanted_rows |= (file_of == names.index(shard.part)) & inside
            rows = np.flatnonzero(wanted_rows)
            self.everything = self.everything.take(rows)
            self._split, self._fold = self._split[rows], self._fold[rows]

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
        """Tell where the rows of a shard stand in `part`.

        Returns
        -------
        dict
            For every part of the store an array: number of the row in it to index in `part`, -1 for none.
        """
        file_of, row_of = part.features.places
        positions = {}
        for number, (name, n_rows) in enumerate(self._n_rows.items()):
            here = np.flatnonzero(file_of == number)
            positions[name] = np.full(n_rows, -1, np.int64)
            positions[name][row_of[here]] = here
        return positions

    @property
    def _remedy(self) -> str:
        """What to do about a damaged row."""
        return "Run the same command again: the copy is looked at and fetched anew"

    def _check_files(self, description: dict[str, Any]) -> None:
        """Only count the rows: the training part has no file here, and the others were checked when they came."""
        self._n_rows = {name: int(part["rows"]) for name, part in description["parts"].items()}


def open_shards(where: Path | str, *, cache: Path | None = None) -> ShardSet:
    """Open a set and copy its validation and test part into the cache, unless they are there.

    Parameters
    ----------
    where : Path or str
        Its folder or address, or a brace pattern of training shards, as `URL/train-{000000..000003}.tar`.
    cache : Path, optional
        Where the copies go; `shards` in the cache folder by default.

    Raises
    ------
    UsageError
        An address that would run a command, or is of another kind than HTTP; shards that the set does not have.
    DataError
        There is no set, it is unfinished, of a newer version, or a file of it is missing or damaged.
    """
    place = place_of(where)
    try:
        content = fetch(place.where(SHARDS_FILE))
    except DataError as error:
        raise DataError(
            f"there are no shards in {place.base}: {error.problem}",
            valid=f"A finished set has a {SHARDS_FILE}",
            next_step="Write one with 'musicgenre shard'",
        ) from error

    where_described = place.where(SHARDS_FILE)
    try:
        description = parsed_json(content)
        check_version(description, FORMAT_VERSION, where_described, kind="shard", error=DataError, remedy=_REMEDY)
        _check_description(description)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{where_described} is damaged ({error})", next_step=_REMEDY) from error
    shards = [Shard.from_dict(entry) for entry in description["shards"]]

    # the copy is named by the description, which holds the checksums of all the rest
    folder = (cache or cache_folder() / "shards") / hashlib.sha256(content).hexdigest()[:20]
    with writing_to(folder), folder_lock(folder, "copy of the same shards", wait_s=math.inf):
        if not _is_whole_copy(folder, description):
            _copy(place, description, shards, folder)

    try:
        return ShardSet(folder, place, shards)
    except (KeyError, ValueError, IndexError, TypeError, csv.Error) as error:
        raise DataError(
            f"{place.where(description['index'])} does not fit its {SHARDS_FILE} ({error})", next_step=_REMEDY
        ) from error


def _check_description(description: dict[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError for whatever is wrong: a description may come from anywhere."""
    for key, wanted in _TYPES.items():
        if description.get(key) is None:
            raise ValueError(f"it has no {key}")
        if not isinstance(description[key], wanted):
            raise ValueError(f"its {key} is {str(description[key])[:40]!r}")

    for size in description["shape"]:
        if type(size) is not int or size <= 0:
            raise ValueError(f"its shape is {description['shape']}")
    for label in description["labels"]:
        if not isinstance(label, str):
            raise ValueError("its labels are no names")
    for key in ("segment_s", "hop_s"):
        if description.get(key) is not None and not float(description[key]) > 0:
            raise ValueError(f"its {key} is {description[key]}")

    shape = tuple(description["shape"])
    for measured in Normalisation.from_dict(description["normalisation"]).broadcast(len(shape)):
        if np.broadcast_shapes(measured.shape, shape) != shape:
            raise ValueError("its normalisation does not fit its shape")

    # every row of every part lies in one shard, and every shard is as large as its rows at least
    reached = dict.fromkeys(description["parts"], 0)
    for name in reached:
        if not _PART.fullmatch(name):
            raise ValueError(f"the part {name!r}")

    row_bytes = int(np.prod(description["shape"])) * np.dtype(description["dtype"]).itemsize
    for shard in map(Shard.from_dict, description["shards"]):
        if shard.n_rows * row_bytes > shard.n_bytes:
            raise ValueError(f"the shard {shard.file} is smaller than its rows")
        if shard.n_rows < 1 or shard.first_row != reached[shard.part]:
            raise ValueError(f"the shard {shard.file} does not follow the one before it")
        reached[shard.part] += shard.n_rows

    if reached != description["parts"]:
        raise ValueError("its shards do not hold the rows of its parts")


def _is_whole_copy(folder: Path, description: dict[str, Any]) -> bool:
    """Whether a copy is there, every byte of it as it was written."""
    try:
        if (folder / STORE_FILE).read_bytes() != _store_text(description).encode("utf-8"):
            return False
        if any(sha256_of(folder / f"{name}.csv") != description[f"{name}_sha256"] for name in ("index", "manifest")):
            return False
    except OSError:
        return False

    shape, dtype = tuple(description["shape"]), np.dtype(description["dtype"])
    for name, n_rows in description["parts"].items():
        if not is_training_part(name) and not is_whole(folder / f"{name}.npy", n_rows, shape, dtype):
            return False
    return True


def _store_text(description: dict[str, Any]) -> str:
    """Describe the copy of a set, which is a store."""
    parts = {name: {"file": f"{name}.npy", "rows": n_rows} for name, n_rows in description["parts"].items()}
    store = {key: value for key, value in description.items() if key not in _SHARDS_ALONE}
    store |= {"format_version": STORE_VERSION, "parts": parts, "index": "index.csv"}
    return json.dumps({**store, "sha256": json_sha256(store)}, indent=1) + "\n"


def _copy(place: Place, description: dict[str, Any], shards: Sequence[Shard], folder: Path) -> None:
    """Bring everything but the training shards here; the description last, so that a copy with it is whole."""
    for name in ("index", "manifest"):
        content = fetch(place.where(description[name]), sha256=description[f"{name}_sha256"])
        write_bytes_atomic(folder / f"{name}.csv", content)

    shape, dtype = tuple(description["shape"]), description["dtype"]
    for name, n_rows in description["parts"].items():
        if is_training_part(name):
            continue
        own = [shard for shard in shards if shard.part == name]
        pieces = (read_shard(shape, dtype, place.where(shard.file), shard) for shard in own)
        with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as stream:
            write_npy(stream, pieces, (n_rows, *shape), np.dtype(dtype))

    write_text_atomic(folder / STORE_FILE, _store_text(description))
