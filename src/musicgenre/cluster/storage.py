"""Places that all nodes reach: a shared folder, or a prefix of an object store (`s3://bucket/music/`).

Stores are asked through pyarrow (S3, Google Cloud Storage, Azure), others through fsspec. A store that is busy or out
of reach for a while is asked again, and that is told.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from musicgenre._files import write_bytes_atomic, writing_result
from musicgenre._known_files import FileState
from musicgenre._telling import tell
from musicgenre._text import printable
from musicgenre.audio import is_in_walk
from musicgenre.cluster.connect import EXTRA
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import AudioError, DataError, UsageError, needing
from musicgenre.listening.batch import Failure
from musicgenre.listening.paths import Gathered, gather_paths

ASKED_AGAIN_S = (1, 2, 4, 8, 15, 30, 60, 60, 60, 60, 60, 60, 60, 60)
"""Seconds to wait before a store that is busy is asked again: nine minutes in all."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")  # letters of drives on Windows are one alone
_NO_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/*")  # a scheme, and nothing behind it
_FILE = "file"
_NO_STORES = ("http", "https", "memory", "data")  # that fsspec knows, and that take or keep no files for all nodes
# How stores, and the libraries that speak to them, say that it may be otherwise in a moment.
_BUSY = re.compile(
    r"\b(?:429|500|502|503|504)\b|SLOW_?DOWN|SlowDown|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|THROTTL"
    r"|NETWORK_CONNECTION|curlCode|[Tt]imed? ?out|UNAVAILABLE|Connection (?:reset|refused|aborted)"
)
_FORBIDDEN = re.compile(r"\b(?:401|403)\b|ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|SIGNATURE|PERMISSION_DENIED")
_NO_CREDENTIALS = "Give this machine and every node the right to it, such as AWS_ACCESS_KEY_ID or a role"
_PIECE_BYTES = 1 << 20
_SHOWN_CHARACTERS = 300

Result = TypeVar("Result")


def is_object(address: str) -> bool:
    """Tell an address in a store (`s3://bucket/key`) from the path of a file."""
    found = _ADDRESS.match(address)
    return found is not None and "://" in address and found[1].lower() != _FILE


def as_address(path: str | Path) -> str:
    """Write an output as it was given, for `Path` folds the slashes of `s3://bucket`; `file://` becomes a path.

    Raises
    ------
    UsageError
        It names a kind of store and nothing in it.
    """
    if _NO_PLACE.fullmatch(os.fspath(path)):
        raise UsageError(
            f"{printable(path)} names no place in a store",
            valid="s3://BUCKET/PREFIX, or the path of a folder",
            next_step="Add the bucket, or write a folder of that name as ./NAME/",
        )
    text = _ADDRESS.sub(lambda found: f"{found[1]}://", os.fspath(path), count=1)
    if text.lower().startswith(f"{_FILE}://"):
        return url2pathname(urlparse(f"{_FILE}:///{text[len(_FILE) + 3 :].lstrip('/')}").path)
    return text if "://" in text else os.fspath(path)


def gather_tracks(arguments: Sequence[str], exclude: Sequence[str], *, stdin: BinaryIO) -> Gathered:
    """Find the tracks that arguments name: what `gather_paths` knows, manifests (`.csv`), and prefixes of stores.

    Parameters
    ----------
    arguments, exclude, stdin
        As `gather_paths` takes them. An address that ends in `/`, or that a store knows as a folder, is a prefix.

    Returns
    -------
    Gathered
        Every track once, in the order they were named.

    Raises
    ------
    UsageError
        When nothing was named, or a store does not let this machine look.
    DataError
        When a manifest cannot be read.
    """
    paths: dict[str, None] = {}
    failures: list[Failure] = []
    folders: list[str] = []
    for argument in arguments:
        address = as_address(argument) if "://" in argument else argument
        if is_object(address):
            found = _tracks_below(address, exclude)
            if not found:
                failures.append(Failure(address, f"{address}: no audio files under this address."))
            paths.update(dict.fromkeys(found))
        elif address.lower().endswith(".csv"):
            paths.update(dict.fromkeys(str(track.path) for track in read_manifest(address).tracks))
        else:
            gathered = gather_paths([address], exclude, stdin=stdin)
            paths.update(dict.fromkeys(gathered.paths))
            failures += gathered.failures
            folders += gathered.folders
    if not arguments:
        return gather_paths([], exclude, stdin=stdin)  # which says what is missing
    return Gathered(tuple(paths), tuple(failures), tuple(folders))


@dataclass(frozen=True, slots=True)
class LocalTrack:
    """A track as a file of this machine, for as long as it is heard.

    Attributes
    ----------
    path : str
        The file.
    state : FileState or None
        Its size and time, those of the object where it is one; None where there is no such file.
    """

    path: str
    state: FileState | None


@contextmanager
def as_local(address: str) -> Iterator[LocalTrack]:
    """Give a track as a file: itself, or a copy of an object that goes with the block.

    An object is fetched whole: what a row is recognised by later is the checksum of all its sound.

    Raises
    ------
    AudioError
        When the object is not there, or the store does not give it.
    """
    if not is_object(address):
        state = None
        with suppress(OSError, ValueError):  # whoever hears it says what is wrong
            state = FileState.of(address)
        yield LocalTrack(address, state)
        return

    with tempfile.TemporaryDirectory(prefix="musicgenre-") as folder:
        copy = Path(folder) / PurePosixPath(address).name[-_SHOWN_CHARACTERS // 2 :]
        try:
            state = asking(address, lambda: _fetch(address, copy))
        except FileNotFoundError:
            raise AudioError(f"{address} does not exist") from None
        except (UsageError, DataError) as error:
            raise AudioError(error.problem, valid=error.valid, next_step=error.next_step) from error
        yield LocalTrack(str(copy), state)


class Place:
    """A folder or prefix in which a command keeps files of its own, each whole or not there.

    Parameters
    ----------
    address : str
        A path, or an address of a store.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/") or address
        self.folder = None if is_object(address) else Path(address)

    def names(self) -> list[str]:
        """Names of the files directly in it, sorted; of folders too, with a slash behind."""
        if self.folder is not None:
            with writing_result(self.folder):
                if not self.folder.exists():
                    return []
                return sorted(f"{path.name}/" if path.is_dir() else path.name for path in self.folder.iterdir())

        from pyarrow.fs import FileSelector, FileType

        files, inner = _filesystem(self.address)
        selector = FileSelector(inner, allow_not_found=True)
        found = asking(self.address, lambda: files.get_file_info(selector))
        if not found:
            _refuse_missing_bucket(self.address)
        return sorted(f"{info.base_name}/" if info.type == FileType.Directory else info.base_name for info in found)

    def read(self, name: str) -> bytes:
        """Read a file; raises FileNotFoundError."""
        if self.folder is not None:
            return (self.folder / name).read_bytes()
        files, inner = _filesystem(self.address)

        def read() -> bytes:
            with files.open_input_stream(f"{inner}/{name}") as stream:
                return bytes(stream.read())

        return asking(self.address, read)

    def write(self, name: str, content: bytes) -> None:
        """Write a file; whoever reads meanwhile finds the old one, or none."""
        if self.folder is not None:
            with writing_result(self.folder):
                write_bytes_atomic(self.folder / name, content)
            return
        files, inner = _filesystem(self.address)

        def write() -> None:
            with files.open_output_stream(f"{inner}/{name}") as stream:  # which is there when it is closed
                stream.write(content)

        asking(self.address, write)

    def has(self, name: str) -> bool:
        """Tell whether there is a file of a name."""
        if self.folder is not None:
            return (self.folder / name).is_file()
        from pyarrow.fs import FileType

        files, inner = _filesystem(self.address)
        (info,) = asking(self.address, lambda: files.get_file_info([f"{inner}/{name}"]))
        return bool(info.type == FileType.File)

    def times_s(self) -> dict[str, float]:
        """Names of the objects directly in a prefix, and when each was written, by the clock of the store."""
        from pyarrow.fs import FileSelector

        files, inner = _filesystem(self.address)
        selector = FileSelector(inner, allow_not_found=True)
        found = asking(self.address, lambda: files.get_file_info(selector))
        return {info.base_name: (info.mtime_ns or 0) / 1e9 for info in found}

    def remove(self, name: str, *, waits_s: Sequence[float] = ASKED_AGAIN_S) -> None:
        """Delete a file; a store that is busy is asked again after so many seconds each."""
        if self.folder is not None:
            with writing_result(self.folder):
                (self.folder / name).unlink(missing_ok=True)
            return
        files, inner = _filesystem(self.address)
        with suppress(FileNotFoundError):
            asking(self.address, lambda: files.delete_file(f"{inner}/{name}"), waits_s=waits_s)


def asking(address: str, ask: Callable[[], Result], *, waits_s: Sequence[float] = ASKED_AGAIN_S) -> Result:
    """Ask a store, and again where it is busy or out of reach; the first time is told.

    Parameters
    ----------
    address : str
        What is asked for, for messages.
    ask : callable
        Asks once; may be called again.
    waits_s : sequence of float
        Seconds before each time it is asked again.

    Raises
    ------
    FileNotFoundError
        It is not there.
    UsageError
        The store does not allow it, or says something else.
    DataError
        It is still busy.
    """
    for wait_s in (*waits_s, None):
        try:
            return ask()
        except FileNotFoundError:
            raise
        except ValueError as error:  # of pyarrow, for an address such as s3://bucket//name
            raise UsageError(f"{address} cannot be used ({error})", next_step="Check the address") from error
        except OSError as error:
            reason = " ".join(str(error).split())[:_SHOWN_CHARACTERS]
            if isinstance(error, PermissionError) or _FORBIDDEN.search(reason):
                raise UsageError(f"no permission for {address} ({reason})", next_step=_NO_CREDENTIALS) from error
            if not _BUSY.search(reason):
                raise UsageError(f"{address} cannot be used ({reason})", next_step="Check the address") from error
            if wait_s is None:
                raise DataError(
                    f"{address} gave no answer for {sum(waits_s):.0f} s ({reason})",
                    next_step="Run the same command again with --resume when the store answers",
                ) from error
            if wait_s == waits_s[0]:
                tell(f"{address} is busy ({reason}): asked again for up to {sum(waits_s):.0f} s")
            time.sleep(wait_s)
    raise AssertionError  # the last turn returns or raises


def _tracks_below(address: str, exclude: Sequence[str]) -> list[str]:
    """List the tracks of a prefix, by name; an object itself is one, whatever it is called."""
    from pyarrow.fs import FileSelector, FileType

    files, inner = _filesystem(address)
    if not address.endswith("/"):
        (info,) = asking(address, lambda: files.get_file_info([inner]))
        if info.type != FileType.Directory:  # one that is not there fails when it is heard
            return [address]

    inner = inner.rstrip("/")
    selector = FileSelector(inner, recursive=True, allow_not_found=True)
    found = asking(address, lambda: files.get_file_info(selector))
    if not found:
        _refuse_missing_bucket(address)
    root = PurePosixPath(f"/{inner}")
    names = []
    for info in found:
        if info.type == FileType.File and is_in_walk(PurePosixPath(f"/{info.path}"), root, exclude):
            names.append(info.path)
    head = address[: len(address.rstrip("/")) - len(inner)]  # scheme, and what the file system leaves out of paths
    return [f"{head}{name}" for name in sorted(names)]


def _refuse_missing_bucket(address: str) -> None:
    """Tell a bucket that is not there from an empty prefix, where the store lets us look."""
    from pyarrow.fs import FileType

    files, inner = _filesystem(address)
    bucket = inner.partition("/")[0]
    try:
        (info,) = asking(address, lambda: files.get_file_info([bucket]))
    except UsageError:  # who may not look finds out when reading or writing
        return
    if info.type == FileType.NotFound:
        raise UsageError(
            f"{printable(address)} is in no bucket that is there: the store has no {printable(bucket)}",
            next_step="Check the name; buckets are not made by musicgenre",
        )


def _fetch(address: str, copy: Path) -> FileState:
    """Copy an object into a file, piece by piece; its size and time."""
    files, inner = _filesystem(address)
    (info,) = files.get_file_info([inner])
    with files.open_input_stream(inner) as source, copy.open("wb") as target:
        while piece := source.read(_PIECE_BYTES):
            target.write(piece)
    return FileState(int(info.size or 0), int(info.mtime_ns or 0))


def _filesystem(address: str) -> tuple[Any, str]:
    """Find who speaks to the store of an address, and what it is called there."""
    with needing("object storage", EXTRA):
        from pyarrow import fs

    scheme, _, inner = address.partition("://")
    if scheme == "s3":
        return asking(address, lambda: _s3(inner.partition("/")[0])), inner
    known = asking(address, lambda: _by_pyarrow(address))
    if known is not None:
        return known
    with needing(f"the store {scheme}", EXTRA):
        import fsspec

    if scheme.lower() in _NO_STORES:
        raise UsageError(
            f"{printable(address)} is in no store that keeps files for all nodes",
            valid="A path, s3://, gs://, abfs://, or what an installed fsspec knows",
            next_step="Download it into a folder or a store",
        )
    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme))), inner
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{printable(address)} is in no store that is known ({error})",
            valid="A path, s3://, gs://, abfs://, or what an installed fsspec knows",
        ) from error


def _by_pyarrow(address: str) -> tuple[Any, str] | None:
    """Who speaks to the store by pyarrow alone, and the name there; None for a store that it does not know."""
    from pyarrow import ArrowInvalid, fs

    try:
        files, inner = fs.FileSystem.from_uri(address)
    except ArrowInvalid:
        return None
    return files, inner


@lru_cache(maxsize=16)
def _s3(bucket: str) -> Any:
    """Speak to S3, or to what answers like it at AWS_ENDPOINT_URL; it is asked once, for we ask again ourselves."""
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        allow_bucket_creation=False,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
