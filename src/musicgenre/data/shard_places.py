"""Plumbing of shard sets: where their files are, on a disk or behind HTTP, and how their bytes are had.

webdataset opens addresses by running commands (`pipe:` runs any, `http:` runs curl). Nothing is run here: a file
is opened, or an address is asked for by Python's own HTTP client, and every other kind of address is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import re
import tarfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._json import parsed_json
from musicgenre._npz import read_npy_header
from musicgenre._transfer import TooMuchError, opened, receive
from musicgenre.data.rows import Features
from musicgenre.errors import DataError, UsageError, needing

SHARDS_FILE = "shards.json"
_SUFFIXES = frozenset({"npy", "json"})  # the files of a track in an archive
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive
_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?\d+)?\}")
_MOST_NAMES = 100_000
_MOST_BRACES = 20  # each may double the names
_LONGEST_INDEX = 1 << 30  # bytes
_TRIES = 3
_WAIT_S = 1.0  # before the second try; twice as long before each further one
_FINAL = (401, 403, 404, 410)  # answers of a server that asking again does not change
_WRITE = "Write the shards again with 'musicgenre shard'"
_AGAIN = "Copy the shards again, or write them again with 'musicgenre shard'"


@dataclass(frozen=True)
class Place:
    """The folder of a shard set, and which of its training shards are wanted.

    Parameters
    ----------
    base : str
        A folder, or an address that begins with `http://` or `https://`.
    names : tuple of str
        Files; empty: all.
    """

    base: str
    names: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """Whether it is an address."""
        return _SCHEME.match(self.base) is not None

    def where(self, name: str) -> str:
        """Path or address of a file of the set."""
        return f"{self.base}/{name}" if self.remote else str(Path(self.base) / name)


def looks_like_shards(where: Path | str) -> bool:
    """Whether this names a shard set rather than a manifest: an address, `.tar` files or a folder that holds one."""
    if isinstance(where, str) and _SCHEME.match(where):
        return True
    return str(where).endswith(".tar") or (Path(where) / SHARDS_FILE).is_file()


def place_of(where: Path | str) -> Place:
    """Read a folder, an address or a brace pattern of either (`URL/train-{000000..000007}.tar`).

    Raises
    ------
    UsageError
        An address of another kind than `http`, `https` or `file`; a pattern over several folders.
    """
    text = str(where).rstrip("/")
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[1].lower() not in ("http", "https", "file"):
        raise UsageError(
            f"shards cannot be read from {text!r}: addresses of the kind {scheme[1]!r} are refused",
            valid="A folder, or an address that begins with http:// or https://; commands are never run",
        )
    if scheme is not None and scheme[1].lower() == "file":
        text = urllib.request.url2pathname(text.split(":", 1)[1].removeprefix("//"))
    if not text.endswith(".tar"):
        return Place(text)

    bases, names = set(), []
    for shard in _expand_braces(text):
        base, _, name = shard.rpartition("/")
        bases.add(base)
        names.append(name)
    if len(bases) > 1:
        raise UsageError(f"the pattern {text!r} names several folders", valid="Shards of one set")
    return Place(bases.pop() or ".", tuple(names))


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
        """Read an entry of `shards.json`; raises KeyError, TypeError or ValueError."""
        numbers = {name: int(data[name]) for name in ("first_row", "n_rows", "n_tracks", "n_bytes")}
        if min(numbers.values()) < 0 or "/" in data["file"] or "\\" in data["file"]:
            raise ValueError(f"the shard {data['file']!r}")
        return cls(str(data["file"]), str(data["part"]), **numbers, sha256=str(data["sha256"]))


def fetch(where: str, *, n_bytes: int | None = None, sha256: str | None = None) -> bytes:
    """Get a file's bytes; a remote one is tried three times.

    Parameters
    ----------
    where : str
        Path or address.
    n_bytes : int, optional
        How many bytes there have to be.
    sha256 : str, optional
        Their checksum, in hex.

    Raises
    ------
    DataError
        It is missing, cannot be reached, or is not what the set's index says; the message names it.
    """
    try:
        content = _download(where, n_bytes) if _SCHEME.match(where) else Path(where).read_bytes()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where} cannot be read ({reason})", next_step=_AGAIN) from error

    if n_bytes is not None and len(content) != n_bytes:
        raise DataError(f"{where} has {len(content)} bytes", valid=f"{n_bytes} bytes", next_step=_AGAIN)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{where} is damaged: its SHA-256 is not that of the set's index", next_step=_AGAIN)
    return content


def read_shard(shape: tuple[int, ...], dtype: str, where: str, shard: Shard) -> Features:
    """Fetch and check a shard.

    Parameters
    ----------
    shape, dtype : tuple of int, str
        Of one row.
    where : str
        Path or address of the archive.
    shard : Shard
        What the set's index says of it.

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
    with needing("reading shards", "stream"):
        from webdataset.tariterators import group_by_keys, tar_file_expander

    done = 0
    try:
        rows = np.empty((shard.n_rows, *shape), dtype)
        for sample in group_by_keys(tar_file_expander([{"url": where, "stream": io.BytesIO(content)}])):
            key = sample["__key__"]
            suffixes = {name for name in sample if not name.startswith("__")}
            if suffixes != _SUFFIXES:
                raise ValueError(f"{key} has the files {', '.join(sorted(suffixes))}, not one npy and one json")

            # without pickles: those could run anything
            if read_npy_header(io.BytesIO(sample["npy"])).n_bytes != len(sample["npy"]):
                raise ValueError(f"the array of {key} is of another size than its header says")
            own = np.load(io.BytesIO(sample["npy"]), allow_pickle=False)
            if own.shape[1:] != shape or own.dtype != np.dtype(dtype):
                raise ValueError(f"{key} has {own.dtype} {own.shape}, not {dtype} (n, {shape})")

            first = int(parsed_json(sample["json"])["row"])
            if first != shard.first_row + done or done + len(own) > shard.n_rows:
                raise ValueError(f"{key} holds the rows from {first} on")
            rows[done : done + len(own)] = own
            done += len(own)
    except (ValueError, KeyError, TypeError, EOFError, tarfile.TarError) as error:
        # webdataset appends arguments of its own to errors, and some have no text at all
        reason = next((str(part) for part in error.args if str(part)), type(error).__name__)
        raise DataError(f"the shard {where} cannot be used ({reason})", next_step=_WRITE) from error

    if done != shard.n_rows:
        raise DataError(f"the shard {where} holds {done} rows", valid=f"{shard.n_rows}", next_step=_WRITE)
    return rows


def read_or_fail(shared: tuple[tuple[int, ...], str], wanted: tuple[str, Shard]) -> tuple[Shard, Features | DataError]:
    """Read a shard; what is wrong with it is an answer, not an error, so that the caller may go on without it."""
    where, shard = wanted
    try:
        return shard, read_shard(*shared, where, shard)
    except DataError as error:
        return shard, error


def _expand_braces(pattern: str) -> list[str]:
    """List what a pattern names, after a look at how much that would be."""
    if "{" not in pattern:
        return [pattern]

    too_many = UsageError(f"the pattern {pattern[:80]!r} names too many shards", valid=f"At most {_MOST_NAMES:,}")
    for first, last in _RANGE.findall(pattern):
        if abs(int(last) - int(first)) >= _MOST_NAMES:
            raise too_many
    if pattern.count("{") > _MOST_BRACES:
        raise UsageError(f"the pattern {pattern[:80]!r} has too many braces", valid=f"At most {_MOST_BRACES}")

    with needing("reading shards", "stream"):
        from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]
    try:
        names = list(islice(braceexpand(pattern), _MOST_NAMES + 1))
    except UnbalancedBracesError as error:
        raise UsageError(f"the pattern {pattern!r} has a brace that does not close") from error
    if len(names) > _MOST_NAMES:
        raise too_many
    return names


def _download(address: str, n_bytes: int | None) -> bytes:
    """Get what lies at an address; a server that is busy or slow is asked again."""
    for attempt in range(_TRIES):
        try:
            sink = io.BytesIO()
            with opened(address) as answer:
                receive(answer, sink, most=_LONGEST_INDEX if n_bytes is None else n_bytes)
            return sink.getvalue()
        except TooMuchError:
            raise
        except (OSError, http.client.HTTPException) as error:
            if attempt == _TRIES - 1 or getattr(error, "code", 0) in _FINAL:
                raise
            time.sleep(_WAIT_S * 2**attempt)
    raise AssertionError("the last attempt returns or raises")
