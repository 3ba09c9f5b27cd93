"""Embeddings of many tracks in one file: plain arrays and a line of JSON in an ``.npz``, nothing pickled; or Parquet.

The arrays of an ``.npz`` are stored uncompressed, so that the embeddings of a large library are mapped, not read.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import parsed_json, replacing, room_advice, sha256_of
from musicgenre.audio import printable
from musicgenre.errors import DataError, UsageError

FORMAT_VERSION = 1

What = Literal["embedding", "tags"]
Pool = Literal["mean", "max", "mean-max"]
Float16 = NDArray[np.float16]

_MAPPED = "embeddings"  # comes first in the file: its data then lie at a multiple of 64 bytes
_PARQUET = ".parquet"
_PARQUET_COLUMNS = ("path", "embedding", "size_bytes", "modified_ns", "sha256")
_CARD_KEY = b"musicgenre.card"
_DAMAGE = (ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """What embeddings were made with; only those made alike can be compared.

    Attributes
    ----------
    model : str
        Name of the embedding bundle, or of the representation: ``vggish`` or ``transformer``.
    model_sha256 : str
        Checksum on the bundle's card, or of the representation's weights.
    what : {"embedding", "tags"}
        The network's output: its penultimate layer, or tag probabilities.
    pool : {"mean", "max", "mean-max"}
        How the heard segments of a track become one vector; ``mean-max`` is both, one behind the other.
    coverage : str
        Seconds of each track that were heard, or ``full``.
    options : mapping
        The representation's other settings; empty for a bundle.
    location : mapping
        Where the representation's weights were found, as the options that name it; nothing that counts when settings
        are compared.
    """

    model: str
    model_sha256: str
    what: What
    pool: Pool
    coverage: str
    options: Mapping[str, Any] = field(default_factory=dict)
    location: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON; those of a bundle have no options."""
        return {name: value for name, value in asdict(self).items() if value != {}}


@dataclass(frozen=True, slots=True, eq=False)
class TrackEmbeddings:
    """Embeddings of tracks, in the order they were first embedded.

    Attributes
    ----------
    settings : EmbeddingSettings
        What they were made with.
    paths : sequence of str
        The files, as they were named.
    vectors : float16 ndarray, shape (n_tracks, width)
        One embedding a track; may be mapped from a file, read-only.
    size_bytes, modified_ns : int64 ndarray, shape (n_tracks,)
        Size and time of each file when it was heard.
    sha256 : uint8 ndarray, shape (n_tracks, 32)
        Checksum of each file's content.
    """

    settings: EmbeddingSettings
    paths: Sequence[str]
    vectors: Float16
    size_bytes: NDArray[np.int64]
    modified_ns: NDArray[np.int64]
    sha256: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.paths)


def check_output(path: Path) -> None:
    """Refuse a file name that embeddings cannot be written under.

    Raises
    ------
    UsageError
        When it ends neither in ``.npz`` nor in ``.parquet``, or in ``.parquet`` without pyarrow installed.
    """
    if path.suffix.lower() not in (".npz", _PARQUET):
        raise UsageError(f"{path} cannot hold embeddings", valid="A name that ends in .npz (or .parquet)")
    _check_pyarrow(path)


def write_embeddings(path: str | os.PathLike[str], tracks: TrackEmbeddings) -> None:
    """Write embeddings, atomically.

    Parameters
    ----------
    path : path
        The file; ends in ``.npz``, or in ``.parquet`` where pyarrow is installed.
    tracks : TrackEmbeddings
        The embeddings.

    Raises
    ------
    UsageError
        When the name ends in something else, or the file cannot be written.
    """
    target = Path(path)
    check_output(target)
    try:
        with replacing(target) as temporary:
            if target.suffix.lower() == _PARQUET:
                _write_parquet(temporary, tracks)
            else:
                _write_npz(temporary, tracks)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written ({error.strerror or error})",
            next_step=room_advice(error) or "Choose another file",
        ) from error


def read_embeddings(path: str | os.PathLike[str], *, mapped: bool = True) -> TrackEmbeddings:
    """Read a file of embeddings.

    Parameters
    ----------
    path : path
        The file; ends in ``.npz``, or in ``.parquet`` where pyarrow is installed.
    mapped : bool
        Map the embeddings from an ``.npz`` file instead of reading them; the file must then stay in place.

    Raises
    ------
    DataError
        When the file is missing, damaged, from a newer version or no file of embeddings.
    UsageError
        When it ends in ``.parquet`` and pyarrow is not installed.
    """
    source = Path(path)
    try:
        with source.open("rb") as stream:
            is_zip = zipfile.is_zipfile(stream)
        if source.suffix.lower() == _PARQUET:
            _check_pyarrow(source)
            tracks = _read_parquet(source)
        elif is_zip:
            tracks = _read_npz(source, mapped)
        else:  # NumPy would speak of pickles, and of a switch to allow them
            raise zipfile.BadZipFile("it is no whole .npz file")
    except FileNotFoundError:
        raise DataError(
            f"there is no file {source}", next_step="Make it with: musicgenre embed FOLDER --output FILE.npz"
        ) from None
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror or error})") from error
    except (*_DAMAGE, AttributeError, TypeError) as error:
        raise _not_ours(source, str(error)) from error
    _check(tracks, source)
    return tracks


def _check_pyarrow(path: Path) -> None:
    if path.suffix.lower() == _PARQUET and find_spec("pyarrow") is None:
        raise UsageError(
            f"{path} needs pyarrow, which is not installed",
            valid="A name that ends in .npz needs nothing more",
            next_step="Choose .npz, or install it with: pip install 'musicgenre[parquet]'",
        )


def _read_npz(path: Path, mapped: bool) -> TrackEmbeddings:
    with np.load(path, allow_pickle=False) as arrays:
        settings = _settings(bytes(arrays["card"]), path)
        joined = os.fsdecode(bytes(arrays["paths"]))
        vectors = _map(path) if mapped else None
        return TrackEmbeddings(
            settings,
            joined.split("\0") if joined else (),
            arrays[_MAPPED] if vectors is None else vectors,
            arrays["size_bytes"],
            arrays["modified_ns"],
            arrays["sha256"],
        )


def _read_parquet(path: Path) -> TrackEmbeddings:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        table = parquet.read_table(path, columns=[*_PARQUET_COLUMNS], memory_map=True)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    settings = _settings((table.schema.metadata or {})[_CARD_KEY], path)
    lists = table["embedding"].combine_chunks()
    flat = np.asarray(lists.flatten())
    if flat.dtype != np.float32 or (len(lists) and len(flat) % len(lists)) or lists.null_count:
        raise ValueError(f"{len(lists)} embeddings of different widths, or of another type than float32")
    with np.errstate(over="ignore"):  # what is beyond float16 becomes infinite, which is refused later by name
        vectors = flat.reshape(len(lists), -1).astype(np.float16)
    checksums = b"".join(bytes.fromhex(text) for text in table["sha256"].to_pylist())
    return TrackEmbeddings(
        settings,
        table["path"].to_pylist(),
        vectors,
        np.asarray(table["size_bytes"]),
        np.asarray(table["modified_ns"]),
        np.frombuffer(checksums, np.uint8).reshape(len(lists), -1),
    )


def _write_npz(path: Path, tracks: TrackEmbeddings) -> None:
    card = {"format_version": FORMAT_VERSION, **tracks.settings.as_dict()}
    arrays: dict[str, NDArray[np.generic]] = {
        _MAPPED: tracks.vectors,
        "card": _bytes(json.dumps(card).encode()),
        "paths": _bytes(b"\0".join(os.fsencode(name) for name in tracks.paths)),
        "size_bytes": tracks.size_bytes,
        "modified_ns": tracks.modified_ns,
        "sha256": tracks.sha256,
    }
    with path.open("wb") as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())


def _write_parquet(path: Path, tracks: TrackEmbeddings) -> None:
    """Write float32 lists, which every reader of Parquet knows; the settings stand in the schema's metadata."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    values = np.ascontiguousarray(tracks.vectors, np.float32)
    starts = np.arange(len(values) + 1, dtype=np.int32 if values.size < 1 << 31 else np.int64) * values.shape[1]
    lists = arrow.ListArray if starts.dtype == np.int32 else arrow.LargeListArray
    columns = {
        "path": [printable(name) for name in tracks.paths],
        "embedding": lists.from_arrays(starts, values.reshape(-1)),
        "size_bytes": tracks.size_bytes,
        "modified_ns": tracks.modified_ns,
        "sha256": [row.tobytes().hex() for row in tracks.sha256],
    }
    card = {"format_version": FORMAT_VERSION, **tracks.settings.as_dict()}
    table = arrow.table(columns).replace_schema_metadata({_CARD_KEY: json.dumps(card)})
    with path.open("wb") as stream:
        parquet.write_table(table, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _bytes(text: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(text, dtype=np.uint8)


def _map(path: Path) -> Float16 | None:
    """Map the embeddings from an uncompressed file; None where that cannot be done."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{_MAPPED}.npy")
    if entry.compress_type != zipfile.ZIP_STORED or not entry.file_size:
        return None
    with path.open("rb") as stream:
        stream.seek(entry.header_offset + 26)  # the lengths of name and extra field end the 30 bytes of the header
        name_length, extra_length = np.frombuffer(stream.read(4), dtype="<u2")
        start = entry.header_offset + 30 + int(name_length) + int(extra_length)
        stream.seek(start)
        if np.lib.format.read_magic(stream) != (1, 0):
            return None
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        data = stream.tell()
    expected = int(np.prod(shape)) * dtype.itemsize
    if dtype != np.float16 or is_fortran or data % 2 or not expected or data - start + expected != entry.file_size:
        return None
    return np.memmap(path, np.float16, "r", data, shape)


def _settings(text: bytes, path: Path) -> EmbeddingSettings:
    values: dict[str, Any] = parsed_json(text)
    version = values.pop("format_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"format_version={version!r}")
    if version > FORMAT_VERSION:
        raise DataError(
            f"{path} has embedding format {version}",
            valid=f"This version of musicgenre reads formats up to {FORMAT_VERSION}",
            next_step="Update it with: pip install --upgrade musicgenre",
        )
    choices = {name: dict(values.pop(name, {})) for name in ("options", "location")}
    named = {name: str(value) for name, value in values.items()}
    settings = EmbeddingSettings(**named, **choices)  # type: ignore[arg-type]
    if settings.what not in get_args(What) or settings.pool not in get_args(Pool):
        raise ValueError(f"what={settings.what!r}, pool={settings.pool!r}")
    return settings


def _check(tracks: TrackEmbeddings, path: Path) -> None:
    n = len(tracks)
    shapes = (tracks.size_bytes.shape, tracks.modified_ns.shape, tracks.sha256.shape)
    if tracks.vectors.ndim != 2 or tracks.vectors.dtype != np.float16 or not tracks.vectors.shape[1]:
        raise _not_ours(path, f"embeddings of type {tracks.vectors.dtype} and shape {tracks.vectors.shape}")
    if len(tracks.vectors) != n or shapes != ((n,), (n,), (n, 32)):
        raise _not_ours(path, f"{n} tracks, but {len(tracks.vectors)} embeddings and {shapes}")
    types = [str(array.dtype) for array in (tracks.size_bytes, tracks.modified_ns, tracks.sha256)]
    if types != ["int64", "int64", "uint8"]:
        raise _not_ours(path, f"sizes, times and checksums of the types {', '.join(types)}")


def _not_ours(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is damaged or no file of embeddings ({reason})",
        next_step="Make it anew with: musicgenre embed FOLDER --output FILE.npz",
    )


@dataclass(frozen=True, slots=True, eq=False)
class HeardTrack:
    """A track with its vector and what its file is recognised by."""

    path: str
    vector: Float16
    size_bytes: int
    modified_ns: int
    sha256: bytes


class Library:
    """The rows of a file in the making, found by path and by content."""

    def __init__(self, tracks: TrackEmbeddings) -> None:
        self.settings = tracks.settings
        whole = np.flatnonzero(np.isfinite(tracks.vectors).all(axis=1))  # the others are heard again
        self.changed = len(whole) < len(tracks)
        self._paths = [tracks.paths[row] for row in whole.tolist()]
        self._vectors: list[Float16] = list(tracks.vectors[whole])
        self._files = list(zip(tracks.size_bytes[whole].tolist(), tracks.modified_ns[whole].tolist(), strict=True))
        self._hashes = [row.tobytes() for row in tracks.sha256[whole]]
        self._by_path = {path: row for row, path in enumerate(self._paths)}
        self._by_hash = {digest: row for row, digest in enumerate(self._hashes)}
        self._sizes = {size for size, _ in self._files}

    def __len__(self) -> int:
        return len(self._paths)

    def knows(self, path: str) -> bool:
        """Tell whether this very content was heard; one that moved or was touched is put down as it is now."""
        try:
            status = Path(path).stat()
            now = (status.st_size, status.st_mtime_ns)
            row = self._by_path.get(path)
            if row is not None and self._files[row] == now:
                return True
            same = self._by_hash.get(bytes.fromhex(sha256_of(Path(path)))) if now[0] in self._sizes else None
        except OSError:
            return False
        if same is None:
            return False
        if row is None and not Path(self._paths[same]).exists():  # moved: its row goes with it
            self._by_path[path] = self._by_path.pop(self._paths[same])
            self._paths[same] = path
            self._files[same] = now
            self.changed = True
            return True
        self._put(path, self._vectors[same], now, self._hashes[same])
        return True

    def add(self, row: HeardTrack) -> None:
        """Put down a track; one of the same name is replaced.

        Raises
        ------
        DataError
            When its vector is of another width than those of the file.
        """
        if self._vectors and row.vector.shape != self._vectors[0].shape:
            raise DataError(
                f"the file holds embeddings of width {len(self._vectors[0])}, not {len(row.vector)}",
                next_step="It is damaged: make it anew with --overwrite, or choose another --output",
            )
        self._put(row.path, row.vector, (row.size_bytes, row.modified_ns), row.sha256)

    def tracks(self) -> TrackEmbeddings:
        """Everything put down so far."""
        files = np.array(self._files, dtype=np.int64).reshape(-1, 2)
        hashes = np.frombuffer(b"".join(self._hashes), dtype=np.uint8).reshape(-1, 32)
        vectors = np.stack(self._vectors)
        return TrackEmbeddings(
            self.settings, tuple(self._paths), vectors, files[:, 0].copy(), files[:, 1].copy(), hashes
        )

    def _put(self, path: str, vector: Float16, file: tuple[int, int], digest: bytes) -> None:
        row = self._by_path.setdefault(path, len(self._paths))
        if row == len(self._paths):
            self._paths.append(path)
            self._vectors.append(vector)
            self._files.append(file)
            self._hashes.append(digest)
        else:
            if self._by_hash.get(self._hashes[row]) == row:
                del self._by_hash[self._hashes[row]]
            self._vectors[row], self._files[row], self._hashes[row] = vector, file, digest
        self._by_hash.setdefault(digest, row)
        self._sizes.add(file[0])
        self.changed = True
