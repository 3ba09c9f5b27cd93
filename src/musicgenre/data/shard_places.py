"""Plumbing of shard sets: where their files are, on a disk or behind HTTP, and how their bytes are had.

webdataset opens addresses by running commands (``pipe:`` runs any, ``http:`` runs curl). Nothing is run here: a file
is opened, or an address is asked for by Python's own HTTP client, and every other kind of address is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from musicgenre._transfer import TooMuchError, opened, receive
from musicgenre.errors import DataError, UsageError

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
