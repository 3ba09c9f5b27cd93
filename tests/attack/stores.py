"""What we keep ourselves, features in stores, caches and shards; and archives of others."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from musicgenre._npz import check_npz, read_whole_npz
from musicgenre.data.archives import is_archive, unpack
from musicgenre.data.cache import RowCache
from musicgenre.data.shard_places import read_shard
from musicgenre.data.shards import open_shards
from musicgenre.data.store import Store, open_store
from tests.attack.base import BrokenPromiseError, Target
from tests.attack.models import BEFORE
from tests.attack.mutations import BINARY, JSON, TEXT
from tests.small_store import make_store

_KEY = "ab" + 62 * "0"
_MOST_BYTES, _MOST_FILES = 10_000_000, 100


def stores(folder: Path) -> list[Target]:
    """A store of today, one of an earlier version, a set of shards, an entry of a cache, and arrays."""
    make_store(folder / "store", n_tracks=3)
    found = []
    for name, place in (("store", folder / "store"), ("store before", BEFORE / "store")):
        # Where checksums stand, what is read is what was written.
        whole = _content_of(open_store(place)) if name == "store" else None
        for pattern, mutations in (("store.json", JSON), ("*.csv", TEXT), ("*.npy", BINARY)):
            found.append(Target.of_folder(place, pattern, mutations, _use_store(whole), name=f"{name} {pattern}"))

    for pattern, mutations in (("shards.json", JSON), ("*.csv", TEXT), ("*.tar", BINARY)):
        found.append(Target.of_folder(BEFORE / "shards", pattern, mutations, use_shards, name=f"shards {pattern}"))

    cache = RowCache(folder / "cache")
    starts_s, rows = np.arange(3) * 0.5, np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    cache.write(_KEY, starts_s, rows)
    file = cache.path_of(_KEY).relative_to(cache.folder).as_posix()
    found.append(Target("cache", {file: cache.path_of(_KEY).read_bytes()}, (file,), BINARY, _use_cache(rows)))

    stream = io.BytesIO()
    np.savez(stream, embedding=rows, warnings=np.array(["short"]))
    found.append(Target.of_file("arrays", stream.getvalue(), ".npz", BINARY, use_arrays))
    return found


def archives(folder: Path) -> list[Target]:
    """A data set as zip and tar, plain and compressed."""
    files = {"genres/rock/rock.00000.wav": b"a" * 5_000, "genres/pop/pop.00000.wav": b"", "README.md": b"hello"}
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        found.append(Target.of_file(f"zip {method}", stream.getvalue(), ".zip", BINARY, use_archive))

    for mode in ("", "gz", "bz2", "xz"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=f"w:{mode}") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        found.append(Target.of_file(f"tar {mode}", stream.getvalue(), ".tar", BINARY, use_archive))
    return found


def use_archive(path: Path) -> None:
    """Unpack an archive into a folder beside it.

    Raises
    ------
    BrokenPromiseError
        Something lies elsewhere, or is left over.
    """
    is_archive(path)
    try:
        unpack(path, path.parent / "out", max_bytes=_MOST_BYTES, max_files=_MOST_FILES)
    finally:
        left = {entry.name for entry in path.parent.iterdir()} - {path.name, "out"}
        if left:
            raise BrokenPromiseError(f"there is {sorted(left)}")


def use_shards(path: Path) -> None:
    """Read every part of a set of shards."""
    shards = open_shards(path.parent, cache=path.parent / "cache")
    for part in shards.parts:
        if part != "train":
            np.isfinite(shards.part(part).features[:]).all()
    for shard in shards.shards:
        read_shard(shards.shape, str(shards.dtype), str(path.parent / shard.file), shard)


def use_arrays(path: Path) -> None:
    """Read arrays that are made anew where they are damaged."""
    found = read_whole_npz(path)
    if found is None:
        return
    check_npz(path)
    if found.keys() != {"embedding", "warnings"}:
        raise BrokenPromiseError(f"the arrays are {sorted(found)}")


def _use_store(whole: tuple[object, ...] | None) -> Callable[[Path], None]:
    """Read all of a store, which gives `whole` or an error; anything finite where that is None."""

    def use(path: Path) -> None:
        found = _content_of(open_store(path.parent))
        if whole is not None and found != whole:
            raise BrokenPromiseError("damage was read as if it were whole")

    return use


def _use_cache(rows: np.ndarray) -> Callable[[Path], None]:
    """Read an entry, which is whole or none."""

    def use(path: Path) -> None:
        found = RowCache(path.parents[1]).read(_KEY)
        if found is not None and not np.array_equal(found[1], rows):
            raise BrokenPromiseError("damage was read as if it were whole")

    return use


def _content_of(store: Store) -> tuple[object, ...]:
    """All that a reader takes from a store."""
    rows = store.everything
    about = [rows.track_ids.tolist(), rows.starts_s.tolist(), rows.labels.tolist(), store.labels, store.parts]
    normalisation = None if store.normalisation is None else store.normalisation.as_dict()
    return (rows.features[:].tobytes(), *about, store.representation, normalisation)
