"""Embeddings of many tracks in one file: plain arrays and a line of JSON in an `.npz`, nothing pickled; or Parquet.

The arrays of an `.npz` are stored uncompressed, so that the embeddings of a large library are mapped, not read.
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

from musicgenre._files import replacing, writing_result
from musicgenre._install import install_advice
from musicgenre._json import check_version, parsed_json
from musicgenre._known_files import FileState, KnownFiles
from musicgenre._npz import ALWAYS_ALLOWED_BYTES, MOST_INFLATION, check_npz, read_npy_header
from musicgenre._text import did_you_mean_path, printable
from musicgenre.audio import Level
from musicgenre.errors import BundleError, DataError, UsageError

FORMAT_VERSION = 2
"""The newest format. Embeddings of tracks as loud as they are have the first, which knows no level."""

_VERSION_WITHOUT_LEVEL = 1

What = Literal["embedding", "tags"]
Pool = Literal["mean", "max", "mean-max"]
Float16 = NDArray[np.float16]

_MAPPED = "embeddings"  # comes first in the file: its data then lie at a multiple of 64 bytes
_ARRAYS = (_MAPPED, "card", "paths", "size_bytes", "modified_ns", "sha256")
_LOCAL_HEADER_BYTES = 30  # of an entry of a zip file, before its name and extra field
_LENGTHS_AT = 26  # where in that header the lengths of these two stand
_SHOWN_CHARACTERS = 300  # of what is wrong with a file
_PARQUET = ".parquet"
_PARQUET_COLUMNS = ("path", "embedding", "size_bytes", "modified_ns", "sha256")
_CARD_KEY = b"musicgenre.card"
_REMEDY = "Make it anew with: musicgenre embed FOLDER --output FILE.npz"


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """What embeddings were made with; only those made alike can be compared.

    Attributes
    ----------
    model : str
        Name of the embedding bundle, or of the representation: `vggish` or `transformer`.
    model_sha256 : str
        Checksum on the bundle's card, or of the representation's weights.
    what : {"embedding", "tags"}
        The network's output: its penultimate layer, or tag probabilities.
    pool : {"mean", "max", "mean-max"}
        How the heard segments of a track become one vector; `mean-max` is both, one behind the other.
    coverage : str
        Seconds of each track that were heard, or `full`.
    options : mapping
        The representation's other settings; empty for a bundle.
    location : mapping
        Where the representation's weights were found, as the options that name it; nothing that counts when settings
        are compared.
    level : Level, optional
        What tracks were brought to; None where they were heard as loud as they are.
    """

    model: str
    model_sha256: str
    what: What
    pool: Pool
    coverage: str
    options: Mapping[str, Any] = field(default_factory=dict)
    location: Mapping[str, Any] = field(default_factory=dict, compare=False)
    level: Level | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON; those of a bundle have no options, and what has no level names none."""
        return {name: value for name, value in asdict(self).items() if value not in ({}, None)}


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


def empty_embeddings(settings: EmbeddingSettings) -> TrackEmbeddings:
    """Make what a file holds before its first track."""
    none = np.zeros(0, dtype=np.int64)
    no_vectors, no_hashes = np.zeros((0, 1), dtype=np.float16), np.zeros((0, 32), dtype=np.uint8)
    return TrackEmbeddings(settings, (), no_vectors, none, none, no_hashes)


def check_output(path: Path) -> None:
    """Refuse a file name that embeddings cannot be written under.

    Raises
    ------
    UsageError
        When it ends neither in `.npz` nor in `.parquet`, or in `.parquet` without pyarrow installed.
    """
    if path.suffix.lower() not in (".npz", _PARQUET):
        raise UsageError(f"{path} cannot hold embeddings", valid="A name that ends in .npz (or .parquet)")
    _check_pyarrow(path)


def write_embeddings(path: str | os.PathLike[str], tracks: TrackEmbeddings) -> None:
    """Write embeddings, atomically.

    Parameters
    ----------
    path : path
        The file; ends in `.npz`, or in `.parquet` where pyarrow is installed.
    tracks : TrackEmbeddings
        The embeddings.

    Raises
    ------
    UsageError
        When the name ends in something else, or the file cannot be written.
    """
    target = Path(path)
    check_output(target)
    with writing_result(target, "Choose another file"), replacing(target) as temporary:
        if target.suffix.lower() == _PARQUET:
            _write_parquet(temporary, tracks)
        else:
            _write_npz(temporary, tracks)


def read_embeddings(path: str | os.PathLike[str], *, mapped: bool = True) -> TrackEmbeddings:
    """Read a file of embeddings.

    Parameters
    ----------
    path : path
        The file; ends in `.npz`, or in `.parquet` where pyarrow is installed. Or a folder of partitions, as
        `embed --ray` writes them.
    mapped : bool
        Map the embeddings from an `.npz` file instead of reading them; the file must then stay in place.

    Raises
    ------
    DataError
        When the file is missing, damaged, from a newer version or no file of embeddings.
    UsageError
        When it ends in `.parquet` and pyarrow is not installed.
    """
    source = Path(path)
    if source.is_dir():
        return _read_partitions(source)
    try:
        if source.suffix.lower() == _PARQUET:
            source.open("rb").close()  # a file that is missing says so first
            _check_pyarrow(source)
            tracks = _read_parquet(source)
        else:
            tracks = _read_npz(source, mapped)
    except FileNotFoundError:
        raise DataError(f"there is no file {source}", next_step=f"{did_you_mean_path(source)}{_REMEDY}") from None
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:  # damaged bytes
        reason = printable(str(error))[:_SHOWN_CHARACTERS]
        raise DataError(f"{source} is damaged or no file of embeddings ({reason})", next_step=_REMEDY) from error
    return tracks


@dataclass(frozen=True, slots=True, eq=False)
class HeardTrack:
    """A track with its vector and what its file is recognised by.

    Attributes
    ----------
    path : str
        The file, as it was named.
    vector : float16 ndarray, shape (width,)
        Its embedding.
    state : FileState
        Size and time of the file when it was heard.
    sha256 : str
        Hex checksum of its content.
    """

    path: str
    vector: Float16
    state: FileState
    sha256: str


class Library:
    """The rows of a file in the making, found by path and by content.

    Parameters
    ----------
    tracks : TrackEmbeddings
        What the file holds already. Rows that are not made of finite numbers are left out: they are heard again.

    Attributes
    ----------
    settings : EmbeddingSettings
        What the embeddings are made with.
    changed : bool
        Whether it holds something else than the file.
    """

    def __init__(self, tracks: TrackEmbeddings) -> None:
        self.settings = tracks.settings
        self._rows: list[HeardTrack] = []
        self._row_of: dict[str, int] = {}
        self._known: KnownFiles[int] = KnownFiles()  # by path and content, with their row

        is_whole: list[bool] = np.isfinite(tracks.vectors).all(axis=1).tolist()  # type: ignore[assignment]
        sizes, times = tracks.size_bytes.tolist(), tracks.modified_ns.tolist()
        for row, path in enumerate(tracks.paths):
            if is_whole[row]:
                state = FileState(sizes[row], times[row])
                self._put(HeardTrack(path, tracks.vectors[row], state, tracks.sha256[row].tobytes().hex()))
        self.changed = not all(is_whole)

    def __len__(self) -> int:
        return len(self._rows)

    def knows(self, path: str) -> bool:
        """Tell whether this very content was heard; one that moved or was touched is put down as it is now."""
        known = self._known.find(path)
        if known is None:
            return False
        if known.is_unchanged:
            return True

        heard = HeardTrack(path, self._rows[known.value].vector, known.state, known.sha256)
        if path not in self._row_of and not Path(known.name).exists():  # moved: its row goes with it
            self._known.forget(known.name)
            self._row_of[path] = self._row_of.pop(known.name)
        self._put(heard)
        return True

    def add(self, track: HeardTrack) -> None:
        """Put down a track; one of the same name is replaced.

        Raises
        ------
        DataError
            When its vector is of another width than those of the file.
        """
        if self._rows and track.vector.shape != self._rows[0].vector.shape:
            raise DataError(
                f"the file holds embeddings of width {len(self._rows[0].vector)}, not {len(track.vector)}",
                next_step="It is damaged: make it anew with --overwrite, or choose another --output",
            )
        self._put(track)

    def tracks(self) -> TrackEmbeddings:
        """Everything put down so far."""
        hashes = bytes.fromhex("".join(track.sha256 for track in self._rows))
        return TrackEmbeddings(
            self.settings,
            tuple(track.path for track in self._rows),
            np.stack([track.vector for track in self._rows]),
            np.array([track.state.size_bytes for track in self._rows], dtype=np.int64),
            np.array([track.state.modified_ns for track in self._rows], dtype=np.int64),
            np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 32),
        )

    def _put(self, track: HeardTrack) -> None:
        """Write a track into its row, or into a new one at the end."""
        row = self._row_of.setdefault(track.path, len(self._rows))
        if row == len(self._rows):
            self._rows.append(track)
        else:
            self._rows[row] = track
        self._known.remember(track.path, track.state, track.sha256, row)
        self.changed = True


def _check_pyarrow(path: Path) -> None:
    """Refuse a Parquet file where nothing can read or write it."""
    if path.suffix.lower() == _PARQUET and find_spec("pyarrow") is None:
        raise UsageError(
            f"{path} needs pyarrow, which is not installed",
            valid="A name that ends in .npz needs nothing more",
            next_step=f"Choose .npz, or: {install_advice('parquet')}",
        )


def _write_npz(path: Path, tracks: TrackEmbeddings) -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        _MAPPED: tracks.vectors,
        "card": np.frombuffer(_card_of(tracks.settings).encode(), dtype=np.uint8),
        "paths": np.frombuffer(b"\0".join(os.fsencode(name) for name in tracks.paths), dtype=np.uint8),
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


def _read_npz(path: Path, mapped: bool) -> TrackEmbeddings:
    """Read an `.npz` file; whatever is wrong with its bytes is one of the errors `read_embeddings` knows."""
    check_npz(path)
    with zipfile.ZipFile(path) as archive:
        starts = _starts_of_arrays(archive)

    with np.load(path, allow_pickle=False) as arrays:
        settings = _settings_from(bytes(arrays["card"]), path)
        joined = os.fsdecode(bytes(arrays["paths"]))
        start = starts[_MAPPED] if mapped else None
        tracks = TrackEmbeddings(
            settings,
            joined.split("\0") if joined else (),
            arrays[_MAPPED] if start is None else np.memmap(path, np.float16, "r", *start),
            arrays["size_bytes"],
            arrays["modified_ns"],
            arrays["sha256"],
        )
    _check_agreement(tracks)
    return tracks


def _starts_of_arrays(archive: zipfile.ZipFile) -> dict[str, tuple[int, tuple[int, ...]] | None]:
    """Say where in the file the values of each array begin, with their shape.

    None stands for an array that cannot be mapped: it is compressed, empty, or not of float16 in rows.

    Raises
    ------
    ValueError
        An array is missing.
    """
    found: dict[str, tuple[int, tuple[int, ...]] | None] = {}
    names = set(archive.namelist())
    for name in _ARRAYS:
        if f"{name}.npy" not in names:
            raise ValueError(f"it holds no array {name!r}")
        entry = archive.getinfo(f"{name}.npy")
        with archive.open(entry) as stream:
            header = read_npy_header(stream)

        # The header of the entry in front of the array is as long as name and extra field make it.
        assert archive.fp is not None
        archive.fp.seek(entry.header_offset + _LENGTHS_AT)
        name_length, extra_length = np.frombuffer(archive.fp.read(4), dtype="<u2").tolist()
        start = entry.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length + header.n_header_bytes
        is_plain = entry.compress_type == zipfile.ZIP_STORED and not header.is_fortran and start % 2 == 0
        can_be_mapped = is_plain and header.dtype == np.float16 and header.n_bytes > header.n_header_bytes
        found[name] = (start, header.shape) if can_be_mapped else None
    return found


def _write_parquet(path: Path, tracks: TrackEmbeddings) -> None:
    """Write float32 lists, which every reader of Parquet knows; the settings stand in the schema's metadata."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    values = np.ascontiguousarray(tracks.vectors, np.float32)

    # Lists with 32-bit places reach to two thousand million values; more need the wide kind.
    is_wide = values.size >= 1 << 31
    lists = arrow.LargeListArray if is_wide else arrow.ListArray
    starts = np.arange(len(values) + 1, dtype=np.int64 if is_wide else np.int32) * values.shape[1]
    columns = {
        "path": [printable(name) for name in tracks.paths],
        "embedding": lists.from_arrays(starts, values.reshape(-1)),
        "size_bytes": tracks.size_bytes,
        "modified_ns": tracks.modified_ns,
        "sha256": [row.tobytes().hex() for row in tracks.sha256],
    }

    table = arrow.table(columns).replace_schema_metadata({_CARD_KEY: _card_of(tracks.settings)})
    with path.open("wb") as stream:
        parquet.write_table(table, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _read_parquet(path: Path) -> TrackEmbeddings:
    """Read a Parquet file; what is wrong with it is a ValueError."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        _check_parquet_size(path, parquet.read_metadata(path))
        table = parquet.read_table(path, columns=[*_PARQUET_COLUMNS], memory_map=True)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(str(error).splitlines()[0]) from error

    # Columns that are missing are left out without a word, and those of other types would fail in many ways.
    card = (table.schema.metadata or {}).get(_CARD_KEY)
    if card is None or set(table.column_names) != set(_PARQUET_COLUMNS):
        raise ValueError(f"it has the columns {', '.join(table.column_names) or 'of none'} and no card of ours")
    settings = _settings_from(card, path)
    types = arrow.types
    for name in ("path", "sha256"):
        if (
            not (types.is_string(table[name].type) or types.is_large_string(table[name].type))
            or table[name].null_count
        ):
            raise ValueError(f"the column {name} is not text")
    for name in ("size_bytes", "modified_ns"):
        if table[name].null_count:
            raise ValueError(f"the column {name} has gaps")

    column = table["embedding"]
    is_list = types.is_list(column.type) or types.is_large_list(column.type)
    if not is_list or column.type.value_type != arrow.float32() or column.null_count:
        raise ValueError(f"{len(column)} embeddings of different widths, or of another type than float32")
    n = len(column)
    flat = np.asarray(column.combine_chunks().flatten())
    if n and len(flat) % n:
        raise ValueError(f"{n} embeddings of different widths, or of another type than float32")
    with np.errstate(over="ignore"):  # what is beyond float16 becomes infinite, which is refused later by name
        vectors = flat.reshape(n, -1).astype(np.float16)

    checksums = bytes.fromhex("".join(table["sha256"].to_pylist()))
    tracks = TrackEmbeddings(
        settings,
        table["path"].to_pylist(),
        vectors,
        np.asarray(table["size_bytes"]),
        np.asarray(table["modified_ns"]),
        np.frombuffer(checksums, np.uint8).reshape(n, -1),
    )
    _check_agreement(tracks)
    return tracks


def _read_partitions(folder: Path) -> TrackEmbeddings:
    """Read the partitions of a folder as one file."""
    paths = sorted(folder.glob(f"part-*{_PARQUET}"))
    if not paths:
        raise DataError(f"the folder {folder} holds no partitions of embeddings", next_step=_REMEDY)
    parts = [read_embeddings(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.settings != parts[0].settings or part.vectors.shape[1:] != parts[0].vectors.shape[1:]:
            raise DataError(f"{path} was made with other settings than {paths[0].name} beside it", next_step=_REMEDY)

    return TrackEmbeddings(
        parts[0].settings,
        tuple(name for part in parts for name in part.paths),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.size_bytes for part in parts]),
        np.concatenate([part.modified_ns for part in parts]),
        np.concatenate([part.sha256 for part in parts]),
    )


def _check_parquet_size(path: Path, metadata: Any) -> None:
    """Refuse a file that unpacks to much more than its size, with a ValueError.

    What it says of single columns is left alone: pyarrow ends the whole process where that is damaged.
    """
    n_bytes = metadata.num_rows * len(_PARQUET_COLUMNS)
    for group in range(metadata.num_row_groups):
        n_bytes += metadata.row_group(group).total_byte_size
    if n_bytes > MOST_INFLATION * path.stat().st_size + ALWAYS_ALLOWED_BYTES:
        raise ValueError(f"its {path.stat().st_size:,} bytes would become {n_bytes:,}")


def _card_of(settings: EmbeddingSettings) -> str:
    """Write settings as the line of JSON that stands in a file."""
    version = FORMAT_VERSION if settings.level else _VERSION_WITHOUT_LEVEL
    return json.dumps({"format_version": version, **settings.as_dict()})


def _settings_from(card: bytes, path: Path) -> EmbeddingSettings:
    """Read settings from a file's line of JSON; damaged ones are a ValueError."""
    values = parsed_json(card)
    if not isinstance(values, dict):
        raise ValueError("its card is no JSON object")
    values = dict(check_version(values, FORMAT_VERSION, str(path), kind="embedding", error=DataError, remedy=_REMEDY))
    del values["format_version"]

    for name in ("options", "location", "level"):
        if not isinstance(values.setdefault(name, {}), dict):
            raise ValueError(f"{name}={values[name]!r}")
    if values.keys() != set(EmbeddingSettings.__dataclass_fields__):
        raise ValueError(f"its card holds {', '.join(values)}")

    given: dict[str, Any] = {}
    for name, value in values.items():
        given[name] = value if isinstance(value, dict) else str(value)
    try:
        given["level"] = Level.from_values(values["level"], "its card") if values["level"] else None
    except BundleError as error:
        raise ValueError(error.problem) from error
    settings = EmbeddingSettings(**given)
    if settings.what not in get_args(What) or settings.pool not in get_args(Pool):
        raise ValueError(f"what={settings.what!r}, pool={settings.pool!r}")
    return settings


def _check_agreement(tracks: TrackEmbeddings) -> None:
    """Refuse arrays of other types or lengths than tracks have, with a ValueError."""
    n = len(tracks)
    if tracks.vectors.ndim != 2 or tracks.vectors.dtype != np.float16 or not tracks.vectors.shape[1]:
        raise ValueError(f"embeddings of type {tracks.vectors.dtype} and shape {tracks.vectors.shape}")

    shapes = (tracks.size_bytes.shape, tracks.modified_ns.shape, tracks.sha256.shape)
    if len(tracks.vectors) != n or shapes != ((n,), (n,), (n, 32)):
        raise ValueError(f"{n} tracks, but {len(tracks.vectors)} embeddings and {shapes}")

    types = [str(array.dtype) for array in (tracks.size_bytes, tracks.modified_ns, tracks.sha256)]
    if types != ["int64", "int64", "uint8"]:
        raise ValueError(f"sizes, times and checksums of the types {', '.join(types)}")
