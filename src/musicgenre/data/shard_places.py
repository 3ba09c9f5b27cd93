"""Plumbing of shard sets: where their files are, on a disk or behind HTTP, and how their bytes are had.

webdataset opens addresses by running commands (``pipe:`` runs any, ``http:`` runs curl). Nothing is run here: a file
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import parsed_json
from musicgenre._transfer import TooMuchError, opened, receive
from musicgenre.data.rows import Features
from musicgenre.errors import DataError, MissingExtraError, UsageError

_SUFFIXES = frozenset({"npy", "json"})
_WRITE = "Write the shards again with 'musicgenre shard'"


SHARDS_FILE = "shards.json"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive
_TRIES = 3
_WAIT_S = 1.0
_MOST_NAMES = 100_000
_MOST_BRACES = 20
_LONGEST_INDEX = 1 << 30
_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?\d+)?\}")


@dataclass(frozen=True)
class Place:
    """The folder of a shard set, and which of its training shards are wanted.

    Parameters
    ----------
    base : str
        A folder, or an address that begins with ``http://`` or ``https://``.
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
    """Whether this names a shard set rather than a manifest: an address, ``.tar`` files or a folder that holds one."""
    if isinstance(where, str) and _SCHEME.match(where):
        return True
    return str(where).endswith(".tar") or (Path(where) / SHARDS_FILE).is_file()


def place_of(where: Path | str) -> Place:
    """Read a folder, an address or a brace pattern of either (``URL/train-{000000..000007}.tar``).

    Raises
    ------
    UsageError
        An address of another kind than ``http``, ``https`` or ``file``; a pattern over several folders.
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
    names = _expanded(text)
    bases = {name.rpartition("/")[0] for name in names}
    if len(bases) > 1:
        raise UsageError(f"the pattern {text!r} names several folders", valid="Shards of one set")
    return Place(bases.pop() or ".", tuple(name.rpartition("/")[2] for name in names))


def fetch(where: str, *, n_bytes: int | None = None, sha256: str | None = None) -> bytes:
    """Get a file's bytes; a remote one is tried three times.

    Raises
    ------
    DataError
        It is missing, cannot be reached, or is not what the set's index says; the message names it.
    """
    try:
        found = _asked(where, n_bytes) if _SCHEME.match(where) else Path(where).read_bytes()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where} cannot be read ({reason})", next_step=_AGAIN) from error
    if n_bytes is not None and len(found) != n_bytes:
        raise DataError(f"{where} has {len(found)} bytes", valid=f"{n_bytes} bytes", next_step=_AGAIN)
    if sha256 is not None and hashlib.sha256(found).hexdigest() != sha256:
        raise DataError(f"{where} is damaged: its SHA-256 is not that of the set's index", next_step=_AGAIN)
    return found


_AGAIN = "Copy the shards again, or write them again with 'musicgenre shard'"


def _asked(address: str, n_bytes: int | None) -> bytes:
    for attempt in range(_TRIES):
        try:
            sink = io.BytesIO()
            with opened(address) as answer:
                receive(answer, sink, most=_LONGEST_INDEX if n_bytes is None else n_bytes)
            return sink.getvalue()
        except TooMuchError:
            raise
        except (OSError, http.client.HTTPException) as error:
            if attempt == _TRIES - 1 or getattr(error, "code", 0) in (401, 403, 404, 410):
                raise
            time.sleep(_WAIT_S * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _expanded(pattern: str) -> list[str]:
    from itertools import islice

    from musicgenre.errors import MissingExtraError

    if "{" not in pattern:
        return [pattern]
    too_many = UsageError(f"the pattern {pattern[:80]!r} names too many shards", valid=f"At most {_MOST_NAMES:,}")
    if any(abs(int(last) - int(first)) >= _MOST_NAMES for first, last in _RANGE.findall(pattern)):
        raise too_many
    if pattern.count("{") > _MOST_BRACES:
        raise UsageError(f"the pattern {pattern[:80]!r} has too many braces", valid=f"At most {_MOST_BRACES}")
    try:
        from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading shards", "stream") from error
    try:
        names = list(islice(braceexpand(pattern), _MOST_NAMES + 1))
    except UnbalancedBracesError as error:
        raise UsageError(f"the pattern {pattern!r} has a brace that does not close") from error
    if len(names) > _MOST_NAMES:
        raise too_many
    return names


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
