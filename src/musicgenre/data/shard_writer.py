"""Write a store as shards: tar archives that are read from front to back, from a disk or from object storage."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre import __version__
from musicgenre._files import parsed_json, remove_stale, replacing, sha256_of, write_text_atomic, writing_to
from musicgenre._locks import LOCK_NAME, folder_lock
from musicgenre.data._csv import format_rows
from musicgenre.data.manifest import Manifest, Track, write_manifest
from musicgenre.data.shard_places import SHARDS_FILE, Shard
from musicgenre.data.store import STORE_FILE, Store
from musicgenre.errors import DataError, MissingExtraError, UsageError

FORMAT_VERSION = 1
INDEX_FILE, MANIFEST_FILE = "index.csv", "manifest.csv"
_TEMPORARY = (f".{SHARDS_FILE}.*.tmp", f".{INDEX_FILE}.*.tmp", f".{MANIFEST_FILE}.*.tmp", ".*-??????.tar.*.tmp")
_TAR_BLOCK = 512
_JSON_BYTES = 2 * _TAR_BLOCK

_UNFINISHED = ".unfinished"
_LARGEST_MB = 1_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Clip:
    """A track's lines of the store's index, and its first row in the store's part and in the shards' part."""

    lines: list[list[str]]
    stored_row: int
    row: int

    @property
    def track_id(self) -> str:
        return self.lines[0][2]


def write_shards(
    store: Store,
    manifest: Manifest | None,
    folder: Path,
    *,
    shard_mb: float = 64.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Shard, ...]:
    """Write the rows of a store as shards, with an index of counts and checksums.

    Tracks are written in a random order, so that what is read together is mixed. The index is written last: a folder
    without it is unfinished, and the same call goes over it again.

    Parameters
    ----------
    store : Store
        With a train, a validation and a test part.
    manifest : Manifest or None
        Its tracks; without one they are listed as the store knows them (no groups, no protocol).
    folder : Path
        Where to; new, empty or unfinished.
    shard_mb : float
        Size of a shard in MiB, unless a single track is larger.
    seed : int
        Of the order of the tracks.
    progress : callable, optional
        Takes (rows written, all rows).

    Raises
    ------
    UsageError
        The folder holds something, or the size is not positive.
    DataError
        The store has no split; the disk is full.
    """
    if not 0 < shard_mb <= _LARGEST_MB:
        raise UsageError(f"--shard-mb {shard_mb} is no size", valid=f"above 0, up to {_LARGEST_MB:,}")
    if set(store.parts) != {"train", "validation", "test"}:
        raise DataError(
            f"the store has the parts {', '.join(store.parts) or '(none)'}",
            valid="train, validation and test, each with a track at least",
            next_step="Split the manifest (musicgenre data split) and prepare again",
        )
    with writing_to(folder):
        _check_free(folder)
        with folder_lock(folder, "'musicgenre shard'"):
            (folder / _UNFINISHED).touch()
            remove_stale(folder, _TEMPORARY)
            writing = _Writing(store, folder, round(shard_mb * 2**20), seed, progress or (lambda done, total: None))
            written = writing.run(manifest)
            (folder / _UNFINISHED).unlink()
            return written


def _check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but an unfinished set of ours."""
    if (folder / SHARDS_FILE).exists():
        raise UsageError(f"{folder} holds shards already", next_step="Give another --output, or delete it first")
    if not folder.is_dir() or (folder / _UNFINISHED).is_file():
        return
    if held := sorted(path.name for path in folder.iterdir() if path.name != LOCK_NAME):
        raise UsageError(
            f"{folder} is not empty: it holds {held[0]}",
            valid="A folder that is new, empty, or was left unfinished by 'musicgenre shard'",
            next_step="Give another --output",
        )


class _Writing:
    """One set of shards under way."""

    def __init__(self, store: Store, folder: Path, shard_bytes: int, seed: int, progress: Progress) -> None:
        self.store, self.folder, self.shard_bytes = store, folder, shard_bytes
        self.rng = np.random.default_rng(seed)
        self.description = parsed_json((store.folder / STORE_FILE).read_text(encoding="utf-8"))
        self.total = sum(part["rows"] for part in self.description["parts"].values())
        self.progress, self.done = progress, 0

    def run(self, manifest: Manifest | None) -> tuple[Shard, ...]:
        """Write everything."""
        header, clips = self._clips()
        shards = [
            self._write(f"{part}-{number:06}.tar", part, members)
            for part in clips
            for number, members in enumerate(self._dealt(clips[part]))
        ]
        lines = [line for members in clips.values() for clip in members for line in clip.lines]
        write_text_atomic(self.folder / INDEX_FILE, format_rows([header, *lines]))
        write_manifest(manifest or _listed(header, lines, self.folder), self.folder / MANIFEST_FILE)
        parts = {name: part["rows"] for name, part in self.description.pop("parts").items()}
        whole = {
            **self.description,
            "format_version": FORMAT_VERSION,
            "made_by": f"musicgenre {__version__}",
            "index": INDEX_FILE,
            "index_sha256": sha256_of(self.folder / INDEX_FILE),
            "manifest": MANIFEST_FILE,
            "manifest_sha256": sha256_of(self.folder / MANIFEST_FILE),
            "parts": parts,
            "shards": [asdict(shard) for shard in shards],
        }
        write_text_atomic(self.folder / SHARDS_FILE, json.dumps(whole, indent=1) + "\n")
        return tuple(shards)

    def _clips(self) -> tuple[list[str], dict[str, list[_Clip]]]:
        """Read the store's index; each part's tracks in a random order, their rows numbered anew."""
        path = self.store.folder / self.description["index"]
        with path.open(encoding="utf-8", newline="") as stream:
            header, *lines = csv.reader(stream)
        by_track: dict[str, dict[str, list[list[str]]]] = {}
        for line in lines:
            by_track.setdefault(line[0], {}).setdefault(line[2], []).append(line)
        clips: dict[str, list[_Clip]] = {}
        for part, tracks in by_track.items():
            names, row, clips[part] = list(tracks), 0, []
            for number in self.rng.permutation(len(names)):
                own = tracks[names[number]]
                renumbered = [[line[0], str(row + n), *line[2:]] for n, line in enumerate(own)]
                clips[part].append(_Clip(renumbered, int(own[0][1]), row))
                row += len(own)
        return header, clips

    def _dealt(self, clips: list[_Clip]) -> Iterator[list[_Clip]]:
        """Deal tracks to shards of about the wanted size."""
        row_bytes = int(np.prod(self.store.shape)) * self.store.dtype.itemsize
        members: list[_Clip] = []
        size = 0
        for clip in clips:
            own = len(clip.lines) * row_bytes + _JSON_BYTES + 2 * _TAR_BLOCK
            if members and size + own > self.shard_bytes:
                yield members
                members, size = [], 0
            members.append(clip)
            size += own
        yield members

    def _write(self, file: str, part: str, clips: list[_Clip]) -> Shard:
        try:
            from webdataset import TarWriter
        except ModuleNotFoundError as error:
            raise MissingExtraError("writing shards", "stream") from error
        features = np.load(
            self.store.folder / self.description["parts"][part]["file"], mmap_mode="r", allow_pickle=False
        )
        path = self.folder / file
        with replacing(path) as temporary:
            with temporary.open("wb") as stream, TarWriter(stream, encoder=False, mtime=0) as tar:
                for clip in clips:
                    rows = features[clip.stored_row : clip.stored_row + len(clip.lines)]
                    about = json.dumps({"track_id": clip.track_id, "row": clip.row})
                    tar.write({"__key__": f"{clip.row:09}", "npy": _npy(rows), "json": about.encode()})
                    self.done += len(rows)
                self.progress(self.done, self.total)
            n_bytes, sha256 = temporary.stat().st_size, sha256_of(temporary)
        n_rows = sum(len(clip.lines) for clip in clips)
        return Shard(file, part, clips[0].row, n_rows, len(clips), n_bytes, sha256)


def _npy(rows: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(rows), allow_pickle=False)
    return stream.getvalue()


def _listed(header: list[str], lines: list[list[str]], folder: Path) -> Manifest:
    """List the tracks of a store whose manifest is not at hand; they have no file but the shards."""
    tracks: dict[str, Track] = {}
    for line in lines:
        cells = dict(zip(header, line, strict=True))
        tracks.setdefault(
            cells["track_id"],
            Track(
                cells["track_id"],
                folder / SHARDS_FILE,
                cells["label"],
                labels=tuple(name for name in cells["labels"].split(";") if name),
                split=cells["split"],
                fold=int(cells["fold"]) if cells["fold"] else None,
                augmented=cells["augmented"] == "true",
                source_id=cells["source_id"],
            ),
        )
    return Manifest(None, tuple(tracks.values()))


def digest_of(content: bytes) -> str:
    """Name the local copy of a set by its index."""
    return hashlib.sha256(content).hexdigest()[:20]
